package chip

import (
	"bytes"
	"context"
	"testing"
	"time"

	pn532 "github.com/ZaparooProject/go-pn532"
	"github.com/ZaparooProject/go-pn532/transport/uart"
)

// A driver written by others, for other cards, finds ours by its number and can speak to it.
func TestGoPN532DrivesTheVirtualReader(t *testing.T) {
	t.Parallel()
	c, field := openChip(t, Options{})
	k := newPKOCCard(t)
	if err := field.Place(k); err != nil {
		t.Fatal(err)
	}
	line, err := uart.New(c.Path())
	if err != nil {
		t.Fatal(err)
	}
	device, err := pn532.New(line)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	ctx, cancel := context.WithTimeout(t.Context(), peerTime)
	defer cancel()
	if err := device.Init(ctx); err != nil {
		t.Fatal(err)
	}
	v, err := device.GetFirmwareVersion(ctx)
	if err != nil || v.Version != "1.6" {
		t.Fatalf("firmware %+v, %v", v, err)
	}
	if err := line.SetTimeout(500 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	tag, err := device.DetectTag(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if tag == nil || !bytes.Equal(tag.UIDBytes, k.UID) || tag.SAK != k.SAK {
		t.Fatalf("found %+v, want UID %x", tag, k.UID)
	}
	answer, err := device.SendDataExchange(ctx, []byte{0x00, 0xA4, 0x04, 0x00, 0x08, 0xA0, 0x00, 0x00, 0x08, 0x98, 0x00, 0x00, 0x01, 0x00})
	if err != nil || !bytes.Equal(answer, []byte{0x5C, 0x02, 0x01, 0x00, 0x90, 0x00}) {
		t.Errorf("SELECT of the PKOC application: %x, %v", answer, err)
	}
	field.Clear()
	if tag, err := device.DetectTag(ctx); err == nil && tag != nil {
		t.Errorf("an empty field holds %x", tag.UIDBytes)
	}
}
