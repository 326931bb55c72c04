package access

import "strings"

type cardKind uint8

const (
	cardInvalid cardKind = iota
	cardPKOC
	cardUID
)

const (
	pkocPrefix = "pkoc:"
	uidPrefix  = "uid:"
)

// parseCardID reads a card id text without allocating. Only lower-case hex counts: one card has exactly one text.
func parseCardID(s string) (pkoc [pkocBytes]byte, uid uidKey, kind cardKind) {
	if hex, ok := strings.CutPrefix(s, pkocPrefix); ok {
		if len(hex) == 2*pkocBytes && unhex(pkoc[:], hex) {
			return pkoc, uid, cardPKOC
		}
		return pkoc, uid, cardInvalid
	}
	hex, ok := strings.CutPrefix(s, uidPrefix)
	if !ok || (len(hex) != 8 && len(hex) != 14 && len(hex) != 20) {
		return pkoc, uid, cardInvalid
	}
	n := len(hex) / 2
	uid[0] = byte(n)
	if !unhex(uid[1:1+n], hex) {
		return pkoc, uid, cardInvalid
	}
	return pkoc, uid, cardUID
}

func unhex(dst []byte, s string) bool {
	for i := range dst {
		hi, lo := nibble(s[2*i]), nibble(s[2*i+1])
		if hi > 15 || lo > 15 {
			return false
		}
		dst[i] = hi<<4 | lo
	}
	return true
}

func nibble(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}

// isSlug accepts [a-z0-9][a-z0-9-]{0,47}.
func isSlug(s string) bool {
	if s == "" || len(s) > maxSlugBytes || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}
