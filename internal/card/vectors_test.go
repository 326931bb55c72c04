package card

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
)

type vectors struct {
	Signatures []struct {
		ID        string
		Key       string `json:"public_key_uncompressed"`
		TxID      string `json:"transaction_id"`
		Signature string `json:"signature_raw_rs"`
		Response  string `json:"authenticate_response"`
		X         string `json:"credential_v1_x"`
		Valid     bool
	} `json:"signature_vectors"`
	APDU []struct {
		ID, Command, Response, Payload string
	}
	Derivation []struct {
		Key string `json:"public_key_uncompressed"`
		X   string `json:"credential_v1"`
	}
	Payloads []struct{ ID, Payload string } `json:"osdp_payloads"`
	Reject   []struct{ ID, From string }
}

func load(t testing.TB) vectors {
	t.Helper()
	text, err := os.ReadFile("testdata/pkoc.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Signatures) == 0 || len(v.APDU) < 3 || len(v.Reject) < 3 {
		t.Fatal("vectors are missing from testdata/pkoc.json")
	}
	return v
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// script answers each command with the next of its answers and keeps what it was sent.
type script struct {
	answers [][]byte
	sent    [][]byte
	err     error // after the answers
}

func (s *script) Transceive(_ context.Context, apdu []byte) ([]byte, error) {
	s.sent = append(s.sent, bytes.Clone(apdu))
	if len(s.answers) == 0 {
		if s.err == nil {
			s.err = errors.New("card is gone")
		}
		return nil, s.err
	}
	a := s.answers[0]
	s.answers = s.answers[1:]
	return a, nil
}

func apdu(t testing.TB, v vectors, id string) (command, response []byte) {
	t.Helper()
	for _, a := range v.APDU {
		if a.ID == id {
			return unhex(t, a.Command), unhex(t, a.Response)
		}
	}
	t.Fatalf("no apdu vector %q", id)
	return nil, nil
}

func TestSignatureVectorsVerify(t *testing.T) {
	for _, s := range load(t).Signatures {
		if err := Verify(unhex(t, s.Key), unhex(t, s.Signature), unhex(t, s.TxID)); (err == nil) != s.Valid {
			t.Errorf("%s: Verify = %v, want valid %v", s.ID, err, s.Valid)
		}
	}
}

func TestProveSpeaksTheRecordedConversation(t *testing.T) {
	v := load(t)
	sel, selAnswer := apdu(t, v, "select")
	auth, _ := apdu(t, v, "authenticate-example")
	s := v.Signatures[0]
	ch := &script{answers: [][]byte{selAnswer, unhex(t, s.Response)}}
	var id [16]byte
	copy(id[:], unhex(t, s.TxID))
	var reader ReaderID
	copy(reader.Site[:], unhex(t, "CAFEDEED030303030303030303030303"))
	copy(reader.Location[:], unhex(t, "03030303030303030303030303030303"))
	cred, proof, err := Prove(t.Context(), ch, reader, &id)
	if err != nil {
		t.Fatal(err)
	}
	if len(ch.sent) != 2 || !bytes.Equal(ch.sent[0], sel) || !bytes.Equal(ch.sent[1], auth) {
		t.Errorf("sent %X, want %X and %X", ch.sent, sel, auth)
	}
	if cred.ID() != "pkoc:"+strings.ToLower(s.X) {
		t.Errorf("credential %s, want X %s", cred.ID(), s.X)
	}
	if !bytes.Equal(proof.Signature, unhex(t, s.Signature)) || !bytes.Equal(proof.PublicKey, unhex(t, s.Key)) || !bytes.Equal(proof.TransactionID, id[:]) {
		t.Errorf("proof %+v does not hold the recorded evidence", proof)
	}
}

func TestCardSideTakesTheRecordedCommands(t *testing.T) {
	v := load(t)
	sel, selAnswer := apdu(t, v, "select")
	auth, _ := apdu(t, v, "authenticate-example")
	for name, command := range map[string][]byte{"with Le": auth, "without Le": auth[:len(auth)-1]} {
		c := newCard(t)
		if got := c.Transceive(sel); !bytes.Equal(got, selAnswer) {
			t.Errorf("%s: SELECT gives %X, want %X", name, got, selAnswer)
		}
		got := c.Transceive(command)
		if len(got) != 135 || !bytes.HasSuffix(got, []byte{0x90, 0x00}) {
			t.Fatalf("%s: AUTHENTICATE gives %X", name, got)
		}
		if err := Verify(got[2:67], got[69:133], unhex(t, v.Signatures[0].TxID)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The TLVs that OSDP readers send stand in another order, behind the message head E1 00 01 and before the OSDP sequence FD 03,
// which has no length and is no TLV.
func TestCardSideTakesTheOSDPOrder(t *testing.T) {
	for _, a := range load(t).APDU {
		if a.ID != "authenticate-tlv-order-osdp" {
			continue
		}
		tlvs := bytes.TrimSuffix(unhex(t, a.Payload)[3:], []byte{0xFD, 0x03})
		id, sw := parseCommand(append([]byte{0x80, 0x80, 0x00, 0x01, byte(len(tlvs))}, tlvs...))
		if sw != statusOK || hex.EncodeToString(id) != "000102030405060708090a0b0c0d0e0f" {
			t.Errorf("id %x, status %04X", id, sw)
		}
		return
	}
	t.Fatal("vector is missing")
}

// Tag 4C of the OSDP answer stands behind key and signature and is unknown here. FD 03 FB 02 at its end is OSDP's, no TLV.
func TestReaderSideSkipsTheTagsOfTheOSDPAnswer(t *testing.T) {
	v := load(t)
	for _, p := range v.Payloads {
		if p.ID != "auth-response" {
			continue
		}
		key, sig, err := parseAuthenticate(bytes.TrimSuffix(unhex(t, p.Payload)[1:], []byte{0xFD, 0x03, 0xFB, 0x02}))
		if err != nil || Verify(key, sig, unhex(t, v.Signatures[0].TxID)) != nil {
			t.Errorf("key %x signature %x: %v", key, sig, err)
		}
		return
	}
	t.Fatal("vector is missing")
}

func TestDerivationVectorsNameTheX(t *testing.T) {
	for _, d := range load(t).Derivation {
		key := unhex(t, d.Key)
		c, err := ParseID("pkoc:" + strings.ToLower(d.X))
		if err != nil || !bytes.Equal(c.Key, key[1:33]) {
			t.Errorf("%s: %v", d.X, err)
		}
	}
}

func TestRejectVectorsAreRejected(t *testing.T) {
	v := load(t)
	_, selAnswer := apdu(t, v, "select")
	s := v.Signatures[0]
	var id [16]byte
	copy(id[:], unhex(t, s.TxID))
	for _, r := range v.Reject {
		answer, ask := unhex(t, s.Response), id
		var want error
		switch r.ID {
		case "sig-bit":
			answer[len(answer)-3] ^= 0x01
			want = ErrSignature
		case "replay":
			ask[15] ^= 0x01
			want = ErrSignature
		case "status":
			answer = []byte{0x69, 0x85}
			want = StatusError{Step: "AUTHENTICATE", SW: 0x6985}
		default:
			t.Fatalf("reject vector %q is not understood", r.ID)
		}
		_, _, err := Prove(t.Context(), &script{answers: [][]byte{selAnswer, answer}}, ReaderID{}, &ask)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", r.ID, err, want)
		}
	}
}
