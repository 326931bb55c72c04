package chip

import (
	"testing"

	"kith/internal/card"
)

func newPKOCCard(t testing.TB) *Card {
	t.Helper()
	key, err := card.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return NewPKOC(key)
}
