package chip

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Power-on values (7.2.9, 7.3.1, 7.1.2).
const (
	defaultParameters = 0x14 // automatic ATR_RES and automatic RATS
	autoRATS          = 0x10
	retriesForever    = 0xFF
	defaultExchange   = 0x0A // time-out code: 100 us * 2^(n-1) = 51.2 ms
	maxTargets        = 2    // 7.3.5: a PN532 handles two targets at most
	maxChained        = 4096 // bytes of one APDU put together by chaining
	maxReplyData      = 262  // bytes of card data in one InDataExchange reply
)

// state is what the chip remembers between commands.
type state struct {
	parameters byte
	retries    byte // MxRtyPassiveActivation
	timeout    byte // exchange time-out code
	radio      bool
	registers  map[uint16]byte // at most 65,536
	targets    []target        // at most maxTargets
	sending    []byte          // command put together by chaining, at most maxChained
	receiving  []byte          // rest of a reply longer than one frame
	rate       uint32          // terminal flag of the rate in force; 0: never changed, any will do
	nextRate   uint32          // takes effect when the host confirms; 0: no change under way
}

// target is an activated card.
type target struct {
	stay  *placed
	isodp bool // RATS was done
}

func newState() state {
	return state{
		parameters: defaultParameters,
		retries:    retriesForever,
		timeout:    defaultExchange,
		registers:  make(map[uint16]byte),
	}
}

// exchangeTimeout is how long the chip waits for a silent card.
func (s *state) exchangeTimeout() time.Duration {
	if s.timeout == 0 || s.timeout > 0x10 {
		return 0
	}
	return 100 * time.Microsecond << (s.timeout - 1)
}

// applyRate makes a rate change real when the host's ACK confirms it (7.2.9).
func (s *state) applyRate() {
	if s.nextRate != 0 {
		s.rate, s.nextRate = s.nextRate, 0
	}
}

// rateAgrees tells whether host and chip use one rate. A host that starts anew at 115200 while
// the chip stayed at a higher rate hears nothing, as with a real chip without a reset line.
func (s *state) rateAgrees(line *pty) bool {
	if s.rate == 0 {
		return true
	}
	speed := line.speed()
	return speed == s.rate || speed == unix.B0
}

// target finds an activated card by its number; nil when there is none.
func (s *state) target(tg byte) *target {
	n := int(tg&0x07) - 1
	if n < 0 || n >= len(s.targets) {
		return nil
	}
	return &s.targets[n]
}

// forget drops targets (0 means all) and any half-done exchange.
func (s *state) forget(tg byte) {
	s.sending, s.receiving = nil, nil
	if tg == 0 {
		s.targets = nil
		return
	}
	if n := int(tg) - 1; n >= 0 && n < len(s.targets) {
		s.targets = slices.Delete(s.targets, n, n+1)
	}
}
