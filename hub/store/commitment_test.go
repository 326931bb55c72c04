package store

import (
	"errors"
	"path/filepath"
	"reflect"
	"testing"
)

func TestCommitmentNotesAreKeptOnceAndInOrder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "hub")
	s := open(t, dir)
	made := CommitmentNote{Digest: [32]byte{2}, Note: []byte("made two")}
	other := CommitmentNote{Digest: [32]byte{1}, Note: []byte("made one")}
	back := CommitmentNote{Digest: [32]byte{2}, Cancels: true, Note: []byte("two is off")}
	save := func(n CommitmentNote, want error) {
		t.Helper()
		if err := s.SaveCommitment(t.Context(), n); !errors.Is(err, want) {
			t.Fatalf("%q: %v, want %v", n.Note, err, want)
		}
	}
	save(back, ErrUnknown)
	save(made, nil)
	save(made, nil)
	save(CommitmentNote{Digest: made.Digest, Note: []byte("another word")}, ErrConflict)
	save(other, nil)
	save(back, nil)
	save(back, nil)
	save(CommitmentNote{Digest: back.Digest, Cancels: true, Note: []byte("for another reason")}, ErrConflict)
	for _, n := range []CommitmentNote{{}, {Note: make([]byte, MaxCommitmentNote+1)}} {
		if s.SaveCommitment(t.Context(), n) == nil {
			t.Errorf("a note of %d bytes was kept", len(n.Note))
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	have, err := s.Commitments(t.Context())
	if err != nil || !reflect.DeepEqual(have, []CommitmentNote{made, other, back}) {
		t.Fatalf("%+v, %v", have, err)
	}
}

func TestCommitmentNotesHaveABoundAndADigestOfTheRightSize(t *testing.T) {
	s := fresh(t)
	if _, err := s.write.Exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
		INSERT INTO commitments (digest, cancels, note) SELECT i, 0, 'x' FROM n`, MaxCommitments); err != nil {
		t.Fatal(err)
	}
	if err := s.SaveCommitment(t.Context(), CommitmentNote{Note: []byte("one more")}); err == nil {
		t.Error("there is no bound")
	}
	if _, err := s.Commitments(t.Context()); err == nil {
		t.Error("a digest of another size was read")
	}
}
