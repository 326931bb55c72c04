// Package audit proves a closed period from its bundle alone: signatures, trees, derivation, clearing, books and seal.
//
// It owns the texts of a period (docs/FORMATS.md, "Audit bundle") and the one way from leaves to obligations, from
// obligations to a statement and from a statement to postings. The hub makes a period's texts with the functions that
// [Verify] checks them with, so that a bundle is right exactly when it can be made again from its own inputs, byte for byte.
//
// It promises to name the first file that differs, with its line wherever more than a root speaks for it, to accept one
// spelling of a bundle only, and to allocate no more than a few times the size of what it reads. It keeps no state, so a crash
// loses nothing.
//
// It has no network, no database, no clock and no goroutine. It says whether a bundle agrees with itself and with the keys
// it is given; whether those keys are the network's own is for its reader to compare.
package audit
