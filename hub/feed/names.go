package feed

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const upperHex = "0123456789ABCDEF"

// plainName writes a name with small letters, digits, inner hyphens, dots and tildes as they are and every other byte as
// an underscore with two hexadecimal digits. It is one to one, and what comes out means nothing in any journal format.
func plainName(s string) string {
	if s == "" {
		return "_"
	}
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '~', c == '-' && i > 0:
			b.WriteByte(c)
		default:
			b.Write([]byte{'_', upperHex[c>>4], upperHex[c&15]})
		}
	}
	return b.String()
}

// plainPath writes an account path with colons between its parts.
func plainPath(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		parts[i] = plainName(p)
	}
	return strings.Join(parts, ":")
}

// plainOrigin writes where an entry came from: as plainName, but slashes stay.
func plainOrigin(origin string) string {
	return strings.ReplaceAll(plainName(origin), "_2F", "/")
}

func isSlug(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && (c != '-' || i == 0) {
			return false
		}
	}
	return s != ""
}

// beanPart writes one part of an account for beancount: a slug with its first letter large, an account that no member
// can have in large letters only, anything else as its bytes in hexadecimal after 0X. The three cannot meet.
func beanPart(s string) string {
	if isSlug(s) {
		return strings.ToUpper(s[:1]) + s[1:]
	}
	switch s {
	case "~commons", "~conversion", "~rounding", "~due":
		return strings.ToUpper(s[1:])
	}
	return "0X" + strings.ToUpper(hex.EncodeToString([]byte(s)))
}

// beanAccounts gives every path its account. A balance in beancount covers what lies below, so a path that has something
// below it, and every node, stands in a SELF of its own.
func beanAccounts(paths []string) map[string]string {
	names := make(map[string]string, len(paths))
	for _, path := range paths {
		parts := strings.Split(path, "/")
		root := "Assets"
		if len(parts) > 1 && strings.HasPrefix(parts[1], "~") {
			root = "Equity"
		}
		name := root
		for _, p := range parts {
			name += ":" + beanPart(p)
		}
		at, _ := slices.BinarySearch(paths, path+"/")
		if root == "Assets" && len(parts) == 2 || at < len(paths) && strings.HasPrefix(paths[at], path+"/") {
			name += ":SELF"
		}
		names[path] = name
	}
	return names
}

const maxBeanUnitBytes = 24

// beanUnit writes a unit as a beancount currency: the name in large letters where that is allowed, else a name made of
// its hash. No slug turns into such a name, since those have a dot.
func beanUnit(name string) string {
	if isSlug(name) && len(name) > 1 && len(name) <= maxBeanUnitBytes && name[0] > '9' && name[len(name)-1] != '-' {
		return strings.ToUpper(name)
	}
	sum := sha256.Sum256([]byte(name))
	return "UNIT." + strings.ToUpper(hex.EncodeToString(sum[:9]))
}

// printable makes text that a person reads safe to show: no control or direction marks, no broken bytes, one line.
func printable(s string) string {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, string(utf8.RuneError))
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) {
			return ' '
		}
		return r
	}, s)
}
