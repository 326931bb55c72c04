package appliance

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// 127.0.0.7 is this machine too, and nobody else's choice.
func TestTheNoticeIsWhereItIsLookedForOrElsewhereWhenThatIsTaken(t *testing.T) {
	var now atomic.Value
	now.Store(errors.New("edge.yaml: line 3: first; line 9: other"))
	trouble := func() error { return now.Load().(error) }
	wanted, stop, err := notice("127.0.0.7:0", trouble)
	if err != nil || !strings.HasPrefix(wanted, "127.0.0.7:") {
		t.Fatalf("the wanted address was free, and the page is at %q: %v", wanted, err)
	}
	defer stop()
	other, stopOther, err := notice(wanted, trouble)
	if err != nil || other == wanted || !strings.HasPrefix(other, "127.0.0.1:") {
		t.Fatalf("the wanted address was taken, and the page is at %q: %v", other, err)
	}
	read := func(addr string) string {
		res, err := http.Get("http://" + addr + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusServiceUnavailable {
			t.Fatalf("%d %v", res.StatusCode, err)
		}
		return string(b)
	}
	for _, addr := range []string{wanted, other} {
		if text := read(addr); !strings.Contains(text, "line 3: first\n") || !strings.Contains(text, "line 9: other") {
			t.Errorf("%s says %s", addr, text)
		}
	}
	now.Store(errors.New("edge.yaml: line 4: second"))
	if text := read(other); strings.Contains(text, "first") || !strings.Contains(text, "line 4: second") {
		t.Errorf("the page says %s", text)
	}
	http.DefaultClient.CloseIdleConnections()
	stopOther()
	if _, err := http.Get("http://" + other + "/"); err == nil {
		t.Error("the page is there after its end")
	}
}
