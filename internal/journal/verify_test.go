package journal

import (
	"context"
	"sync"
	"testing"
)

// An operator verifies a running edge from beside it. What the edge writes meanwhile must not look like damage.
func TestVerifyFromAnotherProcessSeesOneMomentOfABusyJournal(t *testing.T) {
	l := newLog(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var busy sync.WaitGroup
	busy.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			if _, err := l.j.Append(ctx, tap(n)); err != nil {
				if ctx.Err() == nil {
					t.Error(err)
				}
				return
			}
			h := l.j.Head()
			if _, err := l.j.Checkpoint(ctx, h.Epoch, h.Size); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	})
	for range 60 {
		r, err := Verify(t.Context(), l.opt)
		if err != nil || !r.OK {
			t.Errorf("%+v: %v", r.First, err)
			break
		}
	}
	cancel()
	busy.Wait()
}
