package journal

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
)

// The child is this test binary again, in a process of its own that can be killed for good.
const childEnv = "KITH_JOURNAL_CHILD"

// childOrder is what the parent wants from it.
type childOrder struct {
	Dir, Skey, Vkey string
	AckEarly        bool   // the mutation: acknowledge before the commit
	DieAt           string // stage at which the child kills itself
	DieAfter        int    // at the n-th pass
}

func TestMain(m *testing.M) {
	if order := os.Getenv(childEnv); order != "" {
		var o childOrder
		if err := json.Unmarshal([]byte(order), &o); err != nil {
			panic(err)
		}
		childMain(o)
		return
	}
	// Histories are long and each step is checked in full, so a few are enough by default; the flag still wins.
	flag.Set("rapid.checks", "2")
	os.Exit(m.Run())
}

// childMain appends, signs and says on stdout what was acknowledged, until it is killed.
func childMain(o childOrder) {
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format+"\n", args...) // one unbuffered write
	}
	signer, err := note.NewSigner(o.Skey)
	if err != nil {
		panic(err)
	}
	verifier, err := note.NewVerifier(o.Vkey)
	if err != nil {
		panic(err)
	}
	passes := 0
	at := fault(func(stage string, batch []*request) error {
		if stage == o.DieAt {
			if passes++; passes == o.DieAfter {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}
		if o.AckEarly && stage == "commit" {
			for _, r := range batch {
				for i, index := range r.indexes {
					say("leaf %s %d %s", r.rows[i].leaf.Epoch, index, r.rows[i].leaf.Body)
				}
			}
			time.Sleep(2 * time.Millisecond) // a slow card
		}
		return nil
	})
	opt := keys{signer: signer, verifier: verifier}.childOptions(o.Dir)
	opt.faults = &faults{}
	opt.faults.at.Store(&at)
	j, err := Open(context.Background(), opt)
	if err != nil {
		say("error %v", err)
		os.Exit(3)
	}
	id := j.Head().Epoch
	say("open %s %d", id, j.Head().Size)
	for w := range 3 {
		go func() {
			for n := 0; ; n++ {
				rec := tap(n)
				rec.Body = json.RawMessage(fmt.Sprintf(`{"w":%d,"n":%d}`, w, n))
				at, err := j.Append(context.Background(), rec)
				if err != nil {
					say("error %v", err)
					os.Exit(3)
				}
				if !o.AckEarly {
					say("leaf %s %d %s", id, at[0], rec.Body)
				}
				if n%16 == 15 {
					j.eraseLeaves(context.Background(), id, at...)
				}
				if n%8 == 7 {
					text, err := j.Checkpoint(context.Background(), id, 0)
					if err != nil {
						say("error %v", err)
						os.Exit(3)
					}
					lines := strings.Split(string(text), "\n")
					say("head %s %s", lines[1], lines[2])
				}
			}
		}()
	}
	io.Copy(io.Discard, os.Stdin) // the parent holds it; if the parent dies, so do we
	os.Exit(0)
}

func (k keys) childOptions(dir string) Options {
	return Options{
		Dir: dir, Network: "commons", Node: "lisbon", Edge: "lisbon-front",
		Signer: k.signer, Verifier: k.verifier, Reserve: 1 << 16,
	}
}

// chamber runs children on one directory.
type chamber struct {
	t          testing.TB
	dir        string
	skey, vkey string
	keys       keys
}

func newChamber(t testing.TB) *chamber {
	t.Helper()
	c := &chamber{t: t, dir: t.TempDir()}
	var err error
	if c.skey, c.vkey, err = note.GenerateKey(rand.Reader, "commons/lisbon/lisbon-front"); err != nil {
		t.Fatal(err)
	}
	c.keys.signer, _ = note.NewSigner(c.skey)
	c.keys.verifier, _ = note.NewVerifier(c.vkey)
	return c
}

// round starts a child, kills it after some acknowledgements, and returns what it said.
func (c *chamber) round(o childOrder, lines int) []string {
	c.t.Helper()
	o.Dir, o.Skey, o.Vkey = c.dir, c.skey, c.vkey
	order, err := json.Marshal(o)
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childEnv+"="+string(order))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	var said []string
	killed := false
	for scan := bufio.NewScanner(stdout); scan.Scan(); {
		if strings.HasPrefix(scan.Text(), "error") {
			c.t.Fatal(scan.Text())
		}
		said = append(said, scan.Text())
		if o.DieAt == "" && len(said) >= lines && !killed {
			killed = true
			cmd.Process.Kill() // SIGKILL; what is still in the pipe was acknowledged too
		}
	}
	cmd.Wait()
	return said
}

// missing opens the journal after the kill, checks all of it and returns what was acknowledged and is not there.
func (c *chamber) missing(said []string) (lost []string, size uint64) {
	c.t.Helper()
	ctx := context.Background()
	opt := c.keys.childOptions(c.dir)
	j, err := Open(ctx, opt)
	if err != nil {
		c.t.Fatal(err)
	}
	defer j.Close()
	if n := len(j.Epochs()); n != 1 {
		c.t.Fatalf("%d epochs after a kill: a kill loses nothing", n)
	}
	bodies := map[uint64]string{}
	for at := uint64(0); at < j.Head().Size; {
		got, err := j.Read(ctx, j.Head().Epoch, at, 1000, 1<<22)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, n := range got {
			leaf, _ := event.Parse(n.Leaf)
			bodies[n.Index] = string(leaf.Body)
			at++
		}
	}
	for _, line := range said {
		f := strings.Fields(line)
		switch f[0] {
		case "leaf":
			index, _ := strconv.ParseUint(f[2], 10, 64)
			if bodies[index] != f[3] {
				lost = append(lost, line)
			}
		case "head":
			size, _ := strconv.ParseUint(f[1], 10, 64)
			want, _ := tlog.ParseHash(f[2])
			if root, err := j.RootAt(ctx, j.Head().Epoch, size); err != nil || root != want {
				lost = append(lost, line)
			}
			if e := j.view.Load().current(); e.head.size < size {
				lost = append(lost, "signed "+line)
			}
		}
	}
	if r, err := j.Verify(ctx); err != nil || !r.OK {
		c.t.Fatalf("verify after a kill: %v, %+v", err, r.First)
	}
	return lost, j.Head().Size
}

func TestEverythingAcknowledgedSurvivesSIGKILL(t *testing.T) {
	c := newChamber(t)
	said, acked := 0, 0
	for range 20 {
		out := c.round(childOrder{}, 1+mrand.IntN(60))
		lost, _ := c.missing(out)
		if len(lost) > 0 {
			t.Fatalf("lost: %q", lost)
		}
		said += len(out)
		acked++
	}
	t.Logf("%d kills, %d acknowledgements, none lost", acked, said)
}

func TestKillHarnessSeesAnAcknowledgementBeforeTheCommit(t *testing.T) {
	c := newChamber(t)
	for round := range 20 {
		lost, _ := c.missing(c.round(childOrder{AckEarly: true}, 1+mrand.IntN(20)))
		if len(lost) > 0 {
			t.Logf("caught in round %d: %q", round+1, lost[0])
			return
		}
	}
	t.Fatal("acknowledging before the commit was never noticed: the harness proves nothing")
}

func TestKillAtEachLineOfACommit(t *testing.T) {
	for _, stage := range []string{"begin", "write", "commit", "committed"} {
		t.Run(stage, func(t *testing.T) {
			c := newChamber(t)
			for _, pass := range []int{1, 2, 40, 3} {
				out := c.round(childOrder{DieAt: stage, DieAfter: pass}, 0)
				if lost, _ := c.missing(out); len(lost) > 0 {
					t.Fatalf("killed at %s %d: lost %q", stage, pass, lost)
				}
			}
		})
	}
}
