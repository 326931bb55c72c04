package health

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// Limits of asking a running program.
const (
	askWait  = 5 * time.Second // for it to answer
	askLimit = 8 << 20         // bytes of its answer
)

// Ask writes the health of a running program to w, as text or as the JSON it answered with, and says whether all is well.
// place is the file in its state directory that says where its pages are.
func Ask(ctx context.Context, place string, w io.Writer, asJSON bool) (well bool, err error) {
	addr, err := os.ReadFile(place)
	if err != nil {
		return false, fmt.Errorf("nothing has run with this state directory: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+strings.TrimSpace(string(addr))+"/health", nil)
	if err != nil {
		return false, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, fmt.Errorf("no answer; is it running? %w", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, askLimit))
	if err != nil {
		return false, err
	}
	text := strings.TrimSpace(string(body)) + "\n"
	if !asJSON {
		var r Report
		if err := json.Unmarshal(body, &r); err != nil {
			return false, fmt.Errorf("reading the answer: %w", err)
		}
		text = r.Text()
	}
	_, err = io.WriteString(w, text)
	return res.StatusCode == http.StatusOK, err
}
