package internal

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// Some rooms can be told to misbehave, so that tests can prove that the checks notice: the sync machines by a Defects value, the
// journal by a function in its faults. No program may ever say such a word. Simulator's seeded checks may: they are such a test.
func TestNoProgramSwitchesADeliberateFaultOn(t *testing.T) {
	files := load(t)
	s := switches(files)
	for _, want := range []string{"AckOnSend", "IgnoreEpoch", "AnswerFirst", "TwoRoots"} {
		if !slices.Contains(s, want) {
			t.Errorf("no type Defects has a field %s; if the switches have moved, this test looks in the wrong place", want)
		}
	}
	hooks := 0
	for _, f := range files {
		if f.test || strings.HasPrefix(f.dir, "simulator") {
			continue
		}
		for _, what := range switchedOn(f.ast, s) {
			t.Errorf("%s: %s; only tests and simulator may", f.path, what)
		}
		if f.dir == "internal/journal" {
			ast.Inspect(f.ast, func(n ast.Node) bool {
				if spec, ok := n.(*ast.TypeSpec); ok && spec.Name.Name == "faults" && slices.Equal(fields(spec), []string{"at"}) {
					hooks++
				}
				return true
			})
		}
	}
	if hooks != 1 {
		t.Errorf("internal/journal has %d types faults with the one field at; if it has moved, this test looks in the wrong place", hooks)
	}
}

// switches are the names of all deliberate defects.
func switches(files []file) (names []string) {
	for _, f := range files {
		if f.test || strings.HasPrefix(f.dir, "simulator") {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok && spec.Name.Name == "Defects" {
				names = append(names, fields(spec)...)
			}
			return true
		})
	}
	return names
}

func fields(spec *ast.TypeSpec) (names []string) {
	if body, ok := spec.Type.(*ast.StructType); ok {
		for _, f := range body.Fields.List {
			for _, n := range f.Names {
				names = append(names, n.Name)
			}
		}
	}
	return names
}

// last is the name at the end of a.b.c, of *c, or of c itself.
func last(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.Ident:
		return e.Name
	case *ast.StarExpr:
		return last(e.X)
	case *ast.ParenExpr:
		return last(e.X)
	}
	return ""
}

// switchedOn lists the places of a file that set a switch, make a set of them, or hand out a way to. Passing on what a caller
// gave under the same name is none: the caller is looked at too.
func switchedOn(f *ast.File, names []string) (found []string) {
	isSwitch := func(name string) bool { return slices.Contains(names, name) }
	// A Broken of another type, such as the roster's error, is not meant: the file must know a room that has Defects.
	knows := f.Name.Name == "outbox" || f.Name.Name == "intake"
	for _, i := range f.Imports {
		knows = knows || i.Path.Value == `"kith/edge/outbox"` || i.Path.Value == `"kith/hub/intake"`
	}
	say := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	set := func(to string, what ast.Expr) {
		if isSwitch(to) || knows && to == "Broken" && last(what) != "Broken" {
			say("it sets %s", to)
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for i, to := range n.Lhs {
				if _, ok := to.(*ast.Ident); ok {
					continue // a variable of its own
				}
				set(last(to), n.Rhs[min(i, len(n.Rhs)-1)])
			}
		case *ast.CompositeLit:
			kind := last(n.Type)
			if kind == "Defects" || kind == "faults" && len(n.Elts) > 0 {
				say("it makes a value of %s", kind)
			}
			for _, e := range n.Elts {
				if kv, ok := e.(*ast.KeyValueExpr); ok {
					set(last(kv.Key), kv.Value)
				}
			}
		case *ast.UnaryExpr:
			if name := last(n.X); n.Op == token.AND && (isSwitch(name) || knows && name == "Broken") {
				say("it takes the address of %s", name)
			}
		case *ast.CallExpr:
			fun, ok := n.Fun.(*ast.SelectorExpr)
			if !ok {
				break
			}
			if hook, ok := fun.X.(*ast.SelectorExpr); ok && hook.Sel.Name == "at" && slices.Contains([]string{"Store", "Swap", "CompareAndSwap"}, fun.Sel.Name) {
				say("it breaks the journal's disk")
			}
		}
		return true
	})
	return found
}

func TestADeliberateFaultIsFoundHoweverItIsSwitchedOn(t *testing.T) {
	names := []string{"AckOnSend", "TwoRoots"}
	for body, bad := range map[string]bool{
		`m := outbox.New(outbox.Settings{Broken: outbox.Defects{AckOnSend: true}}); use(m)`: true,
		`m := outbox.New(outbox.Settings{Broken: d}); use(m)`:                               true,
		`s.Broken.AckOnSend = true`:                                                         true,
		`s.Boot, s.Broken = "", d`:                                                          true,
		`p := &s.Broken; use(p)`:                                                            true,
		`(*s).Broken = d`:                                                                   true,
		`var d = outbox.Defects{}`:                                                          true,
		`o.faults.at.Store(&f)`:                                                             true,
		`o.faults = &faults{at: f}`:                                                         true,
		`o.faults = &faults{}`:                                                              false,
		`s.Broken = o.Broken`:                                                               false,
		`if s.Broken.AckOnSend { use(s) }`:                                                  false,
		`Broken := 1; use(Broken)`:                                                          false,
	} {
		parsed, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x\nimport \"kith/edge/outbox\"\nfunc f() { "+body+" }\n", 0)
		if err != nil {
			t.Fatal(err)
		}
		if found := switchedOn(parsed, names); bad != (len(found) > 0) {
			t.Errorf("%s: %q", body, found)
		}
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), "x.go", "package roster\nfunc f() { st := Status{Broken: err}; use(st) }\n", 0)
	if err != nil {
		t.Fatal(err)
	}
	if found := switchedOn(parsed, names); len(found) > 0 {
		t.Errorf("an error of a roster: %q", found)
	}
}
