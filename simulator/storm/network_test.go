package storm

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// networkID names every network of these tests.
const networkID = "storm"

// answerLimit bounds what a program's page may answer, in bytes.
const answerLimit = 4 << 20

// places are the houses; edge i stands at place i.
var places = []struct{ id, name, zone string }{
	{"lisbon", "Lisbon", "Europe/Lisbon"},
	{"oaxaca", "Oaxaca", "America/Mexico_City"},
	{"chiang-mai", "Chiang Mai", "Asia/Bangkok"},
}

// network is a hub and its edges, as an operator sets them up.
type network struct {
	t     testing.TB
	bin   programs
	dir   string
	line  *line
	hub   *process
	state string // of the hub
	edges []*edge
}

// edge is one appliance with its hardware.
type edge struct {
	n    *network
	id   string
	node string
	dir  string
	proc *process
	post *post
}

// options of a network.
type options struct {
	edges     int
	retention string // of the edges' journals; "" for the default
	lenient   int    // this many of the doors, the last ones, open even when the record is late
}

// newNetwork makes a hub with edges, people, cards and grants through the command line, and starts the hub.
func newNetwork(t testing.TB, o options) *network {
	t.Helper()
	bin, err := built()
	if err != nil {
		t.Fatal(err)
	}
	n := &network{t: t, bin: bin, dir: t.TempDir()}
	n.state = filepath.Join(n.dir, "state")
	broker := freePort(t)
	config := fmt.Sprintf("network: %s\nlisten: 127.0.0.1:0\nbroker: %s\nbroker_names: [127.0.0.1]\nbackup: {every: 1h, dir: backups}\nnodes:\n", networkID, broker)
	for _, p := range places {
		config += fmt.Sprintf("  - {id: %s, name: %s, zone: %s}\n", p.id, p.name, p.zone)
	}
	write(t, n.hubConfig(), config)
	n.line = openLine(t, broker)
	t.Cleanup(n.end)
	n.startHub()
	n.hub.ready(t)
	for i := range o.edges {
		n.addEdge(i, o)
	}
	return n
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (n *network) hubConfig() string { return filepath.Join(n.dir, "hub.yaml") }

func (n *network) startHub() {
	n.hub = run(n.t, "hub", filepath.Join(n.dir, "hub.log"), n.bin.hub, "run", "--config", n.hubConfig(), "--state-dir", n.state)
}

// order gives the hub a command.
func (n *network) order(words ...string) string {
	n.t.Helper()
	return mustVerb(n.t, n.bin.hub, append(words, "--config", n.hubConfig(), "--state-dir", n.state)...)
}

// addEdge admits an edge, gives it a door and people with cards, and puts hardware there.
func (n *network) addEdge(i int, o options) {
	n.t.Helper()
	e := &edge{n: n, id: places[i].id + "-front", node: places[i].id, dir: filepath.Join(n.dir, places[i].id)}
	n.order("edge", "add", e.id, "--node", e.node, "--out", e.dir, "--hub", n.line.addr())
	strict := i < o.edges-o.lenient
	config := fmt.Sprintf("network: %s\nnode: %s\nedge: %s\nzone: %s\nclock: trusted\nidentity: identity/\nhub: %s\nlisten: 127.0.0.1:0\nboard: unix:board.sock\n",
		networkID, e.node, e.id, places[i].zone, n.line.addr())
	if o.retention != "" {
		config += "retention: " + o.retention + "\n"
	}
	config += fmt.Sprintf("doors:\n  - {id: %s, zones: [house], lock: fail-secure, egress: mechanical, pulse: %s, contact: true, exit_button: true, fire: true, allow_uid: true, strict: %t}\n",
		doorID, pulse, strict)
	config += fmt.Sprintf("readers:\n  - {id: %s, door: %s, direction: in, pn532: \"hsu:reader.tty\"}\n", readerID, doorID)
	write(n.t, e.config(), config)
	cards := newCards(n.t, byte(i+1))
	for k, c := range cards {
		id, err := c.ID()
		if err != nil {
			n.t.Fatal(err)
		}
		member := fmt.Sprintf("%s-%02d", e.node, k)
		n.order("member", "add", member, "--name", member, "--home", e.node, "--group", "members")
		n.order("card", "add", id, "--member", member)
	}
	n.order("grant", "add", "members-house", "--node", e.node, "--group", "members", "--zone", "house")
	e.post = openPost(n.t, e.dir, cards)
	n.edges = append(n.edges, e)
}

func (e *edge) config() string { return filepath.Join(e.dir, "edge.yaml") }
func (e *edge) state() string  { return filepath.Join(e.dir, "state") }

func (e *edge) start() {
	e.proc = run(e.n.t, e.id, filepath.Join(e.n.dir, e.id+".log"), e.n.bin.edge, "run", "--config", e.config())
}

// up starts every edge and waits until taps can be decided.
func (n *network) up() {
	n.t.Helper()
	for _, e := range n.edges {
		e.start()
	}
	for _, e := range n.edges {
		e.ready()
	}
}

func (e *edge) ready() {
	e.n.t.Helper()
	e.proc.ready(e.n.t)
	eventually(e.n.t, startLimit, e.id+" ready for taps", func() error {
		_, err := e.page("/readyz")
		return err
	})
}

// page asks a running edge; hub pages are asked with network.page.
func (e *edge) page(path string) (string, error) { return page(e.state(), path) }

func (n *network) page(path string) (string, error) { return page(n.state, path) }

func page(state, path string) (string, error) {
	addr, err := os.ReadFile(filepath.Join(state, "listen"))
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+strings.TrimSpace(string(addr))+path, nil)
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, answerLimit))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %.300s", path, res.Status, b)
	}
	return string(b), err
}

// status is `edge status`, which exits with 1 when something is red.
func (e *edge) status() string {
	e.n.t.Helper()
	out, _ := verb(e.n.t, e.n.bin.edge, "status", "--config", e.config())
	return out
}

// nodeEdge is what /api/v1/nodes says of an edge.
type nodeEdge struct {
	ID        string `json:"id"`
	Link      string `json:"link"`
	Size      uint64 `json:"size"`
	Receipted uint64 `json:"receipted"`
	Behind    uint64 `json:"behind"`
}

func (n *network) nodeEdge(id string) (nodeEdge, error) {
	text, err := n.page("/api/v1/nodes")
	if err != nil {
		return nodeEdge{}, err
	}
	var all struct {
		Nodes []struct {
			Edges []nodeEdge `json:"edges"`
		} `json:"nodes"`
	}
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return nodeEdge{}, err
	}
	for _, node := range all.Nodes {
		if i := slices.IndexFunc(node.Edges, func(e nodeEdge) bool { return e.ID == id }); i >= 0 {
			return node.Edges[i], nil
		}
	}
	return nodeEdge{}, fmt.Errorf("the hub shows no edge %s", id)
}

// metric reads one number of an edge's metrics page.
func (e *edge) metric(name string) (float64, error) {
	text, err := e.page("/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		var v float64
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			_, err := fmt.Sscanf(rest, "%g", &v)
			return v, err
		}
	}
	return 0, fmt.Errorf("no metric %s", name)
}

// counted is what an edge's metrics say of taps: why one did not open.
func (e *edge) counted() string {
	out := ""
	for _, what := range []string{"granted", "denied", "unreadable"} {
		n, err := e.metric("kith_taps_" + what)
		out += fmt.Sprintf("%s %g (%v) ", what, n, err)
	}
	return out
}

// caughtUp says why an edge's journal is not yet wholly receipted by the hub.
func (e *edge) caughtUp() error {
	leaves, err := e.metric("kith_journal_leaves")
	if err != nil {
		return err
	}
	receipted, err := e.metric("kith_journal_receipted_leaves")
	if err != nil {
		return err
	}
	if receipted < leaves {
		return fmt.Errorf("%s: %g of %g leaves receipted", e.id, receipted, leaves)
	}
	return nil
}

// catchUp waits until everything that happened stands in the hub.
func (n *network) catchUp(within time.Duration) {
	n.t.Helper()
	for _, e := range n.edges {
		eventually(n.t, within, e.id+" to be receipted", e.caughtUp)
	}
}

// export is the hub's export as text.
func (n *network) export() []byte {
	n.t.Helper()
	return []byte(n.order("export"))
}

// verifyAll runs verify on every journal and on the hub.
func (n *network) verifyAll() {
	n.t.Helper()
	for _, e := range n.edges {
		mustVerb(n.t, n.bin.edge, "verify", "--config", e.config())
	}
	n.order("verify")
}

// stopAll stops edges first, then the hub.
func (n *network) stopAll() {
	n.t.Helper()
	for _, e := range n.edges {
		e.proc.stop(n.t)
	}
	n.hub.stop(n.t)
}

// end takes away what a failed test left running and shows the ends of the logs.
func (n *network) end() {
	procs := []*process{n.hub}
	for _, e := range n.edges {
		procs = append(procs, e.proc)
	}
	for _, p := range procs {
		if p != nil && p.alive() {
			_ = p.kill() // the test is over
		}
	}
	if !n.t.Failed() {
		return
	}
	logs, _ := filepath.Glob(filepath.Join(n.dir, "*.log"))
	for _, path := range logs {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		n.t.Logf("%s, its last lines:\n%s", filepath.Base(path), strings.Join(lines[max(0, len(lines)-15):], "\n"))
	}
}
