package peers

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"kith/edge/appliance"
	"kith/edge/reader"
	"kith/hub/exchange"
	"kith/simulator/board"
)

// fiveBytes are beginnings that declare much: an MQTT packet of 256 MiB, a TLS record and handshake of their largest
// sizes, an HTTP/2 preface, a request that never ends, noise.
var fiveBytes = map[string][]byte{
	"mqtt remaining length": {0x30, 0xff, 0xff, 0xff, 0x7f},
	"mqtt five-byte length": {0x10, 0xff, 0xff, 0xff, 0xff},
	"tls record":            {0x16, 0x03, 0x03, 0xff, 0xff},
	"http":                  []byte("POST "),
	"http2":                 []byte("PRI *"),
	"json":                  []byte("[[[[["),
	"noise":                 {0x00, 0xff, 0x80, 0x7f, 0x0a},
}

// allocBound is what five bytes may cost, in bytes, whatever they declare.
const allocBound = 1 << 20

func TestFiveHostileBytesOnAnyPortStayCheap(t *testing.T) {
	dir := t.TempDir()
	hubDir := filepath.Join(dir, "hub")
	cfg, err := exchange.Decode(filepath.Join(dir, "hub.yaml"), []byte("network: demo\nlisten: 127.0.0.1:0\nbroker: 127.0.0.1:0\n"+
		"nodes:\n  - {id: lisbon, name: Lisbon, zone: Europe/Lisbon}\n"))
	if err != nil {
		t.Fatal(err)
	}
	x, err := exchange.Open(t.Context(), cfg, exchange.Options{StateDir: hubDir})
	if err != nil {
		t.Fatal(err)
	}
	a := loneEdge(t, dir)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- x.Run(ctx) }()
	go func() { done <- a.Run(ctx) }()
	defer func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}()
	control := filepath.Join(hubDir, "control.sock")
	for range 100 {
		if _, err := os.Stat(control); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, port := range []struct{ name, network, address string }{
		{"hub's pages", "tcp", x.Addr()},
		{"hub's broker", "tcp", x.BrokerAddr()},
		{"hub's control socket", "unix", control},
		{"edge's pages", "tcp", a.Addr()},
		{"virtual board", "unix", filepath.Join(dir, "board.sock")},
	} {
		for name, bytes := range fiveBytes {
			if cost := costOf(t, port.network, port.address, bytes); cost > allocBound {
				t.Errorf("%s: %s: %d bytes allocated", port.name, name, cost)
			}
		}
	}
}

// costOf sends a beginning, waits a moment for what is allocated for it, and reads what was. Everything runs in this
// process, so it counts both ends and whatever else goes on: it can only be too high.
func costOf(t *testing.T, network, address string, b []byte) uint64 {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	_, _ = io.CopyN(io.Discard, c, 4096) // an answer, a hang-up or silence: all are fine
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// quiet is a reader in front of which nobody stands.
type quiet struct{}

func (quiet) Run(ctx context.Context, sink reader.Sink) error {
	sink.State(true, "")
	<-ctx.Done()
	return nil
}

func loneEdge(t *testing.T, dir string) *appliance.Appliance {
	t.Helper()
	b, err := board.Listen(filepath.Join(dir, "board.sock"), board.Door("door")...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	roster := "network: demo\nnode: cabin\nzone: Europe/Lisbon\nmembers:\n  - {id: ana, name: Ana, role: host}\n"
	if err := os.WriteFile(filepath.Join(dir, "roster.yaml"), []byte(roster), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := appliance.Decode(filepath.Join(dir, "edge.yaml"), []byte("network: demo\nnode: cabin\nedge: cabin-door\nzone: Europe/Lisbon\n"+
		"identity: identity\nroster: roster.yaml\nboard: unix:board.sock\ndoors:\n  - {id: door, lock: fail-secure, egress: mechanical}\n"+
		"readers:\n  - {id: reader, door: door, direction: in, pn532: \"hsu:none\"}\n"))
	if err != nil {
		t.Fatal(err)
	}
	a, err := appliance.Open(t.Context(), cfg, appliance.Options{StateDir: filepath.Join(dir, "edge"),
		Reader: func(appliance.Reader) (appliance.Presenter, error) { return quiet{}, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return a
}
