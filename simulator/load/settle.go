package load

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"kith/hub/clearing"
)

// clearingWord makes a process of ours settle one drawn market and tell what that cost. A process of its own is used for
// each, so that nothing else counts in its processor time and its memory.
const clearingWord = "clearing"

// proved are rounds of what is over in milliseconds; the fastest counts.
const proved = 9

// order is what such a process reads, once it was started.
type order struct {
	Nodes    int
	Debts    int
	PowerLaw bool
	Seed     uint64
	Rounds   int // of settling; the fastest counts
}

func (o order) market() market {
	return market{nodes: o.Nodes, debts: o.Debts, powerLaw: o.PowerLaw, seed: o.Seed}
}

// costs is what it answers: milliseconds of processor time and the highest resident set in MiB.
type costs struct {
	FirstStage, Settle         float64
	Verify, Walk, ReadAndProve float64
	Most                       float64
	Cleared                    int64 // per cent of all debt
	Text                       int   // bytes of case, statement and proof
}

// bounds of the figures of one size, in milliseconds and MiB; 0 says that nothing is promised.
type bounds struct {
	first, firstAim   float64 // first stage: the most that can be discharged
	settle, settleAim float64 // all stages
	verify, verifyAim float64
	memory, memoryAim float64
	rounds            int
}

// measureClearing settles drawn markets and verifies the answers. Solving stands beside its aim; verifying beside one plain
// walk over the same debts, which nothing that reads them can undercut.
func measureClearing(ctx context.Context, b *bench) error {
	few := bounds{settle: 1000, settleAim: 100, rounds: b.size.rounds}
	small := bounds{first: 2000, firstAim: 200, settle: 2000, settleAim: 1000, verify: 50, verifyAim: 15, rounds: b.size.rounds}
	large := bounds{first: 7000, firstAim: 6000, verify: 50, verifyAim: 15, memory: 300, memoryAim: 300, rounds: 1}
	for _, m := range []struct {
		order
		bounds
	}{
		{order{Nodes: b.size.fewNodes, Debts: b.size.fewDebts, Seed: 5}, few},
		{order{Nodes: b.size.nodes, Debts: b.size.debts, Seed: 1}, small},
		{order{Nodes: b.size.nodes, Debts: b.size.debts, Seed: 2, PowerLaw: true}, small},
		{order{Nodes: b.size.manyNodes, Debts: b.size.manyDebts, Seed: 3}, large},
		{order{Nodes: b.size.manyNodes, Debts: b.size.manyDebts, Seed: 4, PowerLaw: true}, large},
	} {
		m.Rounds = m.rounds
		c, err := m.order.give(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", m.market(), err)
		}
		b.addCosts(m.market().String(), c, m.bounds)
	}
	return nil
}

func (b *bench) addCosts(what string, c costs, p bounds) {
	beside := func(f figure) {
		if f.Aim != 0 {
			f.Bare, f.Peer = f.Aim, "its aim"
		}
		b.add(f)
	}
	if p.first != 0 {
		beside(figure{Name: "solve the first stage of a clearing", Value: c.FirstStage, Unit: millis, Floor: p.first, Aim: p.firstAim,
			Note: what + "; processor time"})
	}
	beside(figure{Name: "solve a clearing", Value: c.Settle, Unit: millis, Floor: p.settle, Aim: p.settleAim,
		Note: fmt.Sprintf("%s; processor time, all stages and its verification; %d%% cleared", what, c.Cleared)})
	beside(figure{Name: "memory of a clearing, highest", Value: c.Most, Unit: mebi, Floor: p.memory, Aim: p.memoryAim,
		Note: what + "; resident, the case included"})
	if p.verify == 0 {
		return
	}
	b.add(figure{Name: "verify a clearing", Value: c.Verify, Unit: millis, Bare: c.Walk, Peer: "a walk over its debts", Floor: p.verify, Aim: p.verifyAim,
		Note: what + "; processor time, case and answer in memory"})
	b.add(figure{Name: "read and verify a clearing", Value: c.ReadAndProve, Unit: millis, Bare: c.Verify, Peer: "verifying alone",
		Note: fmt.Sprintf("%s; processor time from the texts, %.3g MiB, hashes included", what, float64(c.Text)/(1<<20))})
}

// give lets a process of its own do what is ordered.
func (o order) give(ctx context.Context) (c costs, err error) {
	argv, err := selfAs(clearingWord)
	if err != nil {
		return c, err
	}
	text, err := json.Marshal(o)
	if err != nil {
		return c, err
	}
	said := &child{} // keeps the end of what it says
	cmd := exec.CommandContext(ctx, argv[0], append(argv[1:], string(text))...)
	cmd.Stderr = said
	out, err := cmd.Output()
	if err != nil {
		return c, fmt.Errorf("%w: %s", err, said.text())
	}
	return c, json.Unmarshal(out, &c)
}

// obey is that process.
func obey(ctx context.Context, out io.Writer, text string) error {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	runtime.GOMAXPROCS(1)
	c, err := o.run(ctx)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(c)
}

func (o order) run(ctx context.Context) (c costs, err error) {
	m := o.market()
	cs, err := clearing.Compile(m.draw())
	if err != nil {
		return c, err
	}
	if err := forgetMost(); err != nil {
		return c, err
	}
	var r *clearing.Result
	for n := range o.Rounds {
		if ctx.Err() != nil {
			return c, ctx.Err()
		}
		r = nil
		runtime.GC()
		first := 0.0
		began := processorTime()
		r, err = clearing.SettleStages(cs, func(stage string) {
			if stage == clearing.StageTotal {
				first = since(began)
			}
		})
		if err != nil {
			return c, err
		}
		took := since(began)
		if n == 0 || took < c.Settle {
			c.Settle = took
		}
		if n == 0 || first < c.FirstStage {
			c.FirstStage = first
		}
	}
	if c.Most, err = most(); err != nil {
		return c, err
	}
	c.Cleared = 100 * r.Total / max(1, cs.Gross())
	if c.Verify, err = fastest(proved, func() error { return clearing.Verify(cs, r) }); err != nil {
		return c, err
	}
	if c.Walk, err = fastest(proved, func() error {
		if m.walk(cs, r) != r.Total {
			return fmt.Errorf("the lines do not add up to %d", r.Total)
		}
		return nil
	}); err != nil {
		return c, err
	}
	cases, statement, proof := cs.AppendText(nil), cs.AppendStatement(nil, r), cs.AppendProof(nil, r)
	c.Text = len(cases) + len(statement) + len(proof)
	cs, r = nil, nil
	c.ReadAndProve, err = fastest(1, func() error {
		cs, err := clearing.DecodeCase(cases)
		if err != nil {
			return err
		}
		r, err := cs.Decode(statement, proof)
		if err != nil {
			return err
		}
		return clearing.Verify(cs, r)
	})
	return c, err
}

// forgetMost lets the highest resident set begin again at what is needed now (proc_pid_clear_refs(5)).
func forgetMost() error {
	debug.FreeOSMemory()
	return os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
}

// most returns the highest resident set since then, in MiB. What getrusage says would count the process that started this
// one.
func most() (float64, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kib := 0.0
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		return 0, fmt.Errorf("no VmHWM in the process's status: %w", err)
	}
	return kib / 1024, nil
}

// fastest returns the processor time of the fastest of some rounds, in milliseconds.
func fastest(rounds int, f func() error) (least float64, err error) {
	for n := range rounds {
		runtime.GC()
		began := processorTime()
		if err := f(); err != nil {
			return 0, err
		}
		if took := since(began); n == 0 || took < least {
			least = took
		}
	}
	return least, nil
}

// since returns the processor time since then in milliseconds, never nothing: the kernel counts in whole microseconds.
func since(began time.Duration) float64 {
	return milliseconds(max(time.Microsecond, processorTime()-began))
}
