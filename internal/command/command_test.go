package command

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

func program() (Program, *[]string) {
	var got []string
	run := func(name string) func(context.Context, Streams, []string) int {
		return func(_ context.Context, s Streams, args []string) int {
			f := Flags(s, name)
			json := f.Bool("json", false, "print JSON")
			plain, code, ok := Parse(s, f, args, 1)
			if !ok {
				return code
			}
			got = append([]string{name}, plain...)
			if *json {
				got = append(got, "json")
			}
			return OK
		}
	}
	return Program{"hub", "test", []Verb{{Name: "edge", Run: run("edge")}, {Name: "edge add", Help: "adds", Run: run("edge add")}, {Name: "run", Run: run("run")}}}, &got
}

func TestTheLongestVerbWinsAndFlagsStandAnywhere(t *testing.T) {
	for args, want := range map[string]string{
		"edge add x --json": "edge add x json",
		"edge add --json x": "edge add x json",
		"edge x":            "edge x",
		"run":               "run",
	} {
		p, got := program()
		var out, errs bytes.Buffer
		if code := p.Run(t.Context(), Streams{Out: &out, Err: &errs}, strings.Fields(args)); code != OK || strings.Join(*got, " ") != want {
			t.Errorf("%s: %d %v %s", args, code, *got, &errs)
		}
	}
}

func TestWrongUseIsTwoAndHelpIsZero(t *testing.T) {
	for args, want := range map[string]int{"": Usage, "dance": Usage, "run x y": Usage, "run --what": Usage, "help": OK, "--help": OK, "run --help": OK} {
		p, _ := program()
		var out, errs bytes.Buffer
		if code := p.Run(t.Context(), Streams{Out: &out, Err: &errs}, strings.Fields(args)); code != want {
			t.Errorf("%q: exit %d, want %d", args, code, want)
		}
		if out.Len()+errs.Len() == 0 {
			t.Errorf("%q: said nothing", args)
		}
	}
}

func TestHelpShowsTheFormOfOneVerbAndOfItsKin(t *testing.T) {
	p := Program{"hub", "test", []Verb{
		{Name: "run", Args: "--config FILE", Help: "works", Run: func(_ context.Context, s Streams, args []string) int {
			f := Flags(s, "hub run")
			f.String("config", "hub.yaml", "configuration `FILE`")
			_, code, _ := Parse(s, f, args, 0)
			return code
		}},
		{Name: "card add", Args: "CARD", Help: "gives"}, {Name: "card list", Help: "lists"}}}
	for args, want := range map[string]struct {
		code      int
		out, errs string
	}{
		"run --help":    {OK, "  hub run --config FILE\n        works\n\n  --config FILE\n        configuration FILE (default hub.yaml)\n", ""},
		"run --what":    {Usage, "", "hub run: flag provided but not defined: -what; \"hub run --help\" shows its flags\n"},
		"dance":         {Usage, "", "hub: unknown command \"dance\"; \"hub help\" lists them all\n"},
		"card --help":   {OK, "hub: test\n\n  hub card add CARD\n        gives\n  hub card list\n        lists\n\nhub COMMAND --help shows its flags. Exit codes: 0 ok, 1 failed, 2 wrong use.\n", ""},
		"card remove x": {Usage, "", "hub: unknown command \"card remove\"; \"hub help\" lists them all\n\nhub: test\n\n  hub card add CARD\n        gives\n  hub card list\n        lists\n\nhub COMMAND --help shows its flags. Exit codes: 0 ok, 1 failed, 2 wrong use.\n"},
	} {
		var out, errs bytes.Buffer
		if code := p.Run(t.Context(), Streams{Out: &out, Err: &errs}, strings.Fields(args)); code != want.code || out.String() != want.out || errs.String() != want.errs {
			t.Errorf("%s: %d\n%s\n%s", args, code, &out, &errs)
		}
	}
}
