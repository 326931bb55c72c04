package chip

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kith/internal/card"
)

// host is the smallest driver: it opens the terminal and speaks frames.
type host struct {
	t    testing.TB
	f    *os.File
	rest []byte
}

var wakeUp = []byte{0x55, 0x55, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00}

func openHost(t testing.TB, path string) *host {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, f: os.NewFile(uintptr(fd), path)}
	t.Cleanup(func() { h.f.Close() })
	return h
}

func (h *host) write(b []byte) {
	h.t.Helper()
	if _, err := h.f.Write(b); err != nil {
		h.t.Fatal(err)
	}
}

// read takes exactly the bytes wanted, or fails.
func (h *host) read(want []byte) {
	h.t.Helper()
	got := h.take(len(want), 2*time.Second)
	if !bytes.Equal(got, want) {
		h.t.Fatalf("the chip sent %x, want %x", got, want)
	}
}

// take reads n bytes, fewer when they do not come in time.
func (h *host) take(n int, d time.Duration) []byte {
	h.t.Helper()
	h.f.SetReadDeadline(time.Now().Add(d))
	buf := make([]byte, n)
	got, err := io.ReadFull(h.f, buf)
	if err != nil && !os.IsTimeout(err) {
		h.t.Fatal(err)
	}
	return buf[:got]
}

func (h *host) quiet(d time.Duration) {
	h.t.Helper()
	if got := h.take(1, d); len(got) != 0 {
		h.t.Fatalf("the chip sent %x into the silence", got)
	}
}

func (h *host) command(data ...byte) {
	h.t.Helper()
	h.write(appendFrame(nil, append([]byte{hostToChip}, data...)))
}

// ask sends a command and wants ACK and this reply.
func (h *host) ask(command, reply []byte) {
	h.t.Helper()
	h.command(command...)
	h.read(ackFrame)
	h.reply(command[0], reply)
}

func (h *host) reply(code byte, data []byte) {
	h.t.Helper()
	h.read(appendFrame(nil, append([]byte{chipToHost, code + 1}, data...)))
}

func wakened(t testing.TB, c *Chip) *host {
	t.Helper()
	h := openHost(t, c.Path())
	h.write(wakeUp)
	h.ask([]byte{cmdSAMConfiguration, 0x01, 0x14, 0x01}, nil)
	return h
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The published frames, both ways.
func TestTheChipReadsAndWritesThePublishedFrames(t *testing.T) {
	text, err := os.ReadFile("testdata/pn532_frames.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Frames []struct{ Name, Data, Frame string }
		Reject []struct{ Name, Frame string }
		Ext    struct{ Data, Frame string } `json:"extended_example"`
		ACK    string
		NACK   string
		Error  string
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	v.Frames = append(v.Frames, struct{ Name, Data, Frame string }{"extended", v.Ext.Data, v.Ext.Frame})
	for _, f := range v.Frames {
		data, frame := unhex(t, f.Data), unhex(t, f.Frame)
		if got := appendFrame(nil, data); !bytes.Equal(got, frame) {
			t.Errorf("%s: wrote %x, want %x", f.Name, got, frame)
		}
		if data[0] != hostToChip {
			continue
		}
		if got := scanAll(frame); len(got) != 1 || !bytes.Equal(got[0].data, data[1:]) {
			t.Errorf("%s: read %v", f.Name, got)
		}
	}
	for _, r := range v.Reject {
		if got := scanAll(unhex(t, r.Frame)); len(got) != 0 {
			t.Errorf("%s: read %v", r.Name, got)
		}
	}
	for name, pair := range map[string]struct {
		text string
		want []byte
	}{"ack": {v.ACK, ackFrame}, "nack": {v.NACK, nackFrame}, "error": {v.Error, errorFrame}} {
		if got := unhex(t, pair.text); !bytes.Equal(got, pair.want) {
			t.Errorf("%s: %x, want %x", name, pair.want, got)
		}
	}
}

func scanAll(b []byte) (all []heard) {
	var s scanner
	for _, c := range b {
		if h, ok := s.feed(c); ok {
			all = append(all, h)
		}
	}
	return all
}

// The scanner survives anything, holds no more than one frame, and reads the frame that follows.
func FuzzScanner(f *testing.F) {
	f.Add([]byte{0x55, 0x55, 0, 0, 0, 0xFF, 2, 0xFE, 0xD4, 2, 0x2A, 0})
	f.Add([]byte{0, 0, 0xFF, 0xFF, 0xFF, 1, 7, 0xF8, 0xD4})
	f.Add([]byte{0, 0xFF, 0, 0xFF, 0, 0xFF, 0xFF, 0})
	probe := appendFrame(nil, []byte{hostToChip, cmdGetFirmware})
	f.Fuzz(func(t *testing.T, noise []byte) {
		var s scanner
		for _, b := range noise {
			s.feed(b)
			if len(s.buf) > extendedMax+frameOverhead {
				t.Fatalf("%d bytes held", len(s.buf))
			}
		}
		for range extendedMax + frameOverhead { // an unfinished frame ends at last
			s.feed(0x00)
		}
		read := false
		for _, b := range probe {
			if h, ok := s.feed(b); ok && h.kind == inputCommand && bytes.Equal(h.data, []byte{cmdGetFirmware}) {
				read = true
			}
		}
		if !read {
			t.Fatalf("after %x the next frame was not read", noise)
		}
	})
}

func TestEveryCommandOfTheManualIsAnswered(t *testing.T) {
	c, field := openChip(t, Options{})
	h := wakened(t, c)
	k := newPKOCCard(t)
	listed := append([]byte{0x01, 0x01, k.ATQA[0], k.ATQA[1], k.SAK, 0x07}, append(bytes.Clone(k.UID), k.ATS...)...)
	for _, step := range []struct {
		name    string
		command string
		reply   string // hex; "error" for the error frame
		before  func()
	}{
		{name: "echo", command: "0000AABBCC", reply: "00AABBCC"},
		{name: "antenna", command: "000720", reply: "00"},
		{name: "presence without target", command: "0006", reply: "27"},
		{name: "firmware", command: "02", reply: "32010607"},
		{name: "parameters", command: "1214", reply: ""},
		{name: "write registers", command: "08630280630380", reply: ""},
		{name: "read registers", command: "0663026303630D", reply: "808000"},
		{name: "radio on", command: "320101", reply: ""},
		{name: "timings", command: "3202000B0A", reply: ""},
		{name: "retries", command: "3205000001", reply: ""},
		{name: "empty field", command: "4A0100", reply: "00"},
		{name: "FeliCa", command: "4A010100FFFF0100", reply: "00"},
		{name: "type B", command: "4A010300", reply: "00"},
		{name: "Jewel", command: "4A0104", reply: "00"},
		{name: "list", command: "4A0100", reply: hex.EncodeToString(listed), before: func() { field.Place(k) }},
		{name: "list by UID", command: "4A010088" + hex.EncodeToString(k.UID), reply: hex.EncodeToString(listed)},
		{name: "list another UID", command: "4A01008804112233445566", reply: "00"},
		{name: "list again", command: "4A0200", reply: hex.EncodeToString(listed)},
		{name: "status", command: "04", reply: "00010101000000" + "80"},
		{name: "presence", command: "0006", reply: "00"},
		{name: "PSL", command: "4E010202", reply: "00"},
		{name: "select", command: "5401", reply: "00"},
		{name: "PKOC select", command: "400100A4040008A00000089800000100", reply: "005C0201009000"},
		{name: "raw presence", command: "42B2", reply: "00A2"},
		{name: "no such target", command: "400200A4", reply: "27"},
		{name: "deselect", command: "4401", reply: "00"},
		{name: "release", command: "5201", reply: "00"},
		{name: "release again", command: "5201", reply: "27"},
		{name: "autopoll", command: "60010120", reply: "01" + "20" + hex.EncodeToString([]byte{byte(len(listed) - 1)}) + hex.EncodeToString(listed[1:])},
		{name: "radio off forgets", command: "320100", reply: ""},
		{name: "nothing activated", command: "40010000", reply: "27"},
		{name: "unknown command", command: "8C", reply: "error"},
		{name: "no parameters", command: "4A", reply: "error"},
		{name: "power down", command: "1620", reply: "00"},
	} {
		if step.before != nil {
			step.before()
		}
		command := unhex(t, step.command)
		h.command(command...)
		h.read(ackFrame)
		if step.reply == "error" {
			h.read(errorFrame)
		} else {
			h.reply(command[0], unhex(t, step.reply))
		}
		if t.Failed() {
			t.Fatalf("at %s", step.name)
		}
	}
	h.command(cmdGetFirmware)
	h.quiet(20 * time.Millisecond) // it sleeps
	h.write(wakeUp)
	h.ask([]byte{cmdGetFirmware}, []byte{0x32, 0x01, 0x06, 0x07})
}

func TestAStandingListWaitsForACardAndAnACKEndsIt(t *testing.T) {
	c, field := openChip(t, Options{})
	h := wakened(t, c)
	h.command(cmdInList, 0x01, 0x00) // retries are endless at power-on
	h.read(ackFrame)
	h.quiet(50 * time.Millisecond)
	h.write(ackFrame)
	h.quiet(20 * time.Millisecond)
	h.command(cmdInList, 0x01, 0x00)
	h.read(ackFrame)
	k, err := NewUID(unhex(t, "11223344"))
	if err != nil {
		t.Fatal(err)
	}
	if err := field.Place(k); err != nil {
		t.Fatal(err)
	}
	h.reply(cmdInList, unhex(t, "010100040804"+"11223344"))
}

func TestTwoCardsAreListedTogetherWhenAskedForTwo(t *testing.T) {
	c, field := openChip(t, Options{})
	h := wakened(t, c)
	for _, uid := range []string{"11223344", "04112233445566", "0411223344556677889A"} {
		k, err := NewUID(unhex(t, uid))
		if err != nil {
			t.Fatal(err)
		}
		field.Place(k)
	}
	h.ask([]byte{cmdInList, 0x02, 0x00}, unhex(t, "02"+"01000408"+"0411223344"+"02004400"+"0704112233445566"))
	h.ask([]byte{cmdInList, 0x01, 0x00}, unhex(t, "01"+"01000408"+"0411223344"))
}

func TestANACKBringsTheLastReplyAgain(t *testing.T) {
	c, _ := openChip(t, Options{})
	h := wakened(t, c)
	h.ask([]byte{cmdGetFirmware}, unhex(t, "32010607"))
	h.write(nackFrame)
	h.reply(cmdGetFirmware, unhex(t, "32010607"))
}

// echoCard answers every APDU with itself, twice.
func echoCard(t testing.TB) *Card {
	k := newPKOCCard(t)
	k.Answer = func(apdu []byte) []byte { return append(bytes.Clone(apdu), apdu...) }
	return k
}

func TestLongAPDUsAreChainedBothWays(t *testing.T) {
	c, field := openChip(t, Options{})
	h := wakened(t, c)
	field.Place(echoCard(t))
	h.command(cmdInList, 0x01, 0x00)
	h.take(6+8+22, 100*time.Millisecond) // whatever it lists
	h.take(1000, 20*time.Millisecond)
	part := bytes.Repeat([]byte{0xA5}, 200)
	h.ask(append([]byte{cmdInDataExchange, 0x01 | statusMore}, part...), []byte{statusOK})
	h.command(append([]byte{cmdInDataExchange, 0x01}, part...)...)
	h.read(ackFrame)
	first := bytes.Repeat([]byte{0xA5}, maxReplyData)
	h.reply(cmdInDataExchange, append([]byte{statusMore}, first...))
	h.ask([]byte{cmdInDataExchange, 0x01}, append([]byte{statusMore}, first...))
	h.ask([]byte{cmdInDataExchange, 0x01}, append([]byte{statusMore}, first...))
	h.ask([]byte{cmdInDataExchange, 0x01}, append([]byte{statusOK}, bytes.Repeat([]byte{0xA5}, 800-3*maxReplyData)...))
	for range maxChained/200 + 1 {
		h.command(append([]byte{cmdInDataExchange, 0x01 | statusMore}, part...)...)
		h.take(6+10, 100*time.Millisecond)
	}
	// the last of them passed the bound and was refused
	h.ask([]byte{cmdInDataExchange, 0x01 | statusMore, 0x00}, []byte{statusOK})
}

func TestASlowCardTakesItsTimeAndALeavingCardAnswersNothing(t *testing.T) {
	c, field := openChip(t, Options{})
	h := wakened(t, c)
	slow := echoCard(t)
	slow.Delay = 60 * time.Millisecond
	field.Place(slow)
	list := func() {
		h.command(cmdInList, 0x01, 0x00)
		h.take(1000, 30*time.Millisecond)
	}
	list()
	start := time.Now()
	h.ask([]byte{cmdInDataExchange, 0x01, 0x42}, []byte{statusOK, 0x42, 0x42})
	if took := time.Since(start); took < slow.Delay {
		t.Errorf("answered after %v", took)
	}
	// lifted while it thinks
	h.command(cmdInDataExchange, 0x01, 0x42)
	h.read(ackFrame)
	field.Lift(slow)
	h.reply(cmdInDataExchange, []byte{statusTimeout})
	// back in the field, but not activated again
	field.Place(slow)
	h.ask([]byte{cmdInDataExchange, 0x01, 0x42}, []byte{statusTimeout})
	field.Clear()
	leaver := echoCard(t)
	leaver.LeaveAfter = 2
	field.Place(leaver)
	list()
	h.ask([]byte{cmdInDataExchange, 0x01, 0x42}, []byte{statusOK, 0x42, 0x42})
	h.ask([]byte{cmdInDataExchange, 0x01, 0x42}, []byte{statusTimeout})
	h.ask([]byte{cmdInDataExchange, 0x01, 0x42}, []byte{statusTimeout})
}

func TestARateTheHostDoesNotFollowSilencesTheLine(t *testing.T) {
	c, _ := openChip(t, Options{})
	h := wakened(t, c)
	h.ask([]byte{cmdSetBaudRate, 0x07}, nil) // 921600
	h.write(ackFrame)
	time.Sleep(10 * time.Millisecond)
	h.command(cmdGetFirmware)
	h.quiet(20 * time.Millisecond)
	setSpeed(t, h.f, unix.B921600)
	h.ask([]byte{cmdGetFirmware}, unhex(t, "32010607"))
}

func setSpeed(t *testing.T, f *os.File, flag uint32) {
	t.Helper()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		var term *unix.Termios
		if term, set = unix.IoctlGetTermios(int(fd), unix.TCGETS); set == nil {
			term.Cflag = term.Cflag&^unix.CBAUD | flag
			set = unix.IoctlSetTermios(int(fd), unix.TCSETS, term)
		}
	})
	if err != nil || set != nil {
		t.Fatal(err, set)
	}
}

func TestEveryFaultLooksAsItsNameSaysAndPasses(t *testing.T) {
	reply := appendFrame(nil, unhex(t, "D50332010607"))
	badLCS, badDCS := bytes.Clone(reply), bytes.Clone(reply)
	badLCS[4] ^= 0x55
	badDCS[len(badDCS)-2] ^= 0x55
	long := append(unhex(t, "D50332010607"), make([]byte, longReply-6)...)
	for _, f := range []struct {
		fault Fault
		want  []byte
	}{
		{FaultTrickle, append(bytes.Clone(ackFrame), reply...)},
		{FaultNoACK, reply},
		{FaultNACK, nackFrame},
		{FaultBadLCS, append(bytes.Clone(ackFrame), badLCS...)},
		{FaultBadDCS, append(bytes.Clone(ackFrame), badDCS...)},
		{FaultError, append(bytes.Clone(ackFrame), errorFrame...)},
		{FaultWrongCode, append(bytes.Clone(ackFrame), appendFrame(nil, unhex(t, "D50532010607"))...)},
		{FaultLong, append(bytes.Clone(ackFrame), appendFrame(nil, long)...)},
		{FaultSilence, nil},
	} {
		t.Run(string(f.fault), func(t *testing.T) {
			c, _ := openChip(t, Options{})
			h := wakened(t, c)
			if err := c.Inject(f.fault, 1); err != nil {
				t.Fatal(err)
			}
			h.command(cmdGetFirmware)
			h.read(f.want)
			h.quiet(10 * time.Millisecond)
			h.ask([]byte{cmdGetFirmware}, unhex(t, "32010607"))
		})
	}
	t.Run("garbage", func(t *testing.T) {
		c, _ := openChip(t, Options{Seed: 7})
		h := wakened(t, c)
		c.Inject(FaultGarbage, 1)
		h.command(cmdGetFirmware)
		if got := h.take(garbageBytes, time.Second); len(got) != garbageBytes || bytes.HasPrefix(got, ackFrame) {
			t.Fatalf("garbage %x", got)
		}
		h.read(append(bytes.Clone(ackFrame), reply...))
	})
	t.Run("late", func(t *testing.T) {
		c, _ := openChip(t, Options{})
		h := wakened(t, c)
		c.Inject(FaultLate, 1)
		h.command(cmdGetFirmware)
		h.read(ackFrame)
		h.quiet(30 * time.Millisecond)
		h.write(ackFrame) // the host gives up
		h.read(reply)
	})
	t.Run("hang-up", func(t *testing.T) {
		link := filepath.Join(t.TempDir(), "reader")
		c, _ := openChip(t, Options{Link: link, ReturnAfter: 30 * time.Millisecond})
		h := wakened(t, c)
		c.Inject(FaultHangUp, 1)
		h.command(cmdGetFirmware)
		h.f.SetReadDeadline(time.Now().Add(time.Second))
		if n, err := h.f.Read(make([]byte, 1)); n != 0 || err == nil || os.IsTimeout(err) {
			t.Fatalf("read %d, %v from a line that hung up", n, err)
		}
		for c.Path() == "" {
			time.Sleep(5 * time.Millisecond)
		}
		again := openHost(t, link)
		again.write(wakeUp)
		again.ask([]byte{cmdGetFirmware}, unhex(t, "32010607"))
	})
	t.Run("unknown", func(t *testing.T) {
		c, _ := openChip(t, Options{})
		if err := c.Inject("smoke", 1); err == nil {
			t.Error("an unknown fault was taken")
		}
	})
}

func TestTheCommandsMakeCardsAndHoldThem(t *testing.T) {
	dir := t.TempDir()
	file, tty := filepath.Join(dir, "card.pem"), filepath.Join(dir, "reader")
	var made, shown bytes.Buffer
	if code := CardCommand(t.Context(), []string{"new", file}, nil, &made, io.Discard); code != exitOK {
		t.Fatalf("card new: exit %d", code)
	}
	if code := CardCommand(t.Context(), []string{"show", file}, nil, &shown, io.Discard); code != exitOK || shown.String() != made.String() {
		t.Fatalf("card show: exit %d, %q, made %q", code, shown.String(), made.String())
	}
	if _, err := card.ParseID(strings.TrimSpace(made.String())); err != nil {
		t.Error(err)
	}
	if code := CardCommand(t.Context(), []string{"new", file}, nil, io.Discard, io.Discard); code != exitFailed {
		t.Errorf("a card file was overwritten: exit %d", code)
	}
	script := "place\nlift\ntap uid:11223344 5\nfault silence 2\nfault smoke\njuggle\nquit\n"
	var out bytes.Buffer
	code := ReaderCommand(t.Context(), []string{"--tty", tty, "--card", file}, strings.NewReader(script), &out, io.Discard)
	if code != exitOK {
		t.Fatalf("reader: exit %d", code)
	}
	for _, want := range []string{`{"link":`, "placed 1\nlifted 0\nplaced 1\nlifted 0\nfault-silence 2\n", `injecting fault \"smoke\"`, `unknown command \"juggle\"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if _, err := os.Lstat(tty); err == nil {
		t.Error("the link to the terminal was left behind")
	}
	for _, args := range [][]string{{}, {"--tty", tty, "extra"}} {
		if code := ReaderCommand(t.Context(), args, strings.NewReader(""), io.Discard, io.Discard); code != exitUsage {
			t.Errorf("%v: exit %d", args, code)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if code := ReaderCommand(ctx, []string{"--tty", tty, "--json"}, strings.NewReader(""), io.Discard, io.Discard); code != exitOK {
		t.Errorf("a cancelled reader: exit %d", code)
	}
}
