package feedback

import (
	"context"
	"sync/atomic"
	"time"
)

// Lamp drives the lights and the buzzer of a reader: "<reader>/red", "green" and "blue" take 0 or 1, "<reader>/buzzer" takes
// hertz, 0 = silent. It is called from the player's goroutine only and should return within milliseconds.
type Lamp interface {
	Set(signal string, v int) error
}

// wordQueue is how many words may wait for the player; it takes them at once, so more means that the lamp hangs.
const wordQueue = 8

// Config of one reader's voice.
type Config struct {
	Reader string // id, the first part of the signal names
	Quiet  bool   // start without sound, as at night
}

// Player speaks for one reader.
type Player struct {
	cfg    Config
	lamp   Lamp
	words  chan Utterance
	quiet  atomic.Bool
	lost   atomic.Uint64
	failed atomic.Uint64

	shown [4]int // what the lamp was last told; -1 = not known. Owned by Run.
}

// New makes a player that is silent until Run.
func New(cfg Config, lamp Lamp) *Player {
	p := &Player{cfg: cfg, lamp: lamp, words: make(chan Utterance, wordQueue), shown: [4]int{-1, -1, -1, -1}}
	p.quiet.Store(cfg.Quiet)
	return p
}

// Say plays a word now, over whatever is being said. It never waits: if the player hangs, the word is lost and counted.
func (p *Player) Say(u Utterance) {
	select {
	case p.words <- u:
	default:
		p.lost.Add(1)
	}
}

// SetQuiet turns sound off and on; light stays, so that nobody depends on hearing.
func (p *Player) SetQuiet(quiet bool) { p.quiet.Store(quiet) }

// Trouble counts words that found the player hanging and lamps that could not be set.
func (p *Player) Trouble() (lost, failed uint64) { return p.lost.Load(), p.failed.Load() }

// Run plays until ctx ends, and leaves the reader dark and silent.
func (p *Player) Run(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	defer p.show(step{})
	p.show(step{})
	var rest []step // what is still to come; the first is being shown
	var word Word   // said last, also when it has ended
	var began time.Time
	next := func() {
		if len(rest) == 0 {
			p.show(step{})
			return
		}
		p.show(rest[0])
		timer.Reset(rest[0].last)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case u := <-p.words:
			if u.Word == Working && word == Felt {
				// Felt goes on; working only follows it.
				word, rest = Working, afterFelt(p.remaining(rest, began), time.Since(began))
				timer.Stop()
				next()
				continue
			}
			if u.Word == Working && word == Working && len(rest) > 0 {
				continue
			}
			if u.Word == Locked {
				if word == Yes && len(rest) > 0 {
					shown := rest[0]
					if rest = afterYes(rest); len(rest) == 0 || rest[0] != shown {
						timer.Stop()
						next()
					}
				}
				continue
			}
			timer.Stop()
			word, rest, began = u.Word, score(u), time.Now()
			next()
		case <-timer.C:
			rest = rest[1:]
			next()
		}
	}
}

// remaining is what is left of the steps of a word that began then.
func (p *Player) remaining(rest []step, began time.Time) []step {
	if len(rest) == 0 {
		return nil
	}
	total := time.Duration(0)
	for _, s := range score(Utterance{Word: Felt}) {
		total += s.last
	}
	later := time.Duration(0)
	for _, s := range rest[1:] {
		later += s.last
	}
	out := append([]step(nil), rest...)
	out[0].last = max(0, total-time.Since(began)-later)
	return out
}

// show tells the lamp what changed. What it refused is told again with the next step.
func (p *Player) show(s step) {
	if p.quiet.Load() {
		s.hz = 0
	}
	for i, lamp := range [...]struct {
		name string
		v    int
	}{{"red", s.light.lamp(red)}, {"green", s.light.lamp(green)}, {"blue", s.light.lamp(blue)}, {"buzzer", s.hz}} {
		if p.shown[i] == lamp.v {
			continue
		}
		p.shown[i] = lamp.v
		if err := p.lamp.Set(p.cfg.Reader+"/"+lamp.name, lamp.v); err != nil {
			p.failed.Add(1)
			p.shown[i] = -1
		}
	}
}
