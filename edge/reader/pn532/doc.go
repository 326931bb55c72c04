// Package pn532 owns the NXP PN532 reader chip (user manual UM0701-02): its frames, its three buses (HSU, SPI, I2C) and the
// loop that turns what it sees into presentations for an edge/reader Sink.
//
// It promises: one tap is one presentation; no answer is taken from a line on which an older answer could be under way; every
// wait, retry, buffer and length has a named bound; a silent or unplugged chip is reported within two seconds when idle, within
// the exchange's bound and half a second when it dies inside one, and is taken back into service by itself. It keeps nothing on
// disk, so a crash costs the tap under way. It never sleeps where it can wait, never decides about a card, and never logs.
//
// BUG(pn532): a card that asks for more time than ExchangeWait in one exchange cannot be told from a dead chip, because the
// PN532 answers nothing at all while it waits; such a card is unreadable here.
package pn532
