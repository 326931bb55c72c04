package clearing

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	peerSeeds   = 43 // cases of each of the seven families: 301 in all
	peerTimeout = 30 * time.Second
)

// peer is one case asked of glpsol, with our answer.
type peer struct {
	name string
	c    *Case
	r    *Result
	flow []int64
	unit int64
}

// objective of each of the first three stages, in whole units.
func (p *peer) objective(stage int) int64 {
	gain, sum := gains(p.c, stage), int64(0)
	for k := range p.c.arcs {
		sum += p.flow[k] / p.unit * gain(&p.c.arcs[k])
	}
	return sum
}

func TestEveryObjectiveEqualsTheOptimumOfGlpsol(t *testing.T) {
	if _, err := exec.LookPath("glpsol"); err != nil {
		if os.Getenv("KITH_PEERS") == "required" {
			t.Fatal("glpsol (Debian package glpk-utils) is missing and KITH_PEERS=required")
		}
		t.Skip("SKIP: glpsol missing (Debian package glpk-utils): optima are not compared with another solver")
	}
	for _, shape := range families {
		var batch []*peer
		for seed := range uint64(peerSeeds) {
			terms, obligations, unit := family(shape, 1000+seed, seed%2 == 1)
			c := mustCompile(t, terms, obligations)
			r := mustSettle(t, c)
			p := &peer{name: fmt.Sprintf("%s/%d", shape, seed), c: c, r: r, flow: flows(c, r), unit: unit}
			batch = append(batch, p)
		}
		for stage := range fixedStages {
			optima := askGlpsol(t, batch, stage)
			for i, p := range batch {
				if got := p.objective(stage); got != optima[i] {
					t.Errorf("%s: stage %q reaches %d, glpsol %d", p.name, stageName(stage), got, optima[i])
				}
			}
		}
	}
}

// askGlpsol solves all cases of a batch as blocks of one linear program: maximise the stage's objective while every
// earlier objective keeps its value. It returns the optimum of each block.
func askGlpsol(t *testing.T, batch []*peer, stage int) []int64 {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.lp"), filepath.Join(dir, "out.txt")
	if err := os.WriteFile(in, linearProgram(batch, stage), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("glpsol", "--lp", in, "-w", out, "--tmlim", strconv.Itoa(int(peerTimeout.Seconds())))
	if log, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("glpsol: %v\n%s", err, log)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return readOptima(t, string(text), len(batch))
}

func linearProgram(batch []*peer, stage int) []byte {
	var b, bounds bytes.Buffer
	b.WriteString("Maximize\n obj:")
	for i := range batch {
		fmt.Fprintf(&b, " + z%d", i)
		fmt.Fprintf(&bounds, " z%d free\n w%d = 0\n", i, i) // w keeps a row without terms well-formed
	}
	b.WriteString("\nSubject To\n")
	for i, p := range batch {
		for s := range stage + 1 {
			gain := gains(p.c, s)
			fmt.Fprintf(&b, " o%d_%d:", i, s)
			for k := range p.c.arcs {
				if g := gain(&p.c.arcs[k]); g != 0 {
					fmt.Fprintf(&b, " %+d x%d_%d\n", g, i, k)
				}
			}
			if s == stage {
				fmt.Fprintf(&b, " - z%d = 0\n", i)
			} else {
				fmt.Fprintf(&b, " + w%d = %d\n", i, p.objective(s))
			}
		}
		rows := make([]bytes.Buffer, len(p.c.nodes))
		for k := range p.c.arcs {
			a := &p.c.arcs[k]
			fmt.Fprintf(&rows[a.from], " - x%d_%d\n", i, k)
			fmt.Fprintf(&rows[a.to], " + x%d_%d\n", i, k)
			fmt.Fprintf(&bounds, " 0 <= x%d_%d <= %d\n", i, k, a.limit/p.unit)
		}
		for v := range rows {
			if rows[v].Len() > 0 {
				fmt.Fprintf(&b, " n%d_%d:%s = 0\n", i, v, rows[v].String())
			}
		}
	}
	b.WriteString("Bounds\n")
	b.Write(bounds.Bytes())
	b.WriteString("End\n")
	return b.Bytes()
}

// readOptima reads the columns z0, z1 ..., which are the first of the program.
func readOptima(t *testing.T, text string, blocks int) []int64 {
	t.Helper()
	optima, solved := make([]int64, blocks), 0
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) > 5 && f[0] == "s" && (f[4] != "f" || f[5] != "f") {
			t.Fatalf("glpsol found no optimum: %s", line)
		}
		if len(f) < 4 || f[0] != "j" {
			continue
		}
		column, err := strconv.Atoi(f[1])
		if err != nil || column > blocks {
			continue
		}
		v, err := strconv.ParseFloat(f[3], 64)
		if err != nil {
			t.Fatalf("glpsol wrote %q", line)
		}
		optima[column-1] = int64(v + 0.5)
		if v < 0 {
			optima[column-1] = -int64(-v + 0.5)
		}
		solved++
	}
	if solved != blocks {
		t.Fatalf("glpsol answered %d of %d blocks", solved, blocks)
	}
	return optima
}
