package journal

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kith/internal/event"
)

func percentile(d []time.Duration, p int) float64 {
	slices.Sort(d)
	return float64(d[min(len(d)-1, len(d)*p/100)].Nanoseconds()) / 1e3
}

// BenchmarkAppend is one durable tap at a time, beside a bare SQLite FULL insert of the same bytes in the same run.
func BenchmarkAppend(b *testing.B) {
	l := newLog(b)
	ctx := context.Background()
	first, err := l.j.Append(ctx, tap(0))
	if err != nil {
		b.Fatal(err)
	}
	e, err := l.j.Read(ctx, l.j.Head().Epoch, first[0], 1, 1<<20)
	if err != nil {
		b.Fatal(err)
	}
	d, err := openDatabase(ctx, filepath.Join(b.TempDir(), "bare", dbFile))
	if err != nil {
		b.Fatal(err)
	}
	defer d.close()
	if _, err := d.w.ExecContext(ctx, "CREATE TABLE bare (n INTEGER PRIMARY KEY, line BLOB)"); err != nil {
		b.Fatal(err)
	}
	put, err := d.w.PrepareContext(ctx, "INSERT INTO bare (line) VALUES (?)")
	if err != nil {
		b.Fatal(err)
	}
	bytes := append(append([]byte(nil), e[0].Leaf...), e[0].Private...)
	var ours, bare []time.Duration
	for n := 0; b.Loop(); n++ {
		began := time.Now()
		if _, err := put.ExecContext(ctx, bytes); err != nil {
			b.Fatal(err)
		}
		bare = append(bare, time.Since(began))
		began = time.Now()
		if _, err := l.j.Append(ctx, tap(n)); err != nil {
			b.Fatal(err)
		}
		ours = append(ours, time.Since(began))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(percentile(ours, 50), "p50-us")
	b.ReportMetric(percentile(ours, 99), "p99-us")
	b.ReportMetric(percentile(bare, 50), "bare-p50-us")
	b.ReportMetric(percentile(bare, 99), "bare-p99-us")
	b.ReportMetric(percentile(ours, 50)/percentile(bare, 50), "x-bare-p50")
}

// BenchmarkDeviceBytes counts what reaches the block layer for each single-commit tap.
func BenchmarkDeviceBytes(b *testing.B) {
	l := newLog(b)
	written := func() (n int64) {
		text, err := os.ReadFile("/proc/self/io")
		if err != nil {
			b.Skip("SKIP: the kernel does not count written bytes here")
		}
		_, at, _ := strings.Cut(string(text), "\nwrite_bytes: ")
		fmt.Sscan(at, &n)
		return n
	}
	before := written()
	for n := 0; b.Loop(); n++ {
		if _, err := l.j.Append(context.Background(), tap(n)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(written()-before)/float64(b.N), "B-written/leaf")
}

// BenchmarkAppendBatch is 256 taps a call.
func BenchmarkAppendBatch(b *testing.B) {
	l := newLog(b)
	records := make([]Record, 256)
	for i := range records {
		records[i] = tap(i)
	}
	for b.Loop() {
		if _, err := l.j.Append(context.Background(), records...); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*len(records))/b.Elapsed().Seconds(), "leaves/s")
}

// BenchmarkAppendConcurrent is 64 doors at once, one tap a call.
func BenchmarkAppendConcurrent(b *testing.B) {
	l := newLog(b)
	const doors = 64
	for b.Loop() {
		var wg sync.WaitGroup
		for range doors {
			wg.Go(func() {
				if _, err := l.j.Append(context.Background(), tap(1)); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
	}
	b.ReportMetric(float64(b.N*doors)/b.Elapsed().Seconds(), "leaves/s")
}

// million is a journal that was killed with 1,000,000 leaves and a full WAL.
func million(b *testing.B) (*chamber, uint64) {
	b.Helper()
	const leaves = 1_000_000
	c := newChamber(b)
	j, err := Open(context.Background(), c.keys.childOptions(c.dir))
	if err != nil {
		b.Fatal(err)
	}
	records := make([]Record, MaxAppend)
	for n := 0; n < leaves; n += len(records) {
		for i := range records {
			records[i] = tap(n + i)
		}
		if _, err := j.Append(context.Background(), records...); err != nil {
			b.Fatal(err)
		}
	}
	j.Close()
	c.round(childOrder{}, 300)
	return c, leaves
}

// BenchmarkOpenAfterKill is the time from Open to the first leaf it takes, with a million leaves behind it.
func BenchmarkOpenAfterKill(b *testing.B) {
	c, _ := million(b)
	killed := filepath.Join(b.TempDir(), "killed")
	if out, err := exec.Command("cp", "-a", c.dir, killed).CombinedOutput(); err != nil {
		b.Fatal(err, string(out))
	}
	var size int64
	filepath.Walk(filepath.Join(killed, liveDir), func(_ string, i os.FileInfo, _ error) error { size += i.Size(); return nil })
	opt := c.keys.childOptions(killed)
	var took []time.Duration
	var leaves uint64
	for b.Loop() {
		began := time.Now()
		j, err := Open(context.Background(), opt)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := j.Append(context.Background(), door(1)); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
		leaves = j.Head().Size
		b.StopTimer()
		j.Close()
		b.StartTimer()
	}
	b.ReportMetric(float64(took[0].Milliseconds()), "first-ms") // with the killed process's WAL
	b.ReportMetric(percentile(took, 50)/1e3, "p50-ms")
	b.ReportMetric(float64(size)/float64(leaves), "B/leaf-on-disk")
	j, err := Open(context.Background(), opt)
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	began := time.Now()
	r, err := j.Verify(context.Background())
	if err != nil || !r.OK {
		b.Fatal(err, r.First)
	}
	b.ReportMetric(float64(leaves)/time.Since(began).Seconds(), "verified-leaves/s")
}

// BenchmarkProof is an inclusion proof of an old leaf, which reads its group from the disk.
func BenchmarkProof(b *testing.B) {
	l := newLog(b)
	for range 40 {
		records := make([]Record, 512)
		for i := range records {
			records[i] = tap(i)
		}
		if _, err := l.j.Append(context.Background(), records...); err != nil {
			b.Fatal(err)
		}
	}
	h := l.j.Head()
	for n := uint64(0); b.Loop(); n++ {
		if _, err := l.j.Inclusion(context.Background(), h.Epoch, n*977%h.Size, h.Size); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLeafSize reports the bytes of a typical tap.
func BenchmarkLeafSize(b *testing.B) {
	l := newLog(b)
	if _, err := l.j.Append(context.Background(), tap(1)); err != nil {
		b.Fatal(err)
	}
	e, err := l.j.Read(context.Background(), l.j.Head().Epoch, 0, 1, 1<<20)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := event.Parse(e[0].Leaf); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(e[0].Leaf)), "leaf-bytes")
	b.ReportMetric(float64(len(e[0].Private)), "private-bytes")
}
