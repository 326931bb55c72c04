package broker

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"kith/internal/mqtt"
	"kith/internal/wire"
)

// Limits of the router.
const (
	startTime     = 20 * time.Second // for nats-server to come up, with JetStream for the gateway's session records
	memoryStore   = 16 << 20         // bytes JetStream may hold in memory
	diskStore     = 256 << 20        // bytes JetStream may hold on disk: a record of about 200 per session
	headerRoom    = 4 << 10          // bytes nats adds to a payload: it counts its own headers
	spareClients  = 16               // in-process and internal clients beside the sessions
	edgeSubs      = 4                // subscriptions of one MQTT client
	scratchName   = "nats"           // directory below Options.Dir
	loopback      = "127.0.0.1"
	innerDialTime = 5 * time.Second
)

// router is the embedded nats-server with the hub's own connection to it.
//
// It has no client port, no monitoring port and no cluster port. Its MQTT port is on the loopback address and answers
// only connections that the porch announced, by their source port, just before: nobody else can send from that port
// while the porch's socket holds it.
type router struct {
	server *server.Server
	conn   *nats.Conn
	port   int
	token  string

	mu       sync.Mutex
	expected map[string]string // source address of a porch connection -> edge
}

func openRouter(ctx context.Context, dir string, l Limits, log *slog.Logger, deliver func(string, []byte)) (*router, error) {
	scratch := filepath.Join(dir, scratchName)
	// Nothing in it is worth keeping, and a torn file of a crash must not keep the hub from starting.
	if err := os.RemoveAll(scratch); err != nil {
		return nil, fmt.Errorf("emptying %s: %w", scratch, err)
	}
	if err := os.MkdirAll(scratch, 0o700); err != nil {
		return nil, fmt.Errorf("making %s: %w", scratch, err)
	}
	r := &router{token: rand.Text(), expected: make(map[string]string)}
	opts := &server.Options{
		ServerName:                 "kith",
		DontListen:                 true,
		NoSigs:                     true,
		JetStream:                  true,
		StoreDir:                   scratch,
		JetStreamMaxMemory:         memoryStore,
		JetStreamMaxStore:          diskStore,
		MaxPayload:                 int32(l.Message + mqtt.Overhead + headerRoom),
		MaxPending:                 int64(2*l.UpTotal + l.DownBytes),
		MaxConn:                    l.Sessions + l.HalfOpenTotal + spareClients,
		MaxSubs:                    0,
		WriteDeadline:              l.WriteTime,
		AuthTimeout:                l.ConnectTime.Seconds(),
		CustomClientAuthentication: r,
		MQTT:                       server.MQTTOpts{Host: loopback, Port: -1, AuthTimeout: l.ConnectTime.Seconds()},
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("making the router: %w", err)
	}
	s.SetLoggerV2(natsLog{log}, false, false, false)
	r.server = s
	s.Start()
	if !s.ReadyForConnections(startTime) {
		r.close()
		return nil, errors.New("starting the router: not ready in time")
	}
	r.port = opts.MQTT.Port
	if err := r.connect(deliver); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *router) connect(deliver func(string, []byte)) error {
	conn, err := nats.Connect("", nats.InProcessServer(r.server), nats.Token(r.token), nats.NoReconnect(), nats.Name("hub"))
	if err != nil {
		return fmt.Errorf("connecting to the router: %w", err)
	}
	r.conn = conn
	sub, err := conn.Subscribe(subject(wire.UpTopic("*")), func(m *nats.Msg) {
		if edge, ok := edgeOf(m.Subject); ok {
			deliver(edge, m.Data)
		}
	})
	if err != nil {
		return fmt.Errorf("subscribing to edges: %w", err)
	}
	// The porch's budget bounds what can wait here; a second bound would only lose messages.
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return fmt.Errorf("subscribing to edges: %w", err)
	}
	return conn.Flush()
}

func (r *router) publish(subject string, payload []byte) error {
	return r.conn.Publish(subject, payload)
}

func (r *router) close() {
	if r.conn != nil {
		r.conn.Close()
	}
	r.server.Shutdown()
	r.server.WaitForShutdown()
}

// dial opens a connection to the MQTT gateway on which only edge can log in.
func (r *router) dial(edge string) (net.Conn, error) {
	d := net.Dialer{Timeout: innerDialTime}
	conn, err := d.Dial("tcp", net.JoinHostPort(loopback, strconv.Itoa(r.port)))
	if err != nil {
		return nil, fmt.Errorf("reaching the router: %w", err)
	}
	r.mu.Lock()
	r.expected[conn.LocalAddr().String()] = edge
	r.mu.Unlock()
	return conn, nil
}

// forget withdraws the announcement of a connection that never logged in.
func (r *router) forget(conn net.Conn) {
	r.mu.Lock()
	delete(r.expected, conn.LocalAddr().String())
	r.mu.Unlock()
}

// Check implements server.Authentication: the hub by its token over the in-process pipe, an edge by the announcement of
// the porch, once. Everyone else is turned away.
func (r *router) Check(c server.ClientAuthentication) bool {
	remote := c.RemoteAddress()
	if remote == nil {
		return false
	}
	if remote.Network() == "pipe" {
		return subtle.ConstantTimeCompare([]byte(c.GetOpts().Token), []byte(r.token)) == 1
	}
	r.mu.Lock()
	edge, ok := r.expected[remote.String()]
	delete(r.expected, remote.String())
	r.mu.Unlock()
	if !ok {
		return false
	}
	c.RegisterUser(&server.User{Username: edge, Permissions: rights(edge)})
	return true
}

// subject is a topic as the router spells it: the gateway maps / to a dot, and an edge id holds neither.
func subject(topic string) string { return strings.ReplaceAll(topic, "/", ".") }

func edgeOf(subject string) (string, bool) { return wire.UpEdge(strings.ReplaceAll(subject, ".", "/")) }

// rights are all that an edge may do. What is not allowed is denied.
func rights(edge string) *server.Permissions {
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: []string{subject(wire.UpTopic(edge))}},
		Subscribe: &server.SubjectPermission{Allow: []string{subject(wire.DownTopic(edge))}},
	}
}

// natsLog passes the router's warnings and errors on. Its traces would hold payloads; they are off and stay off.
type natsLog struct{ log *slog.Logger }

func (natsLog) Noticef(string, ...any) {}
func (natsLog) Debugf(string, ...any)  {}
func (natsLog) Tracef(string, ...any)  {}
func (l natsLog) Warnf(format string, args ...any) {
	l.log.Warn("router warns", "text", fmt.Sprintf(format, args...))
}
func (l natsLog) Errorf(format string, args ...any) {
	l.log.Error("router fails", "text", fmt.Sprintf(format, args...))
}
func (l natsLog) Fatalf(format string, args ...any) {
	l.log.Error("router stops", "text", fmt.Sprintf(format, args...))
}
