package access

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func erasureKey() (k ErasureKey) {
	copy(k[:], "0123456789abcdef0123456789abcdef")
	return k
}

// The names are those of `printf %s fay | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef`, cut after 16 bytes.
func TestAnErasedNameIsAnHMACThatOthersComputeToo(t *testing.T) {
	for id, want := range map[string]string{"fay": "467f1591693b12d42124de539be93444", "uid:04a1b2c3d4e580": "76b6e8aa86ff973863fc12e0ef3086bb"} {
		if got := erasureKey().Name(id).String(); got != want {
			t.Errorf("%s is %s, want %s", id, got, want)
		}
	}
}

func TestARosterKnowsWhomItsHubErased(t *testing.T) {
	k := erasureKey()
	d := house()
	d.ErasureKey = hex.EncodeToString(k[:])
	for i := range 40 {
		d.Erased = append(d.Erased, k.Name(fmt.Sprint("gone-", i)).String())
	}
	slices.Sort(d.Erased)
	b, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	r, err := CompileJSON(twice(b))
	if err != nil {
		t.Fatal(err)
	}
	e := r.Erasures()
	for i := range 40 {
		if !e.Has(fmt.Sprint("gone-", i)) {
			t.Errorf("gone-%d was erased and is not known", i)
		}
	}
	if e.Has("ana") || e.Has("") || e.Has("gone-40") || e.Len() != 40 {
		t.Error("somebody who was not erased is taken for erased")
	}
	plain, err := Compile(house())
	if err != nil {
		t.Fatal(err)
	}
	if none := plain.Erasures(); none.Has("gone-1") || none.Len() != 0 || none.Digest() == e.Digest() {
		t.Error("a roster without a list knows somebody erased")
	}
	var names []ErasedName
	for i := range 40 {
		names = append(names, k.Name(fmt.Sprint("gone-", 39-i)))
	}
	if NewErasures(k, append(names, names...)).Digest() != e.Digest() {
		t.Error("the same names in another order are another list")
	}
}

func TestAListOfErasedNamesIsReadStrictly(t *testing.T) {
	k := erasureKey()
	key, a, b := hex.EncodeToString(k[:]), strings.Repeat("a", 32), strings.Repeat("b", 32)
	for want, d := range map[string]Document{
		"erasure_key: is not 64":  {ErasureKey: key[1:], Erased: []string{a}},
		"erasure_key: is not 64 ": {Erased: []string{a}},
		"erased[1]: is not above": {ErasureKey: key, Erased: []string{b, a}},
		"erased[1]: is not abov":  {ErasureKey: key, Erased: []string{a, a}},
		"erased[0]: is not 32":    {ErasureKey: key, Erased: []string{strings.ToUpper(a)}},
		"erased: 50001 exceed":    {ErasureKey: key, Erased: make([]string, MaxErased+1)},
	} {
		whole := house()
		whole.ErasureKey, whole.Erased = d.ErasureKey, d.Erased
		if _, err := Compile(whole); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}
