package feed

import (
	"math/big"
	"testing"
)

// system is what an attacker knows: equations over named quantities, some of them published. It is written without a
// look at how figures are withheld.
type system struct {
	names map[string]int
	known map[int]*big.Rat
	least map[int]int64 // an unknown quantity is at least this; absent: no bound is known
	rows  [][]term
}

type term struct {
	name   string
	factor int64
}

func newSystem() *system {
	return &system{names: map[string]int{}, known: map[int]*big.Rat{}, least: map[int]int64{}}
}

func (s *system) at(name string) int {
	i, here := s.names[name]
	if !here {
		i = len(s.names)
		s.names[name] = i
	}
	return i
}

func (s *system) publish(name string, v *int64) {
	if i := s.at(name); v != nil {
		s.known[i] = big.NewRat(*v, 1)
	}
}

func (s *system) bound(name string, v *int64, least int64) {
	if s.publish(name, v); v == nil {
		s.least[s.at(name)] = least
	}
}

// equal says that the terms sum to zero.
func (s *system) equal(terms ...term) { s.rows = append(s.rows, terms) }

// matrix has one row per equation over the unknown quantities, with what the known ones leave as last column.
func (s *system) matrix() (unknown []string, rows [][]*big.Rat) {
	for _, terms := range s.rows {
		for _, t := range terms {
			s.at(t.name)
		}
	}
	byIndex := make([]string, len(s.names))
	for name, i := range s.names {
		byIndex[i] = name
	}
	column := map[int]int{}
	for i, name := range byIndex {
		if s.known[i] == nil {
			column[i] = len(unknown)
			unknown = append(unknown, name)
		}
	}
	for _, terms := range s.rows {
		row := make([]*big.Rat, len(unknown)+1)
		for i := range row {
			row[i] = new(big.Rat)
		}
		for _, t := range terms {
			i, f := s.at(t.name), big.NewRat(t.factor, 1)
			if k := s.known[i]; k != nil {
				row[len(unknown)].Sub(row[len(unknown)], f.Mul(f, k))
			} else {
				row[column[i]].Add(row[column[i]], f)
			}
		}
		rows = append(rows, row)
	}
	return unknown, rows
}

// reduce brings the rows to reduced echelon form and returns the columns of the pivots.
func reduce(rows [][]*big.Rat, columns int) []int {
	var pivots []int
	for c := 0; c < columns && len(pivots) < len(rows); c++ {
		r := len(pivots)
		p := r
		for p < len(rows) && rows[p][c].Sign() == 0 {
			p++
		}
		if p == len(rows) {
			continue
		}
		rows[r], rows[p] = rows[p], rows[r]
		pivot(rows, r, c)
		pivots = append(pivots, c)
	}
	return pivots
}

func pivot(rows [][]*big.Rat, r, c int) {
	inv := new(big.Rat).Inv(rows[r][c])
	for i := range rows[r] {
		rows[r][i].Mul(rows[r][i], inv)
	}
	for k := range rows {
		if k == r || rows[k][c].Sign() == 0 {
			continue
		}
		f := new(big.Rat).Set(rows[k][c])
		for i := range rows[k] {
			rows[k][i].Sub(rows[k][i], new(big.Rat).Mul(f, rows[r][i]))
		}
	}
}

// solved lists the unknown quantities that the equations alone determine.
func (s *system) solved(t testing.TB) []string {
	t.Helper()
	unknown, rows := s.matrix()
	pivots := reduce(rows, len(unknown))
	for _, row := range rows[len(pivots):] {
		if row[len(unknown)].Sign() != 0 {
			t.Fatal("what was published contradicts itself")
		}
	}
	var found []string
	for r, c := range pivots {
		free := 0
		for i := range unknown {
			if rows[r][i].Sign() != 0 {
				free++
			}
		}
		if free == 1 {
			found = append(found, unknown[c])
		}
	}
	return found
}

// ranges gives for every unknown quantity with a lower bound the least and most it can be; most is nil if it has no end.
// All unknown quantities must have a lower bound. It is the simplex method in fractions, with the rule of Bland.
func (s *system) ranges(t testing.TB) map[string][2]*big.Rat {
	t.Helper()
	unknown, rows := s.matrix()
	n := len(unknown)
	for _, row := range rows { // shift every quantity to start at zero
		for i, name := range unknown {
			f := new(big.Rat).Mul(row[i], big.NewRat(s.least[s.at(name)], 1))
			row[n].Sub(row[n], f)
		}
	}
	basis := feasible(t, &rows, n)
	out := map[string][2]*big.Rat{}
	for i, name := range unknown {
		var r [2]*big.Rat
		for side, sign := range []int64{-1, 1} {
			work, b := cloneRows(rows), append([]int{}, basis...)
			goal := make([]*big.Rat, n+1)
			for k := range goal {
				goal[k] = new(big.Rat)
			}
			goal[i].SetInt64(sign)
			if v, bounded := maximise(work, b, goal, n); bounded {
				r[side] = v.Mul(v, big.NewRat(sign, 1)).Add(v, big.NewRat(s.least[s.at(name)], 1))
			}
		}
		out[name] = r
	}
	return out
}

func cloneRows(rows [][]*big.Rat) [][]*big.Rat {
	c := make([][]*big.Rat, len(rows))
	for i := range rows {
		for _, v := range rows[i] {
			c[i] = append(c[i], new(big.Rat).Set(v))
		}
	}
	return c
}

// feasible finds a first corner: phase one with one artificial quantity per row, then rows without meaning are dropped.
func feasible(t testing.TB, rows *[][]*big.Rat, n int) []int {
	m := len(*rows)
	wide, basis := make([][]*big.Rat, m), make([]int, m)
	goal := make([]*big.Rat, n+m+1)
	for i := range goal {
		goal[i] = new(big.Rat)
		if i >= n && i < n+m {
			goal[i].SetInt64(-1)
		}
	}
	for r, row := range *rows {
		sign := int64(1)
		if row[n].Sign() < 0 {
			sign = -1
		}
		for i := range n {
			wide[r] = append(wide[r], new(big.Rat).Mul(row[i], big.NewRat(sign, 1)))
		}
		for i := range m {
			v := new(big.Rat)
			if i == r {
				v.SetInt64(1)
			}
			wide[r] = append(wide[r], v)
		}
		wide[r] = append(wide[r], new(big.Rat).Mul(row[n], big.NewRat(sign, 1)))
		basis[r] = n + r
	}
	if v, _ := maximise(wide, basis, goal, n+m); v.Sign() != 0 {
		t.Fatal("what was published contradicts itself")
	}
	var kept [][]*big.Rat
	var left []int
	for r := range wide {
		if basis[r] >= n {
			for c := range n {
				if wide[r][c].Sign() != 0 {
					pivot(wide, r, c)
					basis[r] = c
					break
				}
			}
		}
	}
	for r := range wide {
		if basis[r] < n {
			kept = append(kept, append(append([]*big.Rat{}, wide[r][:n]...), wide[r][n+m]))
			left = append(left, basis[r])
		}
	}
	*rows = kept
	return left
}

// maximise walks from corner to corner; it changes rows and basis.
func maximise(rows [][]*big.Rat, basis []int, goal []*big.Rat, n int) (*big.Rat, bool) {
	for {
		enter := -1
		for c := 0; c < n && enter < 0; c++ {
			gain := new(big.Rat).Set(goal[c])
			for r := range rows {
				gain.Sub(gain, new(big.Rat).Mul(goal[basis[r]], rows[r][c]))
			}
			if gain.Sign() > 0 {
				enter = c
			}
		}
		if enter < 0 {
			v := new(big.Rat)
			for r := range rows {
				v.Add(v, new(big.Rat).Mul(goal[basis[r]], rows[r][n]))
			}
			return v, true
		}
		leave, best := -1, new(big.Rat)
		for r := range rows {
			if rows[r][enter].Sign() <= 0 {
				continue
			}
			q := new(big.Rat).Quo(rows[r][n], rows[r][enter])
			if leave < 0 || q.Cmp(best) < 0 || q.Cmp(best) == 0 && basis[r] < basis[leave] {
				leave, best = r, q
			}
		}
		if leave < 0 {
			return nil, false
		}
		pivot(rows, leave, enter)
		basis[leave] = enter
	}
}

func TestTheAttackerSolvesWhatCanBeSolved(t *testing.T) {
	v := func(n int64) *int64 { return &n }
	s := newSystem() // a + b = 10, b + c = 7, c = 3; d + e = 2 with both at least 1; f + g = 9
	for _, name := range []string{"a", "b", "d", "e", "f", "g"} {
		s.bound(name, nil, 1)
	}
	s.publish("c", v(3))
	s.publish("ten", v(10))
	s.publish("seven", v(7))
	s.publish("two", v(2))
	s.publish("nine", v(9))
	s.equal(term{"a", 1}, term{"b", 1}, term{"ten", -1})
	s.equal(term{"b", 1}, term{"c", 1}, term{"seven", -1})
	s.equal(term{"d", 1}, term{"e", 1}, term{"two", -1})
	s.equal(term{"f", 1}, term{"g", 1}, term{"nine", -1})
	solved := map[string]bool{}
	for _, name := range s.solved(t) {
		solved[name] = true
	}
	if len(solved) != 2 || !solved["a"] || !solved["b"] {
		t.Errorf("solved by equations: %v", solved)
	}
	r := s.ranges(t)
	for name, want := range map[string][2]int64{"a": {6, 6}, "b": {4, 4}, "d": {1, 1}, "e": {1, 1}, "f": {1, 8}, "g": {1, 8}} {
		if got := r[name]; got[0].Cmp(big.NewRat(want[0], 1)) != 0 || got[1] == nil || got[1].Cmp(big.NewRat(want[1], 1)) != 0 {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}
