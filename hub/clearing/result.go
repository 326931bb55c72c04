package clearing

import "strconv"

// MaxLots bounds how often ties are drawn again. Each lot settles a tie of two answers with probability 1 - 2^-24, so
// that a case which needs all of them does not occur by chance.
const MaxLots = 8

// Objectives in their strict order. The lots follow as "lot-0", "lot-1" and so on, until the answer is unique.
const (
	StageTotal = "total" // debt discharged
	StageDraw  = "draw"  // pool credit drawn, counted below zero: the least is the best
	StageAge   = "age"   // days of age times debt discharged
	stageLot   = "lot-"
)

const fixedStages = 3 // stages before the lots; all of them always stand in a proof

// Line says how much of one obligation is discharged. The rest stays owed.
type Line struct {
	ID         ID
	Discharged int64
}

// Balance is a node's balance with the pool before and after.
type Balance struct {
	Node   string
	Before int64
	After  int64
}

// Stage is the proof of one objective: its value, and one potential per node in the order of [Case.Nodes]. The
// potentials are prices that show that no other answer, among those that are as good in all earlier stages, has a
// higher value. See docs/FORMATS.md, "Clearing".
type Stage struct {
	Name       string
	Value      Wide
	Potentials []int64
}

// Result is the answer to a [Case] with its proof. Lines and balances are unique for a case; the stages are not, since
// many prices prove the same optimum. Nothing in a Result is to be believed before [Verify] accepted it.
type Result struct {
	Unit     string
	Cut      Day
	Total    int64     // sum of all discharged
	Drawn    int64     // sum of what nodes drew from the pool
	Lines    []Line    // one per obligation, in the order of the case
	Balances []Balance // one per limit, in the order of the case
	Stages   []Stage
}

// stageName returns the name the i-th stage of a proof must have.
func stageName(i int) string {
	switch i {
	case 0:
		return StageTotal
	case 1:
		return StageDraw
	case 2:
		return StageAge
	}
	return stageLot + strconv.Itoa(i-fixedStages)
}

// gains returns the weight that stage i gives to one part of flow on an arc.
func gains(c *Case, i int) func(a *arc) int64 {
	switch i {
	case 0:
		return gainTotal
	case 1:
		return gainDraw
	case 2:
		return gainAge
	}
	l := newLot(c, uint32(i-fixedStages))
	return func(a *arc) int64 { return l.draw(a.from, a.to) }
}

func gainTotal(a *arc) int64 {
	if a.kind == arcDebt {
		return 1
	}
	return 0
}

func gainDraw(a *arc) int64 {
	if a.kind == arcDraw {
		return -1
	}
	return 0
}

func gainAge(a *arc) int64 { return int64(a.age) }
