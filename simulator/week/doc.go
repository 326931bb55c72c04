// Package week owns the long runs of the assembled house: a virtual week of production edges and hub in one bubble of
// fake time, the same week in a few seconds over the real broker, full disks, restarts and broken files.
//
// It holds tests only. Nothing here is product code and nothing imports it; what it replaces is hardware (a board and a
// reader in memory) and, in the bubble, the two ends of a session. Everything else is what `edge run` and `hub run`
// assemble. It decides nothing and keeps nothing when a test has ended.
package week
