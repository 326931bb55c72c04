package appliance

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/note"

	"kith/internal/bulletin"
	"kith/internal/pki"
)

// keys are who this edge is and whom it believes. A lone edge has only its own pair.
type keys struct {
	signer   note.Signer
	verifier note.Verifier
	witness  note.Verifier // nil for a lone edge
	hub      bulletin.Keys // nil for a lone edge
	tls      func(server string) *tls.Config
	made     time.Time // certainly in the past
}

func (a *Appliance) openIdentity(context.Context) error {
	if a.cfg.Hub == "" {
		s, v, err := pki.OpenLone(a.cfg.Identity, a.cfg.Network, a.cfg.Node, a.cfg.Edge)
		a.keys = keys{signer: s, verifier: v}
		return err
	}
	id, err := pki.OpenEdge(a.cfg.Identity)
	if err != nil {
		return err
	}
	if id.Network != a.cfg.Network || id.Node != a.cfg.Node || id.ID != a.cfg.Edge {
		return fmt.Errorf("%s is the identity of %s/%s/%s, and the configuration is for %s/%s/%s",
			a.cfg.Identity, id.Network, id.Node, id.ID, a.cfg.Network, a.cfg.Node, a.cfg.Edge)
	}
	a.keys = keys{
		signer: id.Signer, verifier: id.Verifier, witness: id.CosignVerifier, hub: note.VerifierList(id.Hub),
		made: id.Certificate().NotBefore,
		tls: func(server string) *tls.Config {
			return id.ClientTLS(server, func() time.Time { w, _, _ := a.clock(); return w })
		},
	}
	return nil
}
