package pki

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
)

var made = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func network(t *testing.T) (*Hub, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keys")
	if err := Create(New{Dir: dir, Network: "lindens", Names: []string{"hub.lindens.example", "127.0.0.1"}, Now: made}); err != nil {
		t.Fatal(err)
	}
	h, err := OpenHub(dir)
	if err != nil {
		t.Fatal(err)
	}
	return h, dir
}

func bundle(t *testing.T, h *Hub, node, edge string) (*Edge, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), edge)
	kept, err := h.EdgeBundle(dir, node, edge, made)
	if err != nil {
		t.Fatal(err)
	}
	e, err := OpenEdge(dir)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := note.NewVerifier(kept.VKey); err != nil || v.KeyHash() != e.Signer.KeyHash() || kept.Fingerprint != Fingerprint(e.Certificate()) {
		t.Fatalf("the hub kept %+v, which is not this edge: %v", kept, err)
	}
	return e, dir
}

// handshake runs both sides over a pipe and returns what each says.
func handshake(client, server *tls.Config) (clientErr, serverErr error) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	done := make(chan error, 1)
	go func() {
		s := tls.Server(b, server)
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte{1})
		}
		b.Close()
		done <- err
	}()
	c := tls.Client(a, client)
	if clientErr = c.Handshake(); clientErr == nil {
		_, clientErr = c.Read(make([]byte, 1)) // in TLS 1.3 the server's refusal arrives after the client is done
	}
	a.Close()
	return clientErr, <-done
}

func at(t time.Time) func() time.Time { return func() time.Time { return t } }

func TestEdgeAndHubOfOneNetworkMeet(t *testing.T) {
	h, _ := network(t)
	e, _ := bundle(t, h, "lisbon", "lisbon-front")
	for _, name := range []string{"hub.lindens.example", "127.0.0.1"} {
		if ce, se := handshake(e.ClientTLS(name, at(made)), h.ServerTLS(at(made))); ce != nil || se != nil {
			t.Errorf("%s: client %v, server %v", name, ce, se)
		}
	}
	if e.Network != "lindens" || e.Node != "lisbon" || e.ID != "lisbon-front" || e.Certificate().Subject.CommonName != "lisbon-front" {
		t.Errorf("bundle is of %s/%s/%s, certificate of %s", e.Network, e.Node, e.ID, e.Certificate().Subject.CommonName)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	h, _ := network(t)
	e, _ := bundle(t, h, "lisbon", "lisbon-front")
	other, _ := network(t)
	stranger, _ := bundle(t, other, "lisbon", "lisbon-front")
	none := e.ClientTLS("127.0.0.1", at(made))
	none.Certificates = nil
	old := e.ClientTLS("127.0.0.1", at(made))
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	hubAsEdge := e.ClientTLS("127.0.0.1", at(made))
	hubAsEdge.Certificates = []tls.Certificate{h.server.tls()}
	edgeAsHub := h.ServerTLS(at(made))
	edgeAsHub.Certificates = []tls.Certificate{e.client.tls()}
	later := made.Add(EdgeLife + 2*time.Hour)
	for _, c := range []struct {
		claim          string
		client, server *tls.Config
	}{
		{"edge of another authority", stranger.ClientTLS("127.0.0.1", at(made)), h.ServerTLS(at(made))},
		{"hub of another authority", e.ClientTLS("127.0.0.1", at(made)), other.ServerTLS(at(made))},
		{"no certificate", none, h.ServerTLS(at(made))},
		{"tls 1.2", old, h.ServerTLS(at(made))},
		{"hub certificate used as an edge's", hubAsEdge, h.ServerTLS(at(made))},
		{"edge certificate used as the hub's", e.ClientTLS("127.0.0.1", at(made)), edgeAsHub},
		{"wrong server name", e.ClientTLS("elsewhere.example", at(made)), h.ServerTLS(at(made))},
		{"edge certificate expired", e.ClientTLS("127.0.0.1", at(made)), h.ServerTLS(at(later))},
		{"hub certificate expired", e.ClientTLS("127.0.0.1", at(later)), h.ServerTLS(at(made))},
	} {
		if ce, se := handshake(c.client, c.server); ce == nil && se == nil {
			t.Errorf("%s: let in", c.claim)
		}
	}
}

func TestClockOf1970DoesNotLockTheEdgeOut(t *testing.T) {
	h, _ := network(t)
	e, _ := bundle(t, h, "lisbon", "lisbon-front")
	if ce, se := handshake(e.ClientTLS("127.0.0.1", at(time.Unix(0, 0))), h.ServerTLS(at(made))); ce != nil || se != nil {
		t.Fatalf("client %v, server %v", ce, se)
	}
}

func TestHubCertificateIsRenewedInTimeAndForNewNames(t *testing.T) {
	h, dir := network(t)
	names := []string{"hub.lindens.example"}
	if did, err := h.Renew(names, made.Add(24*time.Hour)); did || err != nil {
		t.Fatalf("renewed on day one: %v %v", did, err)
	}
	if did, err := h.Renew(append(names, "new.example"), made); !did || err != nil {
		t.Fatalf("new name: %v %v", did, err)
	}
	due := RenewAt(h.Certificate())
	if did, err := h.Renew(names, due); !did || err != nil {
		t.Fatalf("due: %v %v", did, err)
	}
	h, err := OpenHub(dir)
	if err != nil {
		t.Fatal(err)
	}
	if want := due.Add(HubLife); !h.Certificate().NotAfter.Equal(want) {
		t.Errorf("on disk until %v, want %v", h.Certificate().NotAfter, want)
	}
}

func TestPrivateFilesAreOwnersOnlyAndExposedOnesRefused(t *testing.T) {
	h, hubDir := network(t)
	_, edgeDir := bundle(t, h, "lisbon", "lisbon-front")
	open := map[string]func(string) error{
		hubDir:  func(d string) error { _, err := OpenHub(d); return err },
		edgeDir: func(d string) error { _, err := OpenEdge(d); return err },
	}
	private := map[string][]string{
		hubDir:  {FileCAKey, FileHubKey, FileHubSign, FileWitSign},
		edgeDir: {FileEdgeKey, FileEdgeSign},
	}
	for dir, names := range private {
		for _, name := range names {
			path := filepath.Join(dir, name)
			info, err := os.Stat(path)
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
			}
			for _, mode := range []os.FileMode{0o640, 0o604, 0o620} {
				os.Chmod(path, mode)
				err := open[dir](dir)
				if !errors.Is(err, ErrExposed) || !strings.Contains(err.Error(), "chmod 600") {
					t.Errorf("%s at %04o: %v", name, mode, err)
				}
			}
			os.Chmod(path, 0o600)
		}
		if err := open[dir](dir); err != nil {
			t.Errorf("restored: %v", err)
		}
	}
}

func TestKeysAreNeverOverwritten(t *testing.T) {
	h, dir := network(t)
	before, _ := os.ReadFile(filepath.Join(dir, FileCAKey))
	if err := Create(New{Dir: dir, Network: "lindens", Names: []string{"x"}, Now: made}); !errors.Is(err, ErrExists) {
		t.Errorf("network twice: %v", err)
	}
	_, edgeDir := bundle(t, h, "lisbon", "lisbon-front")
	if _, err := h.EdgeBundle(edgeDir, "lisbon", "lisbon-front", made); !errors.Is(err, ErrExists) {
		t.Errorf("bundle twice: %v", err)
	}
	after, _ := os.ReadFile(filepath.Join(dir, FileCAKey))
	if !bytes.Equal(before, after) {
		t.Error("the authority's key changed")
	}
}

func TestHalfMadeDirectoryOfACrashIsReplaced(t *testing.T) {
	parent := t.TempDir()
	partial := filepath.Join(parent, ".keys.partial")
	os.MkdirAll(partial, 0o700)
	os.WriteFile(filepath.Join(partial, FileCA), []byte("torn"), 0o600)
	dir := filepath.Join(parent, "keys")
	if err := Create(New{Dir: dir, Network: "lindens", Names: []string{"x"}, Now: made}); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenHub(dir); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(parent); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

func TestMixedAndTornBundlesAreNamed(t *testing.T) {
	h, _ := network(t)
	other, _ := network(t)
	_, a := bundle(t, h, "lisbon", "lisbon-front")
	_, b := bundle(t, h, "lisbon", "lisbon-back")
	_, foreign := bundle(t, other, "lisbon", "lisbon-front")
	for _, c := range []struct{ file, from string }{
		{FileEdge, b}, {FileEdgeKey, b}, {FileEdgeSign, b}, {FileEdgeVerify, b}, {FileCA, foreign}, {FileEdgeSign, foreign},
	} {
		keep, _ := os.ReadFile(filepath.Join(a, c.file))
		info, _ := os.Stat(filepath.Join(a, c.file))
		swap, _ := os.ReadFile(filepath.Join(c.from, c.file))
		for _, data := range [][]byte{swap, keep[:len(keep)/2], nil} {
			os.WriteFile(filepath.Join(a, c.file), data, info.Mode())
			if _, err := OpenEdge(a); err == nil {
				t.Errorf("%s of %s with %d bytes accepted", c.file, filepath.Base(c.from), len(data))
			}
		}
		os.WriteFile(filepath.Join(a, c.file), keep, info.Mode())
	}
	if _, err := OpenEdge(a); err != nil {
		t.Fatal(err)
	}
}

func TestReceiptIsNotAnOrder(t *testing.T) {
	h, _ := network(t)
	e, _ := bundle(t, h, "lisbon", "lisbon-front")
	text := "kith.lindens/lisbon/lisbon-front/00\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
	both, err := note.Sign(&note.Note{Text: text}, e.Signer, h.Cosigner)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []note.Verifier{e.Verifier, e.CosignVerifier} {
		if _, err := note.Open(both, note.VerifierList(v)); err != nil {
			t.Errorf("%s: %v", v.Name(), err)
		}
	}
	if _, err := note.Open(both, note.VerifierList(e.Hub)); err == nil {
		t.Error("a receipt passed as an order of the hub")
	}
}

func TestIdsOutsideTheAlphabetAreRefused(t *testing.T) {
	h, _ := network(t)
	for _, id := range []string{"", "-a", "A", "a/b", "a.b", "a+b", "a#", "*", ">", "a b", "ä", strings.Repeat("a", 49), "a\n"} {
		if _, err := h.EdgeBundle(filepath.Join(t.TempDir(), "x"), "lisbon", id, made); err == nil {
			t.Errorf("edge %q accepted", id)
		}
	}
}

func FuzzKeyMaterial(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		parseCertificate(data)
		parseKey(data)
	})
}
