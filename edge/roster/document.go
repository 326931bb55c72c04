package roster

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"kith/internal/bulletin"
)

// Document is the text of one roster on its way to be in force, with the note that vouches for it: in a file beside the one
// in force, or in memory while the disk takes none. Its bytes are proved as they come, and again as they are read back when it
// is installed. One goroutine owns it.
type Document struct {
	head  []byte   // the note and one more newline, as a stored file begins
	disk  disk     // where the file is
	file  file     // nil when the text is in memory
	parts [][]byte // of the text in memory
	size  int64    // bytes of text, without head
	gone  error    // why the text can be had no more
}

// newDocument begins a text on the disk, or in memory when there is none or it refuses.
func newDocument(d disk, note []byte) *Document {
	doc := &Document{head: append(bytes.Clone(note), '\n'), disk: d}
	if d == nil {
		return doc
	}
	f, err := d.Create(partsName)
	if err != nil {
		return doc
	}
	doc.file = f
	if _, err := f.Write(doc.head); err != nil {
		doc.drop()
	}
	return doc
}

// add appends a part. A disk that takes no more gives back what it has.
func (doc *Document) add(b []byte) error {
	if doc.file != nil {
		if _, err := doc.file.Write(b); err == nil {
			doc.size += int64(len(b))
			return nil
		}
		if err := doc.recall(); err != nil {
			return err
		}
	}
	doc.parts = append(doc.parts, bytes.Clone(b))
	doc.size += int64(len(b))
	return nil
}

// recall brings the text back into memory, from a file that will not be kept.
func (doc *Document) recall() error {
	if doc.file == nil {
		return nil
	}
	r := doc.read()
	for left := doc.size; left > 0; {
		b := make([]byte, min(left, bulletin.PartBytes))
		if _, err := io.ReadFull(r, b); err != nil {
			doc.parts, doc.gone = nil, fmt.Errorf("reading %s back: %w", partsName, err)
			doc.drop()
			return doc.gone
		}
		doc.parts = append(doc.parts, b)
		left -= int64(len(b))
	}
	doc.drop()
	return nil
}

// read hands out the text from its beginning.
func (doc *Document) read() io.Reader {
	if doc.file != nil {
		return io.NewSectionReader(doc.file, int64(len(doc.head)), doc.size)
	}
	return &partsReader{parts: doc.parts}
}

// partsReader reads parts one behind the other.
type partsReader struct {
	parts [][]byte
	at    int // within the first
}

func (r *partsReader) Read(b []byte) (int, error) {
	for len(r.parts) > 0 && r.at == len(r.parts[0]) {
		r.parts, r.at = r.parts[1:], 0
	}
	if len(r.parts) == 0 {
		return 0, io.EOF
	}
	n := copy(b, r.parts[0][r.at:])
	r.at += n
	return n, nil
}

// settle makes the bytes in the file durable, still beside the one in force, or brings them into memory.
func (doc *Document) settle() error {
	if doc.file == nil || doc.file.Sync() == nil {
		return nil
	}
	return doc.recall()
}

// store puts the text under a name, durably. On an error it is in memory, to be stored again later; or gone, and never will be.
func (doc *Document) store(d disk, name string) error {
	if doc.gone != nil {
		return doc.gone
	}
	if doc.file == nil {
		return replace(d, name, append([][]byte{doc.head}, doc.parts...)...)
	}
	if err := move(d, partsName, name); err != nil {
		return errors.Join(err, doc.recall())
	}
	_ = doc.file.Close() // its bytes are durable
	doc.file = nil
	return nil
}

// drop gives the file up.
func (doc *Document) drop() {
	if doc.file == nil {
		return
	}
	_ = doc.file.Close()           // its bytes count no more
	_ = doc.disk.Remove(partsName) // what stays is emptied by the next
	doc.file = nil
}
