package pn532

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"kith/internal/card"
)

const (
	// maxAnswer bounds the answer of a card over all its chained frames, in bytes: four times the longest short APDU.
	maxAnswer = 1024
	// maxParts bounds the frames of one answer, so that a chain of empty ones ends too.
	maxParts = 8
	// exchangeData is what one InDataExchange carries to a card, in bytes (UM0701-02 section 7.3.8).
	exchangeData = 262
	// exchangeExpect is how much of an answer a bus reads at first: status and a PKOC proof with its status word. Longer
	// ones are asked for again, whole.
	exchangeExpect = 1 + 135
	listExpect     = 1 + 2*(5+10+20) // two cards with long UIDs and usual ATS

	statusMore = 0x40 // status bit: the answer goes on in the next frame (7.1)
	icPN532    = 0x32
)

// RFError is the status byte of a command that failed between chip and card (UM0701-02 section 7.1).
type RFError struct{ Status byte }

func (e RFError) Error() string {
	texts := map[byte]string{
		0x01: "card did not answer", 0x02: "CRC error", 0x03: "parity error", 0x05: "framing error", 0x06: "collision",
		0x0A: "field was not switched on", 0x0B: "RF protocol error", 0x13: "data format does not match", 0x27: "no such target",
		0x29: "target was released", 0x2A: "another card took its place", 0x2B: "card disappeared",
	}
	if text, ok := texts[e.Status]; ok {
		return fmt.Sprintf("between chip and card: %s (status %02X)", text, e.Status)
	}
	return fmt.Sprintf("between chip and card: status %02X", e.Status)
}

// configure makes a woken chip ready: SAM off, IRQ on, known to be a PN532.
func (c *chip) configure(ctx context.Context) error {
	// Normal mode; the timeout of 1 s is for virtual cards only; IRQ pin driven (7.2.10).
	if _, err := c.command(ctx, request{code: cmdSAMConfiguration, params: []byte{0x01, 0x14, 0x01}, wait: shortWait}); err != nil {
		return fmt.Errorf("SAMConfiguration: %w", err)
	}
	if err := c.resync(); err != nil {
		return err
	}
	version, err := c.command(ctx, request{code: cmdGetFirmware, wait: shortWait, expect: 4})
	if err != nil {
		return fmt.Errorf("GetFirmwareVersion: %w", err)
	}
	if len(version) != 4 || version[0] != icPN532 {
		return fmt.Errorf("firmware version of %d bytes does not begin with %02X, so this is no PN532: %w", len(version), icPN532, ErrProtocol)
	}
	return nil
}

// setRate moves chip and host to another line rate: the chip changes after our ACK to its reply (7.2.8).
func (c *chip) setRate(ctx context.Context, line rater, baud int) error {
	code, ok := rateCode(baud)
	if !ok {
		return fmt.Errorf("the chip has no rate of %d baud; use 230400, 460800 or 921600", baud)
	}
	if _, err := c.command(ctx, request{code: cmdSetBaudRate, params: []byte{code}, wait: shortWait}); err != nil {
		return fmt.Errorf("SetSerialBaudRate: %w", err)
	}
	if err := c.send(ackFrame[:]); err != nil {
		return err
	}
	time.Sleep(rateSettle)
	if err := line.SetRate(baud); err != nil {
		return fmt.Errorf("%w: %w", errDead, err)
	}
	return c.resync()
}

// rateSettle lets the ACK leave at the old rate before the line changes; once per opening, never in a tap.
const rateSettle = 2 * time.Millisecond

// rater is a transport whose line has a rate.
type rater interface{ SetRate(baud int) error }

// rateCode is the parameter of SetSerialBaudRate (7.2.8).
func rateCode(baud int) (byte, bool) {
	switch baud {
	case 115200:
		return 0x04, true
	case 230400:
		return 0x05, true
	case 460800:
		return 0x06, true
	case 921600:
		return 0x07, true
	}
	return 0, false
}

// setRetries bounds how often the chip looks for a card in one list command (RFConfiguration item 05, 7.3.1).
func (c *chip) setRetries(ctx context.Context, n int) error {
	if c.retries == n {
		return nil
	}
	if _, err := c.command(ctx, request{code: cmdRFConfiguration, params: []byte{0x05, 0xFF, 0x01, byte(n)}, wait: shortWait}); err != nil {
		return fmt.Errorf("RFConfiguration: %w", err)
	}
	c.retries = n
	return nil
}

// fieldOff stops the carrier (RFConfiguration item 01): a reader that does not listen should not power cards either.
func (c *chip) fieldOff(ctx context.Context) error {
	_, err := c.command(ctx, request{code: cmdRFConfiguration, params: []byte{0x01, 0x00}, wait: shortWait, once: true})
	return err
}

// search is one InListPassiveTarget.
type search struct {
	most    int           // targets
	retries int           // activation attempts before the chip answers "none"
	wait    time.Duration // after this the host ends it
}

// list looks for type A cards at 106 kbit/s. No card within the search's bounds is no error. The targets own their bytes.
func (c *chip) list(ctx context.Context, s search) ([]card.Target, error) {
	if err := c.setRetries(ctx, s.retries); err != nil {
		return nil, err
	}
	data, err := c.command(ctx, request{code: cmdInList, params: []byte{byte(s.most), 0x00}, wait: s.wait, expect: listExpect})
	if errors.Is(err, errNoReply) && !errors.Is(err, errDead) {
		return nil, nil // ended by us, and the chip is alive: resync had its echo
	}
	if err != nil {
		return nil, fmt.Errorf("InListPassiveTarget: %w", err)
	}
	return parseList(data, s.most)
}

// errList says that the chip reported cards in a way that cannot be read.
var errList = errors.New("list of cards does not parse")

// parseList reads the reply data of InListPassiveTarget for type A (7.3.5): the number of targets, then for each its number,
// SENS_RES, SEL_RES, the UID with its length and, from cards that take APDUs, the ATS with its length counted in.
func parseList(data []byte, most int) ([]card.Target, error) {
	if len(data) < 1 || int(data[0]) > most {
		return nil, errList
	}
	count, rest := int(data[0]), data[1:]
	if count == 0 {
		return nil, nil
	}
	targets := make([]card.Target, 0, count)
	for i := range count {
		t, tail, err := parseTarget(rest, byte(i+1))
		if err != nil {
			return nil, fmt.Errorf("target %d of %d: %w", i+1, count, err)
		}
		targets = append(targets, t)
		rest = tail
	}
	if len(rest) != 0 {
		return nil, fmt.Errorf("%d bytes after the last target: %w", len(rest), errList)
	}
	return targets, nil
}

func parseTarget(b []byte, number byte) (card.Target, []byte, error) {
	const head = 5 // Tg, SENS_RES, SEL_RES, UID length
	if len(b) < head || b[0] != number {
		return card.Target{}, nil, errList
	}
	t := card.Target{ATQA: [2]byte{b[1], b[2]}, SAK: b[3]}
	size, rest := int(b[4]), b[head:]
	if (size != 4 && size != 7 && size != 10) || size > len(rest) {
		return card.Target{}, nil, fmt.Errorf("uid of %d bytes: %w", size, errList)
	}
	t.UID, rest = bytes.Clone(rest[:size]), rest[size:]
	if t.ISODEP() && len(rest) > 0 {
		tl := int(rest[0])
		if tl < 1 || tl > len(rest) {
			return card.Target{}, nil, fmt.Errorf("ats of %d bytes: %w", tl, errList)
		}
		t.ATS, rest = bytes.Clone(rest[:tl]), rest[tl:]
	}
	return t, rest, nil
}

// exchange sends one APDU to target tg and collects the answer, over several frames if it has to (MI, 7.3.8). The APDU goes to
// the card at most once. The answer is valid until the next command.
func (c *chip) exchange(ctx context.Context, tg byte, apdu []byte, wait time.Duration) ([]byte, error) {
	if len(apdu) == 0 || len(apdu) > exchangeData {
		return nil, fmt.Errorf("apdu of %d bytes, want 1 to %d: %w", len(apdu), exchangeData, ErrTooLong)
	}
	params := append(append(make([]byte, 0, 1+exchangeData), tg), apdu...)
	c.rxBuf = c.rxBuf[:0]
	deadline := time.Now().Add(wait)
	for range maxParts {
		data, err := c.command(ctx, request{code: cmdInDataExchange, params: params, wait: time.Until(deadline), expect: exchangeExpect, once: true})
		if err != nil {
			return nil, fmt.Errorf("InDataExchange: %w", err)
		}
		if len(data) < 1 {
			return nil, fmt.Errorf("InDataExchange: reply without status: %w", ErrProtocol)
		}
		if status := data[0] &^ statusMore; status != 0 {
			return nil, RFError{Status: status}
		}
		if len(c.rxBuf)+len(data)-1 > maxAnswer {
			return nil, fmt.Errorf("answer of more than %d bytes: %w", maxAnswer, ErrProtocol)
		}
		if c.rxBuf = append(c.rxBuf, data[1:]...); data[0]&statusMore == 0 {
			return c.rxBuf, nil
		}
		params = params[:1] // no data: the call for the next part
	}
	return nil, fmt.Errorf("answer in more than %d parts: %w", maxParts, ErrProtocol)
}

// attentionWait bounds the presence check; the chip waits for the card's own frame waiting time, which phones set high.
const attentionWait = time.Second

// attention asks whether the ISO 14443-4 card is still there, without ending its activation (Diagnose test 06, 7.2.1).
func (c *chip) attention(ctx context.Context) (bool, error) {
	data, err := c.command(ctx, request{code: cmdDiagnose, params: []byte{0x06}, wait: attentionWait, expect: 1})
	switch {
	case errors.Is(err, errDead):
		return false, err
	case errors.Is(err, ErrSyntax):
		c.plainPresence = true
		return false, nil
	case err != nil:
		return false, ctx.Err()
	}
	return len(data) == 1 && data[0] == 0x00, nil
}

// release lets all targets go (7.3.11). A card that left answers nothing to it, so only a dead chip is an error.
func (c *chip) release(ctx context.Context) error {
	_, err := c.command(ctx, request{code: cmdInRelease, params: []byte{0x00}, wait: time.Second, expect: 1})
	if errors.Is(err, errDead) {
		return fmt.Errorf("InRelease: %w", err)
	}
	return ctx.Err()
}

// speedUp moves target 1 to 424 kbit/s both ways where its ATS offers that (InPSL, 7.3.7; TA(1), ISO 14443-4 section 5.2.4). A
// refusal leaves the card at 106, so it is no error.
func (c *chip) speedUp(ctx context.Context, t card.Target) error {
	if !offers424(t.ATS) {
		return nil
	}
	_, err := c.command(ctx, request{code: cmdInPSL, params: []byte{0x01, 0x02, 0x02}, wait: shortWait, expect: 1, once: true})
	if errors.Is(err, errDead) {
		return fmt.Errorf("InPSL: %w", err)
	}
	return ctx.Err()
}

func offers424(ats []byte) bool {
	const hasTA, both424 = 0x10, 0x22
	return len(ats) >= 3 && ats[1]&hasTA != 0 && ats[2]&both424 == both424
}
