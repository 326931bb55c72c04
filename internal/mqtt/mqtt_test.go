package mqtt

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func hexed(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Bytes worked out by hand from the tables of the standard.
func TestPacketsHaveTheBytesOfTheStandard(t *testing.T) {
	for name, c := range map[string]struct {
		got  []byte
		want string
	}{
		"connect, 3.1":     {AppendConnect(nil, "front", 30), "10 11 0004 4d515454 04 02 001e 0005 66726f6e74"},
		"connack, 3.2":     {AppendConnAck(nil, NotAuthorized), "20 02 00 05"},
		"publish, 3.3":     {AppendPublish(nil, "v1/a/up", []byte("hi")), "30 0b 0007 76312f612f7570 6869"},
		"puback, 3.4":      {AppendPubAck(nil, 258), "40 02 0102"},
		"subscribe, 3.8":   {AppendSubscribe(nil, 10, "a/b"), "82 08 000a 0003 612f62 00"},
		"suback, 3.9":      {AppendSubAck(nil, 10, Refused), "90 03 000a 80"},
		"pingresp, 3.13":   {AppendPingResp(nil), "d0 00"},
		"two length bytes": {AppendPublish(nil, "t", make([]byte, 125))[:6], "30 8001 0001 74"}, // 2.2.3: 128 is 80 01
	} {
		if want := hexed(t, c.want); !bytes.Equal(c.got, want) {
			t.Errorf("%s: % x, want % x", name, c.got, want)
		}
	}
}

func TestReaderGivesBackWhatWasWrittenHoweverItArrives(t *testing.T) {
	large := make([]byte, 200<<10)
	packets := [][]byte{
		AppendConnect(nil, "front", 30), AppendSubscribe(nil, 1, "v1/front/down"), AppendPublish(nil, "v1/front/up", large),
		AppendPingResp(nil), AppendPublish(nil, "v1/front/up", nil), {0xe0, 0},
	}
	stream := slices.Concat(packets...)
	for name, src := range map[string]io.Reader{
		"at once": bytes.NewReader(stream), "byte by byte": iotest.OneByteReader(bytes.NewReader(stream)), "halves": iotest.HalfReader(bytes.NewReader(stream)),
	} {
		r := NewReader(src, 256<<10)
		for i, want := range packets {
			if err := r.Wait(); err != nil {
				t.Fatal(err)
			}
			p, err := r.Next()
			if err != nil || !bytes.Equal(p.Raw, want) || p.Type != want[0]>>4 {
				t.Fatalf("%s: packet %d: %d bytes, %v", name, i, len(p.Raw), err)
			}
		}
		if _, err := r.Next(); err != io.EOF {
			t.Errorf("%s: at the end: %v", name, err)
		}
		if cap(r.buf) > keepBuf {
			t.Errorf("%s: %d bytes are kept", name, cap(r.buf))
		}
	}
}

func TestFieldsComeBack(t *testing.T) {
	c, err := ParseConnect(AppendConnect(nil, "front", 30)[2:])
	if err != nil || c != (Connect{Level: 4, Clean: true, KeepAlive: 30, ClientID: "front"}) {
		t.Errorf("%+v, %v", c, err)
	}
	// will with message, user and password, 3.1.3
	c, err = ParseConnect(hexed(t, "0004 4d515454 04 c6 003c 0001 61 0001 74 0001 6d 0001 75 0002 7077"))
	if err != nil || !c.Will || !c.Clean || c.ClientID != "a" {
		t.Errorf("%+v, %v", c, err)
	}
	m, err := ParsePublish(Packet{Type: PUBLISH, Flags: 0x0b, Body: hexed(t, "0001 74 0102 6869")})
	if err != nil || m.Topic != "t" || m.QoS != 1 || !m.Dup || !m.Retain || m.ID != 0x102 || string(m.Payload) != "hi" {
		t.Errorf("%+v, %v", m, err)
	}
	s, err := ParseSubscribe(AppendSubscribe(nil, 7, "a/b")[2:])
	if err != nil || s != (Subscribe{ID: 7, Filter: "a/b"}) {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestEverythingElseIsRefused(t *testing.T) {
	for in, want := range map[string]error{
		"30 ff ff ff 7f":    ErrTooLong,
		"30 ff ff ff ff 01": ErrMalformed,
		"36 00":             ErrMalformed, // quality of service 3
		"00 00":             ErrMalformed,
		"f0 00":             ErrMalformed,
		"80 00":             ErrMalformed, // 3.8.1 demands flags 2
		"11 00":             ErrMalformed,
		"c1 00":             ErrMalformed,
		"30":                io.ErrUnexpectedEOF,
		"30 80":             io.ErrUnexpectedEOF,
		"30 05 00 01":       io.ErrUnexpectedEOF,
		"":                  io.EOF,
	} {
		if _, err := NewReader(bytes.NewReader(hexed(t, in)), 1000).Next(); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", in, err, want)
		}
	}
	for _, in := range []string{
		"", "0004 4d515454", "0004 4d515454 04 02 003c", "0004 4d515454 04 02 003c 0002 61", "0004 4d515454 04 03 003c 0001 61",
		"0004 4d515454 04 02 003c 0001 61 00", "0004 4d515454 04 0a 003c 0001 61", "0004 4d515454 04 22 003c 0001 61",
		"0004 4d515454 04 06 003c 0001 61", "0004 4d515454 04 82 003c 0001 61", "0006 4d5149736470 03 02 003c 0001 61",
		"0004 4d515454 04 02 003c 0001 00", "0004 4d515454 04 02 003c 0001 ff", "ffff 4d515454",
	} {
		if c, err := ParseConnect(hexed(t, in)); err == nil {
			t.Errorf("connect %s: %+v", in, c)
		}
	}
	for _, in := range []string{"", "00", "0000", "0002 61", "0001 ff", "0001 00"} {
		if m, err := ParsePublish(Packet{Type: PUBLISH, Body: hexed(t, in)}); err == nil {
			t.Errorf("publish %s: %+v", in, m)
		}
	}
	if _, err := ParsePublish(Packet{Type: PUBLISH, Flags: 2, Body: hexed(t, "0001 74 0000")}); err == nil {
		t.Error("packet id 0")
	}
	for _, in := range []string{"", "0001", "0001 0001 61", "0000 0001 61 00", "0001 0001 61 03", "0001 0001 61 00 0001 62 00"} {
		if s, err := ParseSubscribe(hexed(t, in)); err == nil {
			t.Errorf("subscribe %s: %+v", in, s)
		}
	}
}

// FuzzReader holds the reader to its promise on any bytes: no more memory than eight times what arrived and a fixed rest.
func FuzzReader(f *testing.F) {
	f.Add([]byte{0x30, 0xff, 0xff, 0xff, 0x7f})
	f.Add(AppendConnect(nil, "front", 30))
	f.Add(slices.Concat(AppendPublish(nil, "v1/a/up", []byte("x")), AppendSubscribe(nil, 1, "#"), AppendPingResp(nil)))
	f.Add(hexed(f, "0004 4d515454 04 c6 003c 0001 61 0001 74 0001 6d 0001 75 0002 7077"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r := NewReader(bytes.NewReader(data), 256<<10)
		n := 0
		for {
			p, err := r.Next()
			if err != nil {
				break
			}
			n += len(p.Raw)
			switch p.Type {
			case CONNECT:
				ParseConnect(p.Body)
			case PUBLISH:
				if m, err := ParsePublish(p); err == nil && m.QoS == 0 && !m.Retain && !m.Dup {
					// A shorter way to write the length may exist; nothing else may differ.
					if again := AppendPublish(nil, m.Topic, m.Payload); !bytes.HasSuffix(p.Raw, again[len(again)-len(p.Body):]) {
						t.Fatalf("% x came back as % x", p.Raw, again)
					}
				}
			case SUBSCRIBE:
				ParseSubscribe(p.Body)
			case CONNACK:
				ParseConnAck(p.Body)
			}
		}
		runtime.ReadMemStats(&after)
		if n > len(data) {
			t.Fatalf("%d bytes out of %d", n, len(data))
		}
		if got, limit := after.TotalAlloc-before.TotalAlloc, uint64(64*len(data)+1<<20); got > limit {
			t.Fatalf("%d bytes allocated for %d", got, len(data))
		}
	})
}
