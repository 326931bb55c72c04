package chip

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kith/edge/reader"
	"kith/edge/reader/pn532"
	"kith/internal/card"
)

// rawLine is the floor: a blocking descriptor, one write, reads until ACK and reply are in. It
// checks nothing and recovers from nothing.
type rawLine struct {
	fd  int
	buf [512]byte
}

func openRaw(path string) (*rawLine, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	return &rawLine{fd: fd}, err
}

func (r *rawLine) exchange(frame []byte) (int, error) {
	if _, err := unix.Write(r.fd, frame); err != nil {
		return 0, err
	}
	have, want := 0, len(ackFrame)+5
	for have < want {
		n, err := unix.Read(r.fd, r.buf[have:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, err
		}
		have += n
		if have >= 11 {
			want = 6 + 7 + int(r.buf[9])
		}
	}
	return have, nil
}

// quantiles of durations, which it sorts.
func quantiles(d []time.Duration) (p50, p99 time.Duration) {
	slices.Sort(d)
	return d[len(d)/2], d[len(d)*99/100]
}

var benchAPDU = []byte{0x00, 0xA4, 0x04, 0x00, 0x08, 0xA0, 0x00, 0x00, 0x08, 0x98, 0x00, 0x00, 0x01, 0x00}

// benchReader is a chip whose one card answers at once.
func benchReader(b *testing.B) (link string) {
	b.Helper()
	link = filepath.Join(b.TempDir(), "reader")
	field := NewField()
	c, err := Open(field, Options{Link: link})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	k := newPKOCCard(b)
	k.Answer = func([]byte) []byte { return []byte{0x90, 0x00} }
	if err := field.Place(k); err != nil {
		b.Fatal(err)
	}
	return link
}

// benchFloor opens the raw loop on a reader of its own and activates the card.
func benchFloor(b *testing.B) *rawLine {
	b.Helper()
	raw, err := openRaw(benchReader(b))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { unix.Close(raw.fd) })
	if _, err := unix.Write(raw.fd, wakeUp); err != nil {
		b.Fatal(err)
	}
	for _, command := range [][]byte{{cmdSAMConfiguration, 0x01, 0x14, 0x01}, {cmdInList, 0x01, 0x00}} {
		if _, err := raw.exchange(appendFrame(nil, append([]byte{hostToChip}, command...))); err != nil {
			b.Fatal(err)
		}
	}
	return raw
}

// BenchmarkExchange compares one InDataExchange through our driver with the raw loop, each on a
// terminal and a chip of its own, turn by turn, so that a busy machine is busy for both.
func BenchmarkExchange(b *testing.B) {
	raw, link := benchFloor(b), benchReader(b)
	frame := appendFrame(nil, append([]byte{hostToChip, cmdInDataExchange, 0x01}, benchAPDU...))
	floor, ours := make([]time.Duration, 0, b.N), make([]time.Duration, 0, b.N)
	d, done := newDoor(), make(chan struct{})
	d.presented = func(ctx context.Context, p reader.Presentation) {
		defer close(done)
		b.ResetTimer()
		for range b.N {
			start := time.Now()
			if _, err := p.Channels[0].Transceive(ctx, benchAPDU); err != nil {
				b.Error(err)
				return
			}
			between := time.Now()
			if _, err := raw.exchange(frame); err != nil {
				b.Error(err)
				return
			}
			ours = append(ours, between.Sub(start))
			floor = append(floor, time.Since(between))
		}
		b.StopTimer()
	}
	stop := drive(b, link, d, pn532.Options{TransactionWait: time.Hour})
	defer stop()
	<-done
	if b.Failed() {
		return
	}
	f50, f99 := quantiles(floor)
	o50, o99 := quantiles(ours)
	b.ReportMetric(float64(f50.Microseconds()), "floor-p50-us")
	b.ReportMetric(float64(f99.Microseconds()), "floor-p99-us")
	b.ReportMetric(float64(o50.Microseconds()), "driver-p50-us")
	b.ReportMetric(float64(o99.Microseconds()), "driver-p99-us")
	b.ReportMetric(float64(o50)/float64(f50), "ratio-p50")
	b.ReportMetric(float64(o99)/float64(f99), "ratio-p99")
}

// BenchmarkPKOCTap is a whole tap with a card that computes at the speed of this machine: from
// the hand that puts the card down, and from the moment it was felt, to the proven credential.
func BenchmarkPKOCTap(b *testing.B) {
	link := filepath.Join(b.TempDir(), "reader")
	field := NewField()
	c, err := Open(field, Options{Link: link})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	k := newPKOCCard(b)
	d := newDoor()
	proven, gone := make(chan time.Time), make(chan struct{}, 1)
	var felt []time.Duration
	d.presented = func(ctx context.Context, p reader.Presentation) {
		if _, _, err := card.Prove(ctx, p.Channels[0], testReader, nil); err != nil {
			b.Error(err)
		}
		felt = append(felt, time.Since(p.Felt))
		proven <- time.Now()
	}
	stop := drive(b, link, &leaving{door: d, gone: gone}, pn532.Options{})
	defer stop()
	waitFor(b, 3*time.Second, "the reader is up", d.isUp)
	placed := make([]time.Duration, 0, b.N)
	for b.Loop() {
		start := time.Now()
		field.Place(k)
		placed = append(placed, (<-proven).Sub(start))
		field.Clear()
		<-gone
	}
	h50, h99 := quantiles(placed)
	f50, f99 := quantiles(felt)
	b.ReportMetric(float64(h50.Microseconds()), "placed-p50-us")
	b.ReportMetric(float64(h99.Microseconds()), "placed-p99-us")
	b.ReportMetric(float64(f50.Microseconds()), "felt-p50-us")
	b.ReportMetric(float64(f99.Microseconds()), "felt-p99-us")
}

// leaving tells when a presentation ended.
type leaving struct {
	*door
	gone chan struct{}
}

func (l *leaving) Gone() {
	select {
	case l.gone <- struct{}{}:
	default:
	}
}
