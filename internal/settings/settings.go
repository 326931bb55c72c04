// Package settings owns how a configuration file is read: YAML, strictly. An unknown key, a key twice or a value of the
// wrong kind is an error that names file and line, because a typo that is ignored is a door that behaves otherwise than
// its owner reads. It keeps nothing and changes no file.
package settings

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// MaxFile is the largest configuration file that is read, in bytes.
const MaxFile = 1 << 20

// maxAlias bounds what anchors and aliases may blow a small file up to: YAML allows them, configuration needs none.
const maxAlias = 0

// Error is what is wrong with one file, a line per mistake, ready to be shown on a page or a terminal.
type Error struct {
	File  string
	Lines []string
}

func (e *Error) Error() string { return e.File + ": " + strings.Join(e.Lines, "; ") }

// Load reads and decodes a file into v, which points to a struct with yaml tags.
func Load(path string, v any) error {
	b, err := Read(path)
	if err != nil {
		return err
	}
	return Decode(path, b, v)
}

// Read returns the bytes of a file, at most MaxFile of them.
func Read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	if len(b) > MaxFile {
		return nil, &Error{path, []string{fmt.Sprintf("larger than %d bytes; this is not a configuration", MaxFile)}}
	}
	return b, nil
}

// Decode is Load for bytes that are already here; name is used in messages.
func Decode(name string, b []byte, v any) error {
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return &Error{name, []string{clean(err.Error())}}
	}
	if n := aliases(&doc); n > maxAlias {
		return &Error{name, []string{"anchors and aliases (& and *) are not used in configuration; write the value out"}}
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	err := d.Decode(v)
	var typed *yaml.TypeError
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		return &Error{name, []string{"the file is empty"}}
	case errors.As(err, &typed):
		lines := make([]string, 0, len(typed.Errors))
		for _, l := range typed.Errors {
			lines = append(lines, clean(l))
		}
		return &Error{name, lines}
	default:
		return &Error{name, []string{clean(err.Error())}}
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return &Error{name, []string{"a second document (---) follows the first; only one is read"}}
	}
	return nil
}

func aliases(n *yaml.Node) int {
	count := 0
	if n.Kind == yaml.AliasNode {
		return 1
	}
	for _, c := range n.Content {
		count += aliases(c)
	}
	return count
}

// clean turns the library's words into ours: a host has fields in a file, not fields in a Go type.
func clean(s string) string {
	s = strings.TrimPrefix(s, "yaml: ")
	if i := strings.Index(s, " not found in type "); i >= 0 {
		return strings.Replace(s[:i], "field ", "unknown key ", 1)
	}
	if i := strings.Index(s, " already set in type "); i >= 0 {
		return strings.Replace(s[:i], "field ", "key given twice: ", 1)
	}
	if i := strings.Index(s, "cannot unmarshal "); i >= 0 {
		if j := strings.LastIndex(s, " into "); j > i {
			return s[:i] + "this key takes another kind of value than " + strings.TrimPrefix(s[i:j], "cannot unmarshal ")
		}
	}
	return s
}

// Duration is a time.Duration that is written with its unit: 5s, 250ms, 24h.
type Duration time.Duration

// UnmarshalYAML reads the text form and refuses negative and bare numbers.
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	v, err := time.ParseDuration(n.Value)
	if err != nil || v < 0 {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: %q is not a duration with a unit, such as 5s or 24h", n.Line, n.Value)}}
	}
	*d = Duration(v)
	return nil
}

// MarshalYAML writes the text form.
func (d Duration) MarshalYAML() (any, error) { return time.Duration(d).String(), nil }

// Or returns the duration, or what a file that leaves it out means.
func (d Duration) Or(otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return time.Duration(d)
}

// Beside resolves a path that a file names relative to that file's own directory, so that a configuration can be moved
// as a folder.
func Beside(file, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(file), path)
}

// Encode writes a value as YAML, for files that a command makes for a person to edit.
func Encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	e := yaml.NewEncoder(&buf)
	e.SetIndent(2)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("writing configuration: %w", err)
	}
	return buf.Bytes(), nil
}
