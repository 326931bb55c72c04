package demo

import (
	"context"
	"sync"
	"time"

	"kith/simulator/chip"
)

// live lets people tap until ctx ends; the channel closes when the last hand is away from its reader.
func (d *demo) live(ctx context.Context) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		var hands sync.WaitGroup
		defer hands.Wait()
		hands.Go(func() { d.outages(ctx) })
		for _, h := range houses() {
			hands.Go(func() { d.attend(ctx, h) })
		}
		hands.Go(func() { d.see(ctx) })
		results := make(chan result, 16)
		pause := time.NewTimer(0)
		defer pause.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case r := <-results:
				d.script.done(r.move, r.let)
				delete(d.busy, r.move.place())
			case <-pause.C:
				m := d.script.next(time.Now(), true)
				if !d.busy[m.place()] {
					d.busy[m.place()] = true
					hands.Go(func() {
						act := d.hold
						if m.entry != nil {
							act = d.enter
						}
						r := result{m, act(ctx, m)}
						select {
						case results <- r:
						case <-ctx.Done():
						}
					})
				}
				pause.Reset(time.Duration(float64(movePause) * (0.3 + 1.4*d.script.rng.Float64())))
			}
		}
	}()
	return done
}

type result struct {
	move move
	let  bool
}

// hold presents a person's card at a reader, as a hand does, and says whether the lock moved.
func (d *demo) hold(ctx context.Context, m move) bool {
	field, lock := d.fields[m.edge+"/"+m.reader], d.configs[m.edge].Doors[0].ID+"/lock"
	c := chip.NewPKOC(d.key(m.who))
	watch := d.boards[m.edge].Watch()
	defer watch.Stop()
	if err := field.Place(c); err != nil {
		return false
	}
	defer field.Lift(c)
	if m.say != "" {
		d.say("%s", m.say)
	}
	short, cancel := context.WithTimeout(ctx, cardTime)
	defer cancel()
	_, err := watch.Await(short, lock, 1)
	<-short.Done() // the hand stays a moment, whatever the door says
	return err == nil
}

// outages takes one house's uplink away now and then. Its doors go on; its facts wait and catch up.
func (d *demo) outages(ctx context.Context) {
	wait := outageAfter
	for n := 0; ; n++ {
		h := houses()[n%len(houses())]
		if !sleep(ctx, wait) {
			return
		}
		d.say("the uplink of %s goes away; its doors go on deciding", h.name)
		d.cut(h, true)
		if !sleep(ctx, outageFor) {
			return
		}
		d.cut(h, false)
		d.say("the uplink of %s is back; its journal catches up", h.name)
		wait = outageEvery - outageFor
	}
}

func (d *demo) cut(h house, away bool) {
	d.mu.Lock()
	d.away[h.id] = away
	d.mu.Unlock()
	d.lines[h.id].cut(away)
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
