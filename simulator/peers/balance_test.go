package peers_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"kith/hub/audit"
)

// What each house keeps of a period says the same to both verifiers. Neither takes it with an amount, a byte of a path or a byte
// of the signature changed, nor with anything else that was changed.
func TestProofsOfBalanceAgreeInBothLanguages(t *testing.T) {
	python := needPython(t)
	q := newQuarter(t, 5)
	q.live(12, firstCut)
	first, _ := q.closed("month-1", nil, firstCut, false)
	q.live(12, firstCut+30)
	c, bundle := q.closed("month-2", first, firstCut+30, true)
	adopted, _ := audit.Verify(bundle)
	var what []string
	var proofs [][]byte
	add := func(name string, text []byte) { what, proofs = append(what, name), append(proofs, text) }
	var good []byte
	for _, node := range append(q.network.Nodes[:4], "pool") {
		good = made(c.Prove(node, "", audit.Signer(q.operator)))
		manifest := func(string) ([]byte, error) { return adopted.Manifest(), nil }
		if again := made(adopted.Prove(node, "", manifest)); !bytes.Equal(good, again) {
			t.Errorf("%s: the proof from the bundle has other bytes", node)
		}
		add("", good)
		add("", made(c.Prove(node, "night", audit.Signer(q.operator))))
	}
	signature := bytes.LastIndexByte(good, ' ') + 20
	amount := regexp.MustCompile(`(?m)^account .* (-?[0-9]+)$`).FindSubmatchIndex(good)[3] - 1
	path := bytes.Index(good, []byte("\npath ")) + 9
	for name, at := range map[string]int{"amount": amount, "path": path, "signature": signature} {
		bad := bytes.Clone(good)
		bad[at] = map[bool]byte{true: '1', false: '2'}[bad[at] == '2']
		add(name, bad)
	}
	for at := 0; at < len(good); at += 17 {
		bad := bytes.Clone(good)
		bad[at] ^= 1 << (at % 8)
		add(fmt.Sprintf("byte %d, %q", at, good[at]), bad)
	}
	head, rest, _ := bytes.Cut(good, []byte("kith-bundle v1"))
	signed, _, _ := strings.Cut("kith-bundle v1"+string(rest), "\n\n")
	resigned := func(old, new string) []byte {
		if !strings.Contains(signed, old) {
			t.Fatalf("no %q in the manifest", old)
		}
		return append(bytes.Clone(head), made(note.Sign(&note.Note{Text: strings.Replace(signed, old, new, 1) + "\n"}, q.operator))...)
	}
	add("signed: another period", resigned("period month-2", "period month-1"))
	add("signed: another seal", resigned("seal ", "seal 00"))
	add("signed: no file of the seal", resigned(" ledger/seal.txt", " ledger/seal2.txt"))
	add("signed: not a file", resigned("file ", "file  "))
	add("signed: files out of order", resigned(" README.md", " z.txt"))
	add("signed: another size", resigned(" ledger/seal.txt", "0 ledger/seal.txt"))
	add("no manifest", head)
	add("no accounts", bytes.Join(bytes.SplitAfter(good, []byte("\n"))[:7], nil))
	add("cut", good[:len(good)-1])
	add("an account too many", bytes.Replace(good, []byte("\nend "), []byte("\nend 1"), 1))
	for _, operator := range []string{"", q.network.Operator, first.Network.Witness} {
		options := []string{"--apart"}
		if operator != "" {
			options = append(options, "--operator", operator)
		}
		_, got := verifyBundles(t, python, proofs, options...)
		if len(got) != len(proofs) {
			t.Fatalf("%d answers for %d proofs", len(got), len(proofs))
		}
		for i, proof := range proofs {
			r := audit.VerifyBalance(proof, operator)
			var want map[string]any
			if err := json.Unmarshal(made(json.Marshal(r)), &want); err != nil {
				t.Fatal(err)
			}
			switch wrong := what[i] != "" || operator == first.Network.Witness; {
			case r.OK == wrong || got[i]["ok"] != r.OK:
				t.Errorf("%q: hub verify says %v %v, the other %v", what[i], r.OK, r.Difference, got[i])
			case r.OK && !reflect.DeepEqual(got[i], want):
				t.Errorf("proof %d: the other says\n%v\nwant\n%v", i, got[i], want)
			}
		}
	}
}

var documentedProof = regexp.MustCompile("(?s)<!-- proof of balance: oaxaca -->\n```text\n(.*?)```\n")

func TestTheDocumentedProofOfBalanceVerifiesInAnotherLanguage(t *testing.T) {
	python := needPython(t)
	page := made(os.ReadFile(filepath.Join("..", "..", "docs", "FORMATS.md")))
	proof := bytes.Clone(documentedProof.FindSubmatch(page)[1])
	for _, m := range documentedFile.FindAllSubmatch(page, -1) {
		if string(m[1]) == manifest {
			proof = append(proof, m[2]...)
		}
	}
	if code, got := verifyBundles(t, python, [][]byte{proof}); code != 0 || got[0]["node"] != "oaxaca" || len(got[0]["balances"].([]any)) != 3 {
		t.Fatalf("exit %d, %v", code, got)
	}
}
