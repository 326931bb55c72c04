package advice

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"kith/internal/event"
)

// Limits of the texts that are signed.
const (
	MaxText   = 2_048 // bytes of one text
	MaxReason = 1_024 // bytes of a reason
	idDigits  = 16    // of the digest that names a commitment for people
)

const (
	madeTitle   = "kith-commitment v1"
	cancelTitle = "kith-commitment-cancel v1"
)

// ErrText is wrapped by every refusal of a text.
var ErrText = errors.New("not the text of a commitment")

// Commitment is advice that an operator accepted: a Commitment of ValueFlows. It counts from the day of its making to Until.
type Commitment struct {
	Network string
	Made    int64 // Unix seconds
	Item
	Day, Until int32 // days since 1970-01-01
}

// Cancellation takes a commitment back.
type Cancellation struct {
	Network    string
	Commitment [32]byte // digest of its text
	At         int64    // Unix seconds
	Reason     string   // may be empty
}

// Commit makes the commitment that accepting quantity of an item promises.
func (i Item) Commit(network string, quantity, made int64) Commitment {
	day := int32(made / secondsOfDay)
	c := Commitment{Network: network, Made: made, Item: i, Day: day, Until: day + i.Do.Days()}
	c.Quantity, c.Reason = quantity, shorten(i.Reason)
	return c
}

const secondsOfDay = 24 * 60 * 60

// Digest identifies a commitment: the SHA-256 of its text.
func (c *Commitment) Digest() [32]byte { return sha256.Sum256(c.Text()) }

// Name is the commitment's id for people: the first digits of its digest.
func (c *Commitment) Name() string {
	sum := c.Digest()
	return hex.EncodeToString(sum[:])[:idDigits]
}

// Promise is what the commitment means to later advice.
func (c *Commitment) Promise() Promise {
	return Promise{Do: c.Do, Kind: c.Kind, Provider: c.Provider, Receiver: c.Receiver, Quantity: c.Quantity, Had: c.Had}
}

// Text is the one spelling of a commitment, ready to be signed.
func (c *Commitment) Text() []byte {
	b := fmt.Appendf(nil, "%s\nnetwork %s\nmade %d\ndo %s\naction %s\nresource %s\nmeasure %s\nquantity %d\nprovider %s\n",
		madeTitle, c.Network, c.Made, c.Do, c.Do.Action(), c.Kind, c.Measure, c.Quantity, c.Provider)
	if c.Receiver != "" {
		b = fmt.Appendf(b, "receiver %s\n", c.Receiver)
	}
	return fmt.Appendf(b, "day %s\nuntil %s\nhad %d\nadvice %s\nreason %s\n", date(c.Day), date(c.Until), c.Had, c.ID, c.Reason)
}

// ParseCommitment reads a text in its one spelling. It keeps at most the bytes it was given.
func ParseCommitment(text []byte) (*Commitment, error) {
	r, err := read(text, madeTitle)
	if err != nil {
		return nil, err
	}
	c := &Commitment{Network: r.id("network"), Made: r.number("made")}
	c.Do = Do(r.word("do"))
	if action := r.word("action"); rank(c.Do) < 0 || action != c.Do.Action() {
		r.fail("do %.20q with action %.20q", c.Do, action)
	}
	c.Kind, c.Measure, c.Quantity, c.Provider = r.id("resource"), r.id("measure"), r.number("quantity"), r.id("provider")
	if c.Do != Offer {
		c.Receiver = r.id("receiver")
	}
	c.Day, c.Until, c.Had = r.day("day"), r.day("until"), r.number("had")
	c.ID, c.Reason = r.word("advice"), r.word("reason")
	if raw, err := hex.DecodeString(c.ID); err != nil || len(raw) != 8 || strings.ToLower(c.ID) != c.ID {
		r.fail("advice %.40q is no id", c.ID)
	}
	if c.Quantity < 1 || c.Quantity > MaxParts || c.Had > MaxParts || c.Until < c.Day || c.Reason == "" || c.Provider == c.Receiver {
		r.fail("a quantity of 1 to %d between two houses, a reason, and an end that is no earlier than the start are wanted", int64(MaxParts))
	}
	r.keep(CheckReason(c.Reason))
	return c, r.end(text, c.Text())
}

// Text is the one spelling of a cancellation, ready to be signed.
func (c *Cancellation) Text() []byte {
	b := fmt.Appendf(nil, "%s\nnetwork %s\ncommitment %x\nat %d\n", cancelTitle, c.Network, c.Commitment, c.At)
	if c.Reason != "" {
		b = fmt.Appendf(b, "reason %s\n", c.Reason)
	}
	return b
}

// ParseCancellation reads a text in its one spelling. It keeps at most the bytes it was given.
func ParseCancellation(text []byte) (*Cancellation, error) {
	r, err := read(text, cancelTitle)
	if err != nil {
		return nil, err
	}
	c := &Cancellation{Network: r.id("network")}
	if raw, err := hex.DecodeString(r.word("commitment")); err != nil || len(raw) != len(c.Commitment) {
		r.fail("a digest of 64 digits is wanted")
	} else {
		copy(c.Commitment[:], raw)
	}
	c.At = r.number("at")
	if len(r.lines) > 0 {
		c.Reason = r.word("reason")
	}
	r.keep(CheckReason(c.Reason))
	return c, r.end(text, c.Text())
}

// CheckReason says whether a text can stand in a note as a reason: one line, and not too long.
func CheckReason(text string) error {
	if len(text) > MaxReason || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) || strings.TrimSpace(text) != text {
		return fmt.Errorf("a reason is one line of at most %d bytes: %w", MaxReason, ErrText)
	}
	return nil
}

// shorten cuts a reason of ours, which long names of houses can make too long.
func shorten(text string) string {
	if len(text) <= MaxReason {
		return text
	}
	cut := strings.ToValidUTF8(text[:MaxReason-len("...")], "")
	return strings.TrimSpace(cut) + "..."
}

func date(day int32) string { return time.Unix(int64(day)*secondsOfDay, 0).UTC().Format(time.DateOnly) }

// lines reads one word or rest of a line after the other and keeps the first fault.
type lines struct {
	lines []string
	err   error
}

func read(text []byte, title string) (*lines, error) {
	if len(text) > MaxText || !utf8.Valid(text) {
		return nil, fmt.Errorf("%d bytes of text: %w (at most %d of UTF-8)", len(text), ErrText, MaxText)
	}
	r := &lines{lines: strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")}
	if r.lines[0] != title {
		return nil, fmt.Errorf("the first line is not %q: %w", title, ErrText)
	}
	r.lines = r.lines[1:]
	return r, nil
}

func (r *lines) keep(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *lines) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format+": %w", append(args, ErrText)...)
	}
}

func (r *lines) word(name string) string {
	if len(r.lines) == 0 {
		r.fail("%s is missing", name)
		return ""
	}
	value, ok := strings.CutPrefix(r.lines[0], name+" ")
	if !ok {
		r.fail("%.40q stands where %s should", r.lines[0], name)
	}
	r.lines = r.lines[1:]
	return value
}

func (r *lines) id(name string) string {
	value := r.word(name)
	if !event.IsID(value) {
		r.fail("%s %.60q is not an id", name, value)
	}
	return value
}

func (r *lines) number(name string) int64 {
	n, err := strconv.ParseInt(r.word(name), 10, 64)
	if err != nil || n < 0 {
		r.fail("%s is no number", name)
	}
	return n
}

func (r *lines) day(name string) int32 {
	t, err := time.Parse(time.DateOnly, r.word(name))
	if err != nil || t.Unix() < 0 {
		r.fail("%s is no date", name)
		return 0
	}
	return int32(t.Unix() / secondsOfDay)
}

// end refuses what is left over and every other spelling of the same.
func (r *lines) end(have, want []byte) error {
	if len(r.lines) > 0 {
		r.fail("%.40q is too much", r.lines[0])
	}
	if r.err == nil && string(have) != string(want) {
		r.fail("another spelling of the same")
	}
	return r.err
}
