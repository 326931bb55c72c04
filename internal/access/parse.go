package access

import (
	"bytes"
	"fmt"
)

// ParseJSON reads a document strictly: unknown keys, repeated keys, keys that differ only by case, bytes after the end
// fields that stand in another order than Document's,
// and anything above MaxDocumentBytes are errors. It does not validate the content; Compile does.
func ParseJSON(b []byte) (Document, error) {
	if len(b) > MaxDocumentBytes {
		return Document{}, fmt.Errorf("parsing roster: %d bytes exceed the limit of %d", len(b), MaxDocumentBytes)
	}
	if _, err := checkShape(bytes.NewReader(b)); err != nil {
		return Document{}, fmt.Errorf("parsing roster: %w", err)
	}
	var d Document
	member, card := keep(&d)
	if err := decodeDocument(bytes.NewReader(b), &d, member, card); err != nil {
		return Document{}, fmt.Errorf("parsing roster %w", err)
	}
	return d, nil
}
