package load

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// unit of a figure. Rates are better when larger, all others when smaller.
type unit string

const (
	millis  unit = "ms"
	perSec  unit = "/s"
	mebi    unit = "MiB"
	percent unit = "%"
)

// figure is one line of the table.
type figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  unit    `json:"unit"`
	Peer  string  `json:"peer,omitempty"` // what it stands beside
	Bare  float64 `json:"peer_value,omitempty"`
	Floor float64 `json:"floor,omitempty"` // promised; 0: nothing is
	Aim   float64 `json:"aim,omitempty"`
	Note  string  `json:"note,omitempty"`
	Met   string  `json:"met,omitempty"`
}

func (f *figure) judge() string {
	reached := func(bound float64) bool {
		if f.Unit == perSec {
			return f.Value >= bound
		}
		return f.Value <= bound
	}
	switch {
	case f.Floor == 0:
		return ""
	case !reached(f.Floor):
		return "NOT MET"
	case f.Aim != 0 && reached(f.Aim):
		return "aim met"
	}
	return "met"
}

func (b *bench) add(f figure) {
	f.Met = f.judge()
	b.figures = append(b.figures, f)
}

func (u unit) text(v float64) string {
	switch {
	case v == 0:
		return ""
	case u == perSec && v >= 10_000:
		return fmt.Sprintf("%.1fk/s", v/1000)
	case u == perSec:
		return fmt.Sprintf("%.0f/s", v)
	case u == millis && v < 0.001:
		return fmt.Sprintf("%.0f ns", v*1e6)
	case u == millis && v < 1:
		return fmt.Sprintf("%.3g us", v*1000)
	case u == millis && v >= 1000:
		return fmt.Sprintf("%.3g s", v/1000)
	}
	return fmt.Sprintf("%.3g %s", v, u)
}

// print writes the table, or all of it as JSON.
func (b *bench) print(out io.Writer, took time.Duration) error {
	if b.json {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(struct {
			Machine string   `json:"machine"`
			Seconds float64  `json:"seconds"`
			Short   bool     `json:"short,omitempty"`
			Figures []figure `json:"figures"`
			Missing []string `json:"missing,omitempty"`
		}{machine(), took.Seconds(), b.short, b.figures, b.missing})
	}
	fmt.Fprintln(out)
	t := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "figure\tmeasured\tbeside\t\tratio\tfloor\taim\t\t")
	for _, f := range b.figures {
		ratio := ""
		if f.Bare != 0 {
			ratio = fmt.Sprintf("%.2f", f.Value/f.Bare)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", f.Name, f.Unit.text(f.Value), f.Unit.text(f.Bare), f.Peer, ratio,
			f.Unit.text(f.Floor), f.Unit.text(f.Aim), f.Met, f.Note)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\n%.0f s, load now %s. Rates: the more the better; all else: the less. A ratio is measured / beside.\n", took.Seconds(), loadAverage())
	return err
}

// machine tells what the figures were taken on and how busy it was.
func machine() string {
	busy := ""
	var one float64
	if _, err := fmt.Sscan(loadAverage(), &one); err == nil && one > float64(runtime.NumCPU())/2 {
		busy = "; BUSY: figures are worse than the programs are, read the ratios"
	}
	return fmt.Sprintf("%d cores, %s, %s/%s, load %s%s", runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH, loadAverage(), busy)
}

func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(b))[:1], " ")
}

// quantile of unsorted times, in milliseconds.
func quantile(times []time.Duration, perMille int) float64 {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	return float64(sorted[min(len(sorted)-1, len(sorted)*perMille/1000)].Nanoseconds()) / 1e6
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(v))[len(v)/2]
}

func milliseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
