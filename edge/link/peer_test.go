package link

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"kith/internal/mqtt"
	"kith/internal/pki"
)

// keys makes a network with one edge.
func keys(t testing.TB, names ...string) (*pki.Hub, *pki.Edge) {
	t.Helper()
	dir := t.TempDir()
	if err := pki.Create(pki.New{Dir: filepath.Join(dir, "keys"), Network: "lindens", Names: names, Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	hub, err := pki.OpenHub(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hub.EdgeBundle(filepath.Join(dir, "front"), "lisbon", "front", time.Now()); err != nil {
		t.Fatal(err)
	}
	edge, err := pki.OpenEdge(filepath.Join(dir, "front"))
	if err != nil {
		t.Fatal(err)
	}
	return hub, edge
}

// start runs a link until the test ends.
func start(t testing.TB, o Options) *Link {
	t.Helper()
	o.Edge = "front"
	l, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); l.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return l
}

func until(t testing.TB, l *Link, what string, ok func(Status) bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(l.Status()); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 10 s: %+v", what, l.Status())
		}
	}
}

// natsAt is somebody else's broker: a plain nats-server with its MQTT gateway under mutual TLS.
func natsAt(t *testing.T, cfg *tls.Config, port int) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{ServerName: "peer", DontListen: true, NoLog: true, NoSigs: true, JetStream: true,
		StoreDir: t.TempDir(), MQTT: server.MQTTOpts{Host: "127.0.0.1", Port: port, TLSConfig: cfg, TLSTimeout: 5}})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("nats-server is not ready")
	}
	return s
}

func freePort(t *testing.T) (int, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, l.Addr().String()
}

func TestLinkSpeaksWithARealBrokerAndSurvivesItsRestart(t *testing.T) {
	hub, edge := keys(t, "127.0.0.1")
	port, addr := freePort(t)
	broker := natsAt(t, hub.ServerTLS(nil), port)
	l := start(t, Options{Broker: "ssl://" + addr, TLS: edge.ClientTLS("", nil)})
	until(t, l, "first session", func(s Status) bool { return s.Up })
	if err := l.Send(t.Context(), bytes.Repeat([]byte("x"), MaxMessage)); err != nil {
		t.Error(err)
	}
	broker.Shutdown()
	broker.WaitForShutdown()
	until(t, l, "loss", func(s Status) bool { return !s.Up })
	natsAt(t, hub.ServerTLS(nil), port)
	until(t, l, "second session", func(s Status) bool { return s.Up && s.Sessions == 2 })
}

func TestHubThatIsNotOursIsRefused(t *testing.T) {
	hub, edge := keys(t, "127.0.0.1")
	other, _ := keys(t, "127.0.0.1")
	elsewhere, _ := keys(t, "hub.example")
	for name, c := range map[string]struct {
		serve  *tls.Config
		client *tls.Config
		want   string
	}{
		"another authority": {other.ServerTLS(nil), edge.ClientTLS("127.0.0.1", nil), "unknown authority"},
		"another name":      {hub.ServerTLS(nil), edge.ClientTLS("hub.example", nil), "not valid for any names"},
		"name of the address is checked by itself": {elsewhere.ServerTLS(nil), edge.ClientTLS("", nil), "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			in, err := tls.Listen("tcp", "127.0.0.1:0", c.serve)
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			go func() {
				for {
					conn, err := in.Accept()
					if err != nil {
						return
					}
					go func() { defer conn.Close(); conn.(*tls.Conn).Handshake() }()
				}
			}()
			l := start(t, Options{Broker: in.Addr().String(), TLS: c.client})
			until(t, l, "refusal", func(s Status) bool { return strings.Contains(s.Err, c.want) })
			if st := l.Status(); st.Sessions != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// maxHostile is how many bytes all goroutines together may allocate over one hostile answer, from dialling to the end of
// the session: certificates and paho's own buffers are in it.
const maxHostile = 1 << 20

// Five bytes over a real TLS connection from a hub that holds a valid certificate.
func TestHostileHubCannotMakeTheEdgeAllocate(t *testing.T) {
	hub, edge := keys(t, "127.0.0.1")
	for name, raw := range map[string][]byte{
		"publish of 256 MiB":          {0x30, 0xff, 0xff, 0xff, 0x7f},
		"suback of 256 MiB":           {0x90, 0xff, 0xff, 0xff, 0x7f},
		"largest allowed, never sent": append([]byte{0x30, 0x80, 0x80, 0x10}, 0), // 256 KiB declared, one byte sent
	} {
		t.Run(name, func(t *testing.T) {
			in, err := tls.Listen("tcp", "127.0.0.1:0", hub.ServerTLS(nil))
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			attack, gone := make(chan struct{}), make(chan struct{})
			go func() {
				conn, err := in.Accept()
				if err != nil {
					return
				}
				in.Close() // one connection is enough
				f := &far{conn: conn, in: mqtt.NewReader(conn, 1<<20)}
				f.welcome()
				<-attack
				conn.Write(raw)
				conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
				f.in.Next()
				conn.Close()
				close(gone)
			}()
			l := start(t, Options{Broker: in.Addr().String(), TLS: edge.ClientTLS("", nil)})
			until(t, l, "session", func(s Status) bool { return s.Up })
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			close(attack)
			until(t, l, "end of the session", func(s Status) bool { return !s.Up })
			<-gone
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > maxHostile {
				t.Errorf("%d bytes allocated", n)
			}
		})
	}
}
