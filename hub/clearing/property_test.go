package clearing

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestEveryFamilyIsSettledVerifiedAndKeepsNetPositions(t *testing.T) {
	for _, shape := range families {
		for seed := range uint64(60) {
			for _, pool := range []bool{false, true} {
				terms, obligations, _ := family(shape, seed, pool)
				c := mustCompile(t, terms, obligations)
				r := mustSettle(t, c)
				checkNetPositions(t, c, r)
				bound := new(big.Int)
				for k := range c.arcs {
					a, p := &c.arcs[k], r.Stages[0].Potentials
					if reduced := gainTotal(a) - p[a.from] + p[a.to]; reduced > 0 {
						bound.Add(bound, WideOf(0).plus(a.limit, reduced).big())
					}
				}
				if bound.Cmp(big.NewInt(r.Total)) != 0 {
					t.Fatalf("%s/%d: primal %d, dual %s", shape, seed, r.Total, bound)
				}
			}
		}
	}
}

// checkNetPositions sums, from the outside, what each node owes and is owed before and after, its pool balance included.
func checkNetPositions(t *testing.T, c *Case, r *Result) {
	t.Helper()
	net := map[string]int64{}
	for i, l := range r.Lines {
		o := c.Obligation(i)
		if l.Discharged < 0 || l.Discharged > o.Amount {
			t.Fatalf("obligation of %d discharged by %d", o.Amount, l.Discharged)
		}
		net[o.Debtor] += l.Discharged
		net[o.Creditor] -= l.Discharged
	}
	for _, b := range r.Balances {
		net[b.Node] += b.After - b.Before
		net[c.terms.Commons] -= b.After - b.Before
	}
	for node, n := range net {
		if n != 0 {
			t.Fatalf("net position of %q moved by %d", node, n)
		}
	}
}

func TestShuffledInputAndOtherParallelismGiveIdenticalBytes(t *testing.T) {
	for _, shape := range families {
		terms, obligations, _ := family(shape, 11, true)
		var want []byte
		for round := range 6 {
			rng := rand.New(rand.NewPCG(uint64(round), 1))
			rng.Shuffle(len(obligations), func(i, j int) { obligations[i], obligations[j] = obligations[j], obligations[i] })
			rng.Shuffle(len(terms.Limits), func(i, j int) { terms.Limits[i], terms.Limits[j] = terms.Limits[j], terms.Limits[i] })
			before := runtime.GOMAXPROCS(1 + round%3)
			c := mustCompile(t, terms, obligations)
			r := mustSettle(t, c)
			runtime.GOMAXPROCS(before)
			got := c.AppendProof(c.AppendStatement(c.AppendText(nil), r), r)
			if want == nil {
				want = got
			} else if !bytes.Equal(got, want) {
				t.Fatalf("%s: round %d gave other bytes", shape, round)
			}
		}
	}
}

// The digests stand for the bytes of 400 statements of each shape. Whatever solver is used, they may not change: an answer
// is unique, and signed.
func TestStatementsStayTheSameBytes(t *testing.T) {
	for shape, want := range map[string]string{
		"dense":           "03e2d28f07c10e75d4ec9014ce3ff7f462bf2c05863c2667e9be27b897da4889",
		"sparse":          "892f6afa43f50febca42986e7b65a84427db34e593f7ff7d2c738b58067991ef",
		"star":            "e1c4c143b767732854ba81a2f3f78a1369743e448dfcde3b98d95835c0bb9f14",
		"long-cycle":      "6c1be8e40b87b3061abe29630ae809548a7367c8a61f0eec111f374442d23fb3",
		"ties":            "6fe78baa2daba081c38e1ae75357c1d168d4da4763ac98ab01116cd2a6448aaa",
		"near-the-limits": "30fae196d2cbe35a607971e9d8fb8fdf6861fe80630c5973af80f6ea4f2325d7",
		"disconnected":    "20f0254623e2372799b26c9ef7d6fa15709b373984a854071d352056f4fe1082",
	} {
		h := sha256.New()
		for seed := range uint64(200) {
			for _, pool := range []bool{false, true} {
				terms, obligations, _ := family(shape, seed, pool)
				c := mustCompile(t, terms, obligations)
				h.Write(c.AppendStatement(nil, mustSettle(t, c)))
			}
		}
		if got := hex.EncodeToString(h.Sum(nil)); got != want {
			t.Errorf("%s: digest %s, want %s", shape, got, want)
		}
	}
}

// The exhaustive oracle tries every circulation of a tiny case and compares all objectives, lots included.
func TestAnswerIsTheOnlyBestOneAmongAllCirculations(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		terms := Terms{Unit: "hour", Cut: 10, AgeCap: 3, Roots: testRoots(rapid.Uint64().Draw(rt, "root"))}
		nodes := rapid.IntRange(2, 4).Draw(rt, "nodes")
		name := func(i int) string { return fmt.Sprintf("n%d", i) }
		var obligations []Obligation
		for i := range rapid.IntRange(1, 7).Draw(rt, "debts") {
			from, step := rapid.IntRange(0, nodes-1).Draw(rt, "from"), rapid.IntRange(1, nodes-1).Draw(rt, "step")
			obligations = append(obligations, Obligation{ID: testID(1, i), Debtor: name(from), Creditor: name((from + step) % nodes),
				Unit: "hour", Amount: rapid.Int64Range(1, 2).Draw(rt, "amount"), Day: 10 - Day(rapid.IntRange(0, 1).Draw(rt, "age"))})
		}
		if rapid.Bool().Draw(rt, "pool") {
			terms.Commons = "pool"
			terms.Limits = []Limit{{Node: "n0", Balance: 0, Floor: -1, Ceiling: 1}, {Node: "n1", Balance: 1, Floor: 0, Ceiling: 1}}
		}
		c, err := Compile(terms, obligations)
		if err != nil {
			rt.Fatal(err)
		}
		r, err := Settle(c)
		if err != nil {
			rt.Fatal(err)
		}
		ours := flows(c, r)
		best, count := exhaust(c, len(r.Stages))
		if count != 1 || !slices.Equal(best, ours) {
			rt.Fatalf("%d best answers, %v; ours %v", count, best, ours)
		}
	})
}

func exhaust(c *Case, stages int) (best []int64, count int) {
	weights := make([]func(*arc) int64, stages)
	for s := range weights {
		weights[s] = gains(c, s)
	}
	flow, net := make([]int64, len(c.arcs)), make([]int64, len(c.nodes))
	var top []int64
	var walk func(k int)
	walk = func(k int) {
		if k == len(flow) {
			if slices.ContainsFunc(net, func(n int64) bool { return n != 0 }) {
				return
			}
			score := make([]int64, stages)
			for s := range score {
				for i := range flow {
					score[s] += flow[i] * weights[s](&c.arcs[i])
				}
			}
			switch slices.Compare(score, top) {
			case 1:
				top, best, count = score, slices.Clone(flow), 1
			case 0:
				count++
			}
			return
		}
		a := &c.arcs[k]
		for f := int64(0); f <= a.limit; f++ {
			flow[k] = f
			net[a.from] -= f
			net[a.to] += f
			walk(k + 1)
			net[a.from] += f
			net[a.to] -= f
		}
		flow[k] = 0
	}
	walk(0)
	return best, count
}

func TestTextsReadBackAndRefuseEveryChangedByte(t *testing.T) {
	terms, obligations, _ := family("sparse", 2, true)
	c := mustCompile(t, terms, obligations)
	r := mustSettle(t, c)
	text, statement := c.AppendText(nil), c.AppendStatement(nil, r)
	proof := c.AppendProof(nil, r)
	back, err := DecodeCase(text)
	if err != nil {
		t.Fatal(err)
	}
	again, err := back.Decode(statement, proof)
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(back, again); err != nil {
		t.Fatal(err)
	}
	accepted := func(text, statement, proof []byte) bool {
		c, err := DecodeCase(text)
		if err != nil {
			return false
		}
		r, err := c.Decode(statement, proof)
		return err == nil && Verify(c, r) == nil
	}
	digest := c.Digest()
	for i := range text {
		changed := bytes.Clone(text)
		changed[i] ^= 1
		if d, err := DecodeCase(changed); err == nil && d.Digest() == digest {
			t.Fatalf("byte %d of the case changed nothing", i)
		} else if err == nil && accepted(changed, statement, proof) {
			t.Fatalf("byte %d of the case went unseen", i)
		}
	}
	for i := range statement {
		changed := bytes.Clone(statement)
		changed[i] ^= 1
		if accepted(text, changed, proof) {
			t.Fatalf("byte %d of the statement went unseen", i)
		}
	}
	if _, err := c.Decode(statement, append(bytes.Clone(proof), '\n')); !errors.Is(err, ErrFormat) {
		t.Errorf("a proof with a line more: got %v, want ErrFormat", err)
	}
}

func TestSumsThatDoNotFitAreRefused(t *testing.T) {
	terms, obligations := chain()
	for i := range obligations {
		obligations[i].Amount = 1 << 60
	}
	if _, err := Compile(terms, obligations); !errors.Is(err, ErrOverflow) {
		t.Errorf("amounts of 4 << 60: got %v, want ErrOverflow", err)
	}
	obligations[3].Amount = 1<<60 - 1
	r := mustSettle(t, mustCompile(t, terms, obligations))
	if r.Total != 3<<60 {
		t.Errorf("amounts of 4 << 60 - 1: discharged %d", r.Total)
	}
	terms.Commons = "pool"
	terms.Limits = []Limit{{Node: "10", Balance: MaxTotal, Floor: -MaxTotal, Ceiling: MaxTotal}}
	if _, err := Compile(terms, obligations); !errors.Is(err, ErrOverflow) {
		t.Errorf("a limit on top: got %v, want ErrOverflow", err)
	}
}

func TestSameObligationTwiceIsRefusedAlsoBetweenOtherNodes(t *testing.T) {
	terms, obligations := chain()
	near := obligations[0]
	near.ID[31] ^= 1 // the same leading bytes are no twin
	mustCompile(t, terms, append(slices.Clone(obligations), near))
	twin := obligations[0]
	twin.Debtor, twin.Creditor = "40", "20"
	if _, err := Compile(terms, append(slices.Clone(obligations), near, twin)); !errors.Is(err, ErrDuplicate) {
		t.Errorf("got %v, want ErrDuplicate", err)
	}
}

func FuzzDecodeCase(f *testing.F) {
	terms, obligations, _ := family("sparse", 2, true)
	c, err := Compile(terms, obligations)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(c.AppendText(nil))
	f.Add([]byte(caseTitle + "\nunit a\ncut 1\nage-cap 0\ncommons -\nend 0\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if c, err := DecodeCase(text); err == nil && !bytes.Equal(c.AppendText(nil), text) {
			t.Fatal("accepted a text that is not canonical")
		}
	})
}

func FuzzDecode(f *testing.F) {
	terms, obligations, _ := family("ties", 3, true)
	c, err := Compile(terms, obligations)
	if err != nil {
		f.Fatal(err)
	}
	r, err := Settle(c)
	if err != nil {
		f.Fatal(err)
	}
	want := c.AppendStatement(nil, r)
	f.Add(want, c.AppendProof(nil, r))
	f.Fuzz(func(t *testing.T, statement, proof []byte) {
		if r, err := c.Decode(statement, proof); err == nil && Verify(c, r) == nil && !bytes.Equal(statement, want) {
			t.Fatal("accepted another answer")
		}
	})
}
