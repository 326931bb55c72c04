package audit

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"kith/hub/ledger"
	"kith/internal/pki"
)

func TestAHouseShowsItsOwnBalanceFromOneFile(t *testing.T) {
	w := newWorld(t)
	c := w.closed(w.inputs(none))
	shown := map[ledger.Account]bool{}
	for _, node := range []string{"aa", "bb", "cc", "commons"} {
		text := must(c.Prove(node, "", Signer(w.operator)))
		for _, operator := range []string{"", w.network.Operator} {
			r := VerifyBalance(text, operator)
			if !r.OK || r.Pinned != (operator != "") || r.Node != node || r.Seal != c.Report().Seal || r.Accounts != uint64(len(c.Balances)) {
				t.Fatalf("%s: %+v %v", node, r, r.Difference)
			}
			for _, b := range r.Balances {
				a := ledger.Account{Path: b.Account, Unit: b.Unit}
				if have, here := c.Balances[a]; !here || have.Balance() != b.Balance || have.Debits != b.Debits || have.Credits != b.Credits {
					t.Errorf("%s: %+v, the books have %+v", node, b, have)
				}
				shown[a] = true
			}
		}
		if r := VerifyBalance(text, newWorld(t).network.Operator); r.OK || r.Difference.Line != 5 {
			t.Errorf("under another operator's key: %+v", r.Difference)
		}
	}
	pool := ledger.CommonsPath("demo")
	for a := range c.Balances {
		if !shown[a] && a.Path != pool {
			t.Errorf("%v is in no house's proof", a)
		}
	}
	one := VerifyBalance(must(c.Prove("aa", "night", Signer(w.operator))), "")
	if !one.OK || len(one.Balances) == 0 || strings.Contains(fmt.Sprint(one.Balances), "minute") {
		t.Errorf("in one unit: %+v", one)
	}
	for _, who := range [][2]string{{"dd", ""}, {"a", ""}, {"aa", "meal"}, {"~commons", ""}, {"", ""}} {
		if _, err := c.Prove(who[0], who[1], Signer(w.operator)); err == nil {
			t.Errorf("a proof for %q", who)
		}
	}
	if _, err := must(Start(w.inputs(none), "p1")).Prove("aa", "", Signer(w.operator)); err == nil {
		t.Error("a proof before there is a seal")
	}
}

// Every bit of the file is spoken for: by the seal, by the signature, or by the one spelling.
func TestAProofOfBalanceWithOneBitTurnedIsRefused(t *testing.T) {
	w := newWorld(t)
	text := must(w.closed(w.inputs(none)).Prove("aa", "", Signer(w.operator)))
	manifest := bytes.Index(text, []byte(manifestTitle))
	for at := range text {
		bad := bytes.Clone(text)
		bad[at] ^= 1 << (at % 8)
		r := VerifyBalance(bad, "")
		if r.OK || r.Difference == nil || r.Balances != nil {
			t.Fatalf("byte %d turned from %q to %q: %+v", at, text[at], bad[at], r)
		}
		// A line of an account is named, or the one beside it that it no longer fits: a path belongs to the account above, and accounts ascend.
		line := 1 + bytes.Count(text[:at], newline)
		if d := r.Difference; at < manifest && line > proofHead && text[at] != '\n' && bad[at] != '\n' && (d.Line < line-1 || d.Line > line+2) {
			t.Fatalf("byte %d is in line %d: %v", at, line, d)
		}
	}
}

// Somebody who has the operator's key can sign another manifest; somebody who has not can only bring his own.
func TestAProofOfBalanceRestsOnTheOperatorsKeyAndOnTheSeal(t *testing.T) {
	w := newWorld(t)
	c := w.closed(w.inputs(none))
	text := string(must(c.Prove("aa", "", Signer(w.operator))))
	head, manifest, _ := strings.Cut(text, manifestTitle)
	manifest = manifestTitle + manifest
	signed, _, _ := strings.Cut(manifest, "\n\n")
	signed += "\n"
	sign := func(s note.Signer, text string) string { return string(must(Signer(s)(text))) }
	skey, vkey, err := note.GenerateKey(nil, pki.OperatorKeyName("demo"))
	if err != nil {
		t.Fatal(err)
	}
	stranger := must(note.NewSigner(skey))
	sealLine := func(text string) string {
		for line := range strings.Lines(text) {
			if strings.HasSuffix(line, " "+sealName+"\n") {
				return line
			}
		}
		return ""
	}
	lines := strings.SplitAfter(head, "\n")
	for name, bad := range map[string]string{
		"a stranger's signature under the operator's key": head + sign(stranger, signed),
		"a manifest without the seal":                     head + sign(w.operator, strings.Replace(signed, sealLine(signed), "", 1)),
		"a manifest of another seal":                      head + sign(w.operator, strings.Replace(signed, sealLine(signed), "file "+strings.Repeat("0", 64)+" 115 "+sealName+"\n", 1)),
		"the seal's file named twice":                     head + sign(w.operator, strings.Replace(signed, sealLine(signed), sealLine(signed)+sealLine(signed), 1)),
		"a manifest of another period":                    head + sign(w.operator, strings.Replace(signed, "period p1", "period p2", 1)),
		"a note that is no manifest":                      head + sign(w.operator, "kith-note v1\n"),
		"another count of accounts":                       strings.Replace(head, "accounts ", "accounts 1", 1) + manifest,
		"no account":                                      strings.Join(lines[:proofHead], "") + "end 0\n" + manifest,
		"an account twice":                                strings.Join(append(append(append([]string{}, lines[:proofHead+2]...), lines[proofHead:proofHead+2]...), lines[proofHead+2:]...), "") + manifest,
		"another house's account":                         strings.Replace(head, "node aa", "node bb", 1) + manifest,
		"two signatures":                                  text + "\u2014 x abcdefgh\n",
		"no manifest":                                     head,
		"a path without an end":                           strings.Join(lines[:proofHead+1], "") + "path" + strings.Repeat(" "+strings.Repeat("0", 64), pathMost+1) + "\n",
		"a line without an end":                           strings.Join(lines[:proofHead], "") + strings.Repeat("account ", maxProofLine),
		"nothing":                                         "",
	} {
		if r := VerifyBalance([]byte(bad), ""); r.OK || r.Difference == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
	own := strings.Replace(head, w.network.Operator, vkey, 1) + sign(stranger, signed)
	if r := VerifyBalance([]byte(own), ""); !r.OK || r.Pinned || r.Operator != vkey {
		t.Errorf("a file that is signed with its own key says nothing else, and does not claim to be pinned: %+v", r.Difference)
	}
	if r := VerifyBalance([]byte(own), w.network.Operator); r.OK {
		t.Error("a stranger's file holds under the operator's key")
	}
}

func FuzzBalanceProof(f *testing.F) {
	w := newWorld(f)
	c := w.closed(w.inputs(none))
	f.Add(must(c.Prove("aa", "", Signer(w.operator))))
	f.Add(must(c.Prove("commons", "night", Signer(w.operator))))
	f.Add([]byte(BalanceTitle + "\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, balances, d := readBalanceProof(b)
		if d == nil && (!bytes.Equal(p.appendText(nil), b) || len(balances) != len(p.accounts)) {
			t.Fatal("a second spelling was read")
		}
		if r := VerifyBalance(b, ""); r.OK == (r.Difference != nil) {
			t.Fatalf("%+v", r)
		}
	})
}
