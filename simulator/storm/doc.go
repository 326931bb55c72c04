// Package storm owns the proof that the built programs keep their promises while they are killed, cut off, restored from
// old copies and cloned. Its tests build `edge` and `hub` once, run them as processes against virtual readers and boards
// over real sockets, write down at the board every movement of a lock, and hold that against what the hub exports.
//
// It owns no product code and keeps nothing: every network lives in a temporary directory and its processes end with the
// test. It looks into no program; what it knows, it knows from files, sockets and the commands an operator has.
package storm
