// Package feedback owns what a reader tells the person in front of it: five words, played as light and sound.
//
// It promises one grammar for all readers, never colour alone (the words differ in rhythm and in pitch too), that a new
// word interrupts the old one, and that a refusal looks and begins the same whatever its reason: there is no way to pass
// one in. A crash leaves lights as they were; the next start turns them off.
//
// It never decides anything and never waits for its caller.
package feedback

import (
	"slices"
	"time"
)

// Word is what can be said.
type Word int

// The five words, the warning of a door that stands open, and the end of a yes.
const (
	Felt     Word = iota + 1 // a card is in the field: you may stop pressing
	Working                  // it takes longer than 250 ms
	Yes                      // come in; lasts as long as the lock is released, and no longer once Locked is said
	NotNow                   // no; never says why
	TryAgain                 // the card could not be read
	Warning                  // the door stands open: close it before the host hears of it
	Locked                   // the lock has fallen: ends the light of a yes, and nothing else
)

// Timings of the words.
const (
	clickTime    = 5 * time.Millisecond
	tickTime     = 60 * time.Millisecond
	workingAfter = 250 * time.Millisecond
	workingPulse = 500 * time.Millisecond // on, and then off
	workingMost  = 10 * time.Second       // a gate that never answers does not pulse forever
	noteTime     = 80 * time.Millisecond
	longBlink    = 500 * time.Millisecond
	longPause    = 250 * time.Millisecond
	lowTone      = 300 * time.Millisecond
	quickBlink   = 100 * time.Millisecond
	winkTime     = 150 * time.Millisecond
	defaultHold  = 5 * time.Second
	longestHold  = 60 * time.Second
)

// Pitches in hertz.
const (
	clickHz = 2000
	firstHz = 880  // yes begins here
	nextHz  = 1319 // and rises
	lowHz   = 220  // not now
	midHz   = 587  // try again
	chirpHz = 1760
)

// Utterance is a word with what belongs to it.
type Utterance struct {
	Word Word
	Hold time.Duration // of Yes: how long the lock is released; 0 = 5 s, at most 60 s
	Note bool          // of Yes: the house has something to say; a blue wink after the green
}

// light is a colour: one bit for each lamp.
type light uint8

// Colours.
const (
	dark  light = 0
	red   light = 1
	green light = 2
	blue  light = 4
	amber       = red | green
	white       = red | green | blue
)

// lamp is 1 if the lamps of a colour are lit in this light.
func (l light) lamp(colour light) int {
	if l&colour != 0 {
		return 1
	}
	return 0
}

// step is a light and a tone that last for a while.
type step struct {
	light light
	hz    int
	last  time.Duration
}

// score writes a word out. The first step begins at once, for yes and for not now alike.
func score(u Utterance) []step {
	switch u.Word {
	case Felt:
		return []step{{white, clickHz, clickTime}, {white, 0, tickTime - clickTime}}
	case Working:
		return append([]step{{dark, 0, workingAfter}}, working()...)
	case Yes:
		return yes(u)
	case NotNow:
		return []step{{red, lowHz, lowTone}, {red, 0, longBlink - lowTone}, {dark, 0, longPause}, {red, 0, longBlink}}
	case TryAgain:
		blink := []step{{amber, midHz, quickBlink}, {dark, 0, quickBlink}}
		return slices.Concat(blink, blink, blink)
	case Warning:
		chirp := []step{{amber, chirpHz, quickBlink / 2}, {dark, 0, quickBlink / 2}}
		return slices.Concat(chirp, chirp, []step{{dark, 0, longPause}}, chirp, chirp)
	}
	return nil
}

func working() []step {
	var out []step
	for t := time.Duration(0); t < workingMost; t += 2 * workingPulse {
		out = append(out, step{white, 0, workingPulse}, step{dark, 0, workingPulse})
	}
	return out
}

func yes(u Utterance) []step {
	hold := u.Hold
	if hold <= 0 {
		hold = defaultHold
	}
	hold = min(max(hold, 2*noteTime), longestHold)
	out := []step{{green, firstHz, noteTime}, {green, nextHz, noteTime}, {green, 0, hold - 2*noteTime}}
	if u.Note {
		out = append(out, step{dark, 0, winkTime}, step{blue, 0, winkTime})
	}
	return out
}

// afterYes is a yes whose lock has fallen: its notes sound to their end, and the light without them is over.
func afterYes(rest []step) []step {
	return slices.DeleteFunc(slices.Clone(rest), func(s step) bool { return s.light == green && s.hz == 0 })
}

// afterFelt lets the tick of felt end and begins to work 250 ms after the card was felt, not after the gate said so.
func afterFelt(rest []step, since time.Duration) []step {
	out := slices.Clone(rest)
	var left time.Duration
	for _, s := range rest {
		left += s.last
	}
	if wait := workingAfter - since - left; wait > 0 {
		out = append(out, step{dark, 0, wait})
	}
	return append(out, working()...)
}
