package pn532

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// errOver says that a channel was used after its presentation.
var errOver = errors.New("the presentation is over")

// channel is one ISO 14443-4 card of a presentation. It belongs to the reader's goroutine.
type channel struct {
	c    *chip
	tg   byte
	wait time.Duration // for one exchange
	lost error         // once set, every exchange ends with it
}

// Transceive sends one APDU. After an error the card is given up: a card that may have missed a command is in a state nobody
// knows, and the person can tap again faster than we could find out.
func (ch *channel) Transceive(ctx context.Context, apdu []byte) ([]byte, error) {
	if ch.lost != nil {
		return nil, ch.lost
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("no time left for the card: %w", err)
	}
	answer, err := ch.c.exchange(ctx, ch.tg, apdu, ch.wait)
	if err != nil {
		ch.lost = err
		return nil, err
	}
	return answer, nil
}
