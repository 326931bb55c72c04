package clearing

import "errors"

// Refusals of [Compile]: the input is not a case. Each comes wrapped in the place where it was found.
var (
	ErrUnit      = errors.New("foreign unit")
	ErrCut       = errors.New("dated after the cut")
	ErrAmount    = errors.New("amount is not above zero")
	ErrOverflow  = errors.New("sum does not fit")
	ErrDuplicate = errors.New("listed twice")
	ErrName      = errors.New("not a name")
	ErrSelf      = errors.New("debtor and creditor are the same node")
	ErrLimit     = errors.New("limit does not hold together")
	ErrTerms     = errors.New("terms do not hold together")
	ErrTooMany   = errors.New("more than this room handles")
)

// Refusals of [Verify]: the result is not the answer to the case.
var (
	ErrCoverage    = errors.New("lines do not cover the case")
	ErrBounds      = errors.New("discharged is outside zero and the amount")
	ErrOldestFirst = errors.New("a younger debt was discharged before an older one")
	ErrUnbalanced  = errors.New("a node's debts and claims were not reduced alike")
	ErrValue       = errors.New("a stated sum is not the sum")
	ErrStages      = errors.New("stages of the proof are missing, foreign or in another order")
	ErrNotOptimal  = errors.New("more was possible")
	ErrNotUnique   = errors.New("another answer is as good")
)

// ErrNoProof means that the solver found no answer it could prove. It is a fault of this room, never of the input.
var ErrNoProof = errors.New("no provable answer was found")

// ErrFormat is wrapped by every refusal of the decoders: the bytes are not the canonical form of anything.
var ErrFormat = errors.New("not in canonical form")
