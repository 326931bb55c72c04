package access

import "strings"

const (
	pkocPrefix = "pkoc:"
	uidPrefix  = "uid:"
)

// parseCardID reads a card id text without allocating. Only lower-case hex counts: one card has exactly one text.
func parseCardID(s string) (key cardKey, ok bool) {
	hex, pkoc := strings.CutPrefix(s, pkocPrefix)
	if !pkoc {
		if hex, ok = strings.CutPrefix(s, uidPrefix); !ok {
			return key, false
		}
	}
	n := len(hex) / 2
	switch {
	case len(hex)%2 != 0:
		return key, false
	case pkoc && n != pkocBytes:
		return key, false
	case !pkoc && n != 4 && n != 7 && n != maxUIDBytes:
		return key, false
	}
	key[0] = byte(n)
	return key, unhex(key[1:1+n], hex)
}

// unhex reads two lower-case digits for each byte of dst; the caller has seen that there are as many.
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
