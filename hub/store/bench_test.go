package store

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"kith/internal/access"
)

const benchLeaves = 100 // leaves a batch

// benchBatches makes batches of 200 edges, interleaved as they would arrive.
func benchBatches(b *testing.B, total int) []Accepted {
	b.Helper()
	edges := make([]*edgeLog, 200)
	for i := range edges {
		edges[i] = newEdge(fmt.Sprintf("node-%d", i/2), fmt.Sprintf("edge-%d", i), byte(i))
	}
	var all []Accepted
	for i := range total {
		all = append(all, edges[i%len(edges)].batch(b, benchLeaves))
	}
	return all
}

// BenchmarkCommit stores batches of 100 leaves, ten batches a transaction as a busy group commit does, with private
// parts, lines and presence; and then the very same rows by bare inserts, so that the ratio says what this room costs.
func BenchmarkCommit(b *testing.B) {
	for _, group := range []int{1, 10, 50} {
		b.Run(fmt.Sprintf("group=%d", group), func(b *testing.B) { benchCommit(b, group, nil) })
	}
	var gone []string
	for i := range 1000 {
		gone = append(gone, fmt.Sprint("gone-", i))
	}
	list := erasures(gone...)
	b.Run("group=10,erased=1000", func(b *testing.B) { benchCommit(b, 10, list) })
}

func benchCommit(b *testing.B, group int, list *access.Erasures) {
	total := 600
	batches := benchBatches(b, total)
	rows := float64(total * benchLeaves)
	var ours, raw, cpu time.Duration
	runs := 0
	for b.Loop() {
		s := open(b, filepath.Join(b.TempDir(), "hub"))
		s.Heed(func() *access.Erasures { return list })
		start, used := time.Now(), processorTime(b)
		for i := 0; i < total; i += group {
			commit(b, s, batches[i:i+group]...)
		}
		ours += time.Since(start)
		cpu += processorTime(b) - used
		raw += rawInserts(b, s, group)
		s.Close()
		runs++
	}
	b.ReportMetric(rows*float64(runs)/ours.Seconds(), "leaves/s")
	b.ReportMetric(rows*float64(runs)/raw.Seconds(), "raw-leaves/s")
	b.ReportMetric(raw.Seconds()/ours.Seconds(), "ratio")
	b.ReportMetric(float64(cpu.Nanoseconds())/1000/rows/float64(runs), "cpu-us/leaf")
	b.ReportMetric(0, "ns/op")
}

// processorTime is what this process has used on all cores: on a shared machine it says more than the clock on the wall.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

type rawRow struct {
	id, node, at, shape int64
	member              string
}

// rawInserts writes the same bundles, private parts and lines into a fresh database with one prepared insert a table,
// in transactions of the same size and with the same durability. It does no projection, no check and no presence.
func rawInserts(b *testing.B, from *Store, group int) time.Duration {
	b.Helper()
	type bundle struct {
		log, first, n int64
		lines, tree   []byte
	}
	parts := map[int64][]byte{}
	var bundles []bundle
	rows, err := from.write.Query(`SELECT log, first, n, lines, tree FROM bundles ORDER BY seq`)
	if err != nil {
		b.Fatal(err)
	}
	for rows.Next() {
		var r bundle
		if err := rows.Scan(&r.log, &r.first, &r.n, &r.lines, &r.tree); err != nil {
			b.Fatal(err)
		}
		bundles = append(bundles, r)
	}
	rows.Close()
	lines := map[int64]rawRow{}
	rows, err = from.write.Query(`SELECT seq, parts FROM private_parts`)
	if err != nil {
		b.Fatal(err)
	}
	for rows.Next() {
		var seq int64
		var p []byte
		if err := rows.Scan(&seq, &p); err != nil {
			b.Fatal(err)
		}
		parts[seq] = p
	}
	rows.Close()
	rows, err = from.write.Query(`SELECT id, node, at, shape, member FROM lines`)
	if err != nil {
		b.Fatal(err)
	}
	for rows.Next() {
		var r rawRow
		if err := rows.Scan(&r.id, &r.node, &r.at, &r.shape, &r.member); err != nil {
			b.Fatal(err)
		}
		lines[r.id] = r
	}
	rows.Close()
	to := open(b, filepath.Join(b.TempDir(), "raw"))
	defer to.Close()
	execSQL(b, to, `PRAGMA foreign_keys = OFF`)
	start := time.Now()
	for i := 0; i < len(bundles); i += group {
		tx, err := to.write.Begin()
		if err != nil {
			b.Fatal(err)
		}
		put, line, priv := tx.Stmt(to.stmts.bundle), tx.Stmt(to.stmts.line), tx.Stmt(to.stmts.parts)
		for j, r := range bundles[i:min(i+group, len(bundles))] {
			if _, err := put.Exec(r.log, r.first, r.n, r.lines, r.tree, nil, 0); err != nil {
				b.Fatal(err)
			}
			if _, err := priv.Exec(i+j+1, parts[int64(i+j+1)]); err != nil {
				b.Fatal(err)
			}
			for k := range r.n {
				l := lines[int64(i+j+1)<<placeBits|k]
				if _, err := line.Exec(l.id, l.node, l.at, l.shape, l.member); err != nil {
					b.Fatal(err)
				}
			}
		}
		if err := tx.Commit(); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(start)
}
