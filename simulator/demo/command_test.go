package demo

import (
	"bytes"
	"strings"
	"testing"

	"kith/internal/command"
)

func TestATimeThatIsOverIsWrongUseAndNotForever(t *testing.T) {
	for _, args := range [][]string{{"--for", "-5s"}, {"--close", "--for", "-1ns"}} {
		var out, said bytes.Buffer
		if code := Command(t.Context(), command.Streams{Out: &out, Err: &said}, args); code != command.Usage || out.Len() > 0 || !strings.Contains(said.String(), "--for -") {
			t.Errorf("%v: exit %d: %s%s", args, code, out.String(), said.String())
		}
	}
}
