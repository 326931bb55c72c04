package journal

import (
	"context"
	"testing"
	"time"

	"pgregory.net/rapid"

	"kith/internal/event"
)

// Random histories: whatever is appended, signed, received, pruned, erased, reopened or forked, the journal answers as
// a tlog in memory does.
func TestAnyHistoryKeepsEveryProof(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		l := newLog(t)
		defer l.j.Close()
		ctx := context.Background()
		failed := func(err error) {
			if err != nil {
				r.Fatal(err)
			}
		}
		r.Repeat(map[string]func(*rapid.T){
			"append":  func(r *rapid.T) { l.append(rapid.SampledFrom([]int{1, 2, 100, 255, 256, 400}).Draw(r, "leaves")) },
			"reopen":  func(*rapid.T) { l.reopen() },
			"receipt": func(r *rapid.T) { l.receipt(rapid.Uint64Range(0, l.j.Head().Size).Draw(r, "size")) },
			"backup":  func(r *rapid.T) { l.backup(rapid.Uint64Range(0, l.j.Head().Size).Draw(r, "size")) },
			"prune": func(r *rapid.T) {
				age := rapid.SampledFrom([]time.Duration{0, 31 * 24 * time.Hour, longAfter}).Draw(r, "age")
				l.prune(testStart.Add(age))
			},
			"erase": func(r *rapid.T) {
				if l.j.Head().Size == 0 {
					r.Skip("nothing to erase")
				}
				index := rapid.Uint64Range(0, l.j.Head().Size-1).Draw(r, "index")
				failed(l.j.eraseLeaves(ctx, l.j.Head().Epoch, index))
				l.noteErased()
			},
			"fork": func(r *rapid.T) {
				e := l.j.Epochs()
				if len(e) > 4 {
					r.Skip("enough epochs")
				}
				last := e[len(e)-1]
				from := last.Size - min(last.Size-last.Pruned, uint64(rapid.IntRange(0, 50).Draw(r, "branch")))
				branch, err := l.j.Read(ctx, last.Epoch, from, 50, 1<<20)
				failed(err)
				failed(l.j.StartEpoch(ctx, event.KindFork, event.Epochal{OldSize: from}, Carry{branch, last.Size}))
				l.learn()
				l.noteErased()
			},
			"fault": func(r *rapid.T) {
				l.failOnce(rapid.SampledFrom([]string{"begin", "write", "commit", "committed"}).Draw(r, "stage"), errInput)
				if _, err := l.j.Append(ctx, door(0)); err == nil {
					r.Fatal("the fault was swallowed")
				}
			},
			"": func(*rapid.T) { l.CheckJournal() },
		})
	})
}
