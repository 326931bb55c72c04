package chip

import (
	"bytes"
	"slices"
	"time"
)

// Command codes, PN532 user manual section 7.
const (
	cmdDiagnose         = 0x00
	cmdGetFirmware      = 0x02
	cmdGetStatus        = 0x04
	cmdReadRegister     = 0x06
	cmdWriteRegister    = 0x08
	cmdSetBaudRate      = 0x10
	cmdSetParameters    = 0x12
	cmdSAMConfiguration = 0x14
	cmdPowerDown        = 0x16
	cmdRFConfiguration  = 0x32
	cmdInDataExchange   = 0x40
	cmdInCommunicate    = 0x42
	cmdInDeselect       = 0x44
	cmdInList           = 0x4A
	cmdInPSL            = 0x4E
	cmdInRelease        = 0x52
	cmdInSelect         = 0x54
	cmdInAutoPoll       = 0x60
)

// Status bytes, section 7.1.
const (
	statusOK       = 0x00
	statusTimeout  = 0x01
	statusFormat   = 0x13
	statusContext  = 0x27
	statusMore     = 0x40 // more information: the reply goes on in the next frame
	autoPollPeriod = 150 * time.Millisecond
)

// execute runs a command: a reply, or else a job when the reply has to wait. Neither means a
// syntax error (7.1: error frame).
func (c *Chip) execute(code byte, p []byte) (reply []byte, wait *job) {
	s := &c.state
	switch code {
	case cmdDiagnose:
		return c.diagnose(p), nil
	case cmdGetFirmware:
		return []byte{0x32, 0x01, 0x06, 0x07}, nil // IC, version 1.6, ISO 14443 A, B and 18092
	case cmdGetStatus:
		return c.generalStatus(), nil
	case cmdReadRegister:
		return s.readRegisters(p), nil
	case cmdWriteRegister:
		return s.writeRegisters(p), nil
	case cmdSetBaudRate:
		return s.setBaudRate(p), nil
	case cmdSetParameters:
		if len(p) != 1 {
			return nil, nil
		}
		s.parameters = p[0]
		return []byte{}, nil
	case cmdSAMConfiguration:
		if len(p) < 1 || p[0] < 1 || p[0] > 4 {
			return nil, nil
		}
		return []byte{}, nil
	case cmdPowerDown:
		if len(p) < 1 {
			return nil, nil
		}
		s.forget(0)
		return []byte{statusOK}, nil
	case cmdRFConfiguration:
		return s.configureRadio(p), nil
	case cmdInList:
		return c.list(p)
	case cmdInAutoPoll:
		return c.autoPoll(p)
	case cmdInDataExchange:
		return c.exchange(p)
	case cmdInCommunicate:
		return c.communicate(p)
	case cmdInDeselect, cmdInRelease, cmdInSelect, cmdInPSL:
		return c.manage(code, p), nil
	}
	return nil, nil
}

// diagnose, section 7.2.1.
func (c *Chip) diagnose(p []byte) []byte {
	if len(p) < 1 {
		return nil
	}
	switch p[0] {
	case 0x00: // communication line: the text comes back
		return slices.Clone(p)
	case 0x01, 0x02, 0x07: // ROM, RAM, antenna
		return []byte{statusOK}
	case 0x04: // polling: number of failures
		return []byte{0x00}
	case 0x06: // is the ISO 14443-4 card still there
		t := c.state.target(1)
		if t == nil || !t.isodp {
			return []byte{statusContext}
		}
		if !c.field.holds(t.stay) {
			return []byte{statusTimeout}
		}
		return []byte{statusOK}
	}
	return nil
}

// generalStatus, section 7.2.3.
func (c *Chip) generalStatus() []byte {
	s := &c.state
	reply := []byte{0x00, 0x00, byte(len(s.targets))}
	if s.radio {
		reply[1] = 0x01
	}
	for i := range s.targets {
		reply = append(reply, byte(i+1), 0x00, 0x00, 0x00) // 106 kbit/s both ways, type A
	}
	return append(reply, 0x80) // SAM status
}

func (s *state) readRegisters(p []byte) []byte {
	if len(p) == 0 || len(p)%2 != 0 {
		return nil
	}
	reply := []byte{}
	for ; len(p) > 0; p = p[2:] {
		reply = append(reply, s.registers[uint16(p[0])<<8|uint16(p[1])])
	}
	return reply
}

func (s *state) writeRegisters(p []byte) []byte {
	if len(p) == 0 || len(p)%3 != 0 {
		return nil
	}
	for ; len(p) > 0; p = p[3:] {
		s.registers[uint16(p[0])<<8|uint16(p[1])] = p[2]
	}
	return []byte{}
}

func (s *state) setBaudRate(p []byte) []byte {
	if len(p) != 1 {
		return nil
	}
	flag, ok := rate(p[0])
	if !ok {
		return nil
	}
	s.nextRate = flag
	return []byte{}
}

// configureRadio, section 7.3.1.
func (s *state) configureRadio(p []byte) []byte {
	if len(p) < 2 {
		return nil
	}
	switch item, v := p[0], p[1:]; item {
	case 0x01:
		s.radio = v[0]&0x01 != 0
		if !s.radio {
			s.forget(0)
		}
	case 0x02:
		if len(v) == 3 {
			s.timeout = v[2]
		}
	case 0x05:
		if len(v) == 3 {
			s.retries = v[2]
		}
	}
	return []byte{}
}

// list is InListPassiveTarget, section 7.3.5. With endless retries it waits for a card.
func (c *Chip) list(p []byte) ([]byte, *job) {
	if len(p) < 2 || p[0] < 1 || p[0] > maxTargets || p[1] > 0x04 {
		return nil, nil
	}
	c.state.radio = true
	c.state.forget(0)
	none := []byte{0x00}
	wait := &job{expire: func() []byte { return none }}
	if c.state.retries != retriesForever {
		wait.at = time.Now().Add(time.Duration(c.state.retries+1) * c.opts.Attempt)
	}
	if p[1] != 0x00 {
		return nil, wait // the virtual cards are all of type A
	}
	want := withoutCascade(p[2:])
	wait.try = func() []byte { return c.activate(int(p[0]), want) }
	return wait.try(), wait
}

// withoutCascade takes the cascade tags out of a UID given to InListPassiveTarget.
func withoutCascade(uid []byte) []byte {
	switch {
	case len(uid) == 8 && uid[0] == 0x88:
		return uid[1:]
	case len(uid) == 12 && uid[0] == 0x88 && uid[4] == 0x88:
		return slices.Concat(uid[1:4], uid[5:])
	}
	return uid
}

// activate makes targets of the cards in the field; nil when there is none that is wanted.
func (c *Chip) activate(most int, uid []byte) []byte {
	s := &c.state
	s.targets = s.targets[:0]
	reply := []byte{0x00}
	for _, stay := range c.field.present() {
		if len(s.targets) == most {
			break
		}
		if len(uid) > 0 && !bytes.Equal(uid, stay.card.UID) {
			continue
		}
		t := target{stay: stay, isodp: stay.card.SAK&0x20 != 0 && s.parameters&autoRATS != 0}
		if stay.card.Enter != nil {
			stay.card.Enter()
		}
		s.targets = append(s.targets, t)
		reply = append(reply, byte(len(s.targets)))
		reply = t.describe(reply)
	}
	if len(s.targets) == 0 {
		return nil
	}
	reply[0] = byte(len(s.targets))
	c.observe("listed", len(s.targets))
	return reply
}

// describe writes SENS_RES, SEL_RES, the UID and the ATS.
func (t target) describe(dst []byte) []byte {
	k := t.stay.card
	dst = append(dst, k.ATQA[0], k.ATQA[1], k.SAK, byte(len(k.UID)))
	dst = append(dst, k.UID...)
	if t.isodp {
		dst = append(dst, k.ATS...)
	}
	return dst
}

// autoPoll, section 7.3.13.
func (c *Chip) autoPoll(p []byte) ([]byte, *job) {
	if len(p) < 3 || p[0] == 0 || p[1] < 1 || p[1] > 0x0F {
		return nil, nil
	}
	c.state.radio = true
	c.state.forget(0)
	none := []byte{0x00}
	wait := &job{expire: func() []byte { return none }}
	if p[0] != 0xFF {
		period := time.Duration(p[1]) * autoPollPeriod
		wait.at = time.Now().Add(time.Duration(p[0]) * time.Duration(len(p)-2) * period)
	}
	types := p[2:]
	wait.try = func() []byte {
		if c.activate(maxTargets, nil) == nil {
			return nil
		}
		reply := []byte{0x00}
		for i, t := range c.state.targets {
			kind := byte(0x10) // Mifare card
			if t.isodp {
				kind = 0x20 // ISO 14443-4 A
			}
			if !slices.Contains(types, kind) && !slices.Contains(types, 0x00) {
				continue
			}
			one := t.describe([]byte{byte(i + 1)})
			reply = append(append(reply, kind, byte(len(one))), one...)
			reply[0]++
		}
		if reply[0] == 0 {
			return nil
		}
		return reply
	}
	return wait.try(), wait
}

// manage is InDeselect, InRelease, InSelect and InPSL, sections 7.3.4 to 7.3.12.
func (c *Chip) manage(code byte, p []byte) []byte {
	if len(p) < 1 {
		return nil
	}
	all := p[0] == 0 && (code == cmdInDeselect || code == cmdInRelease)
	if !all && c.state.target(p[0]) == nil {
		return []byte{statusContext}
	}
	switch code {
	case cmdInRelease:
		c.state.forget(p[0])
		c.observe("released", int(p[0]))
	case cmdInDeselect:
		c.state.sending, c.state.receiving = nil, nil
	case cmdInPSL:
		if len(p) != 3 || p[1] > 0x02 || p[2] > 0x02 {
			return []byte{statusFormat}
		}
	}
	return []byte{statusOK}
}
