// Package reader owns the words between a piece of reading hardware and whoever decides about what it read: a Presentation
// goes to a Sink. Drivers (pn532, later others) live below it and turn bytes, pins and timing into these words.
//
// It promises that one tap is one Presentation, however long the card lies there and however its field flickers, and that a
// reader that stops answering is reported within two seconds (within the driver's longest exchange, if it dies inside one).
// It keeps nothing on disk; a crash forgets which card lay on the reader and nothing else. It never decides who may enter
// and never writes a card's number anywhere.
package reader

import (
	"context"
	"time"

	"kith/internal/card"
)

// Sink takes what a reader has to say. All calls come from the reader's one goroutine, never two at once, in this order:
//
//	State(true) { Felt Presented Gone | Unreadable } State(false) ...
//
// A method that blocks stops the reader, so only Presented may take longer than a moment.
type Sink interface {
	// Felt says that a card entered the field, before any exchange with it: the moment for a tick of light and sound.
	Felt()

	// Presented runs the whole transaction with the card and returns when it is decided. ctx ends when the time a
	// transaction may take is over, or the reader shuts down. A channel error is the Sink's to tell the person; the reader
	// does not call Unreadable for it.
	Presented(ctx context.Context, p Presentation)

	// Unreadable says that something was felt but no Presentation could be made of it.
	Unreadable(why string)

	// Gone ends a presentation: the card left, or the reader was away too long to know.
	Gone()

	// State says that the reader became usable or stopped being so, on change only. why is for the operator and holds no
	// card's number.
	State(up bool, why string)
}

// MaxTargets is the most cards one Presentation holds: what one reader chip keeps apart.
const MaxTargets = 2

// Presentation is what was in the field at the moment of a tap.
type Presentation struct {
	// Targets are the 1 to MaxTargets cards found.
	Targets []card.Target
	// Channels has one entry for each target, nil where it takes no APDUs. They work until Presented returns, on the
	// goroutine that called it, and give errors ever after.
	Channels []card.Channel
	// Felt is when the reader had the cards, before any exchange; it carries monotonic time.
	Felt time.Time
}
