package appliance

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"kith/edge/board"
	"kith/edge/door"
	"kith/internal/access"
	"kith/internal/card"
	"kith/internal/event"
	"kith/internal/settings"
)

// Limits of one appliance.
const (
	MaxDoors   = 8
	MaxReaders = 16
)

// Config is the file of one edge. Every key is described in docs/FORMATS.md, "Edge configuration"; relative paths are
// relative to the file.
type Config struct {
	Network string `yaml:"network"`
	Node    string `yaml:"node"`
	Edge    string `yaml:"edge"`
	Zone    string `yaml:"zone"`   // IANA time zone of the node
	Clock   string `yaml:"clock"`  // kernel (default: asks it whether the time is kept) or trusted (kept by other means)
	Listen  string `yaml:"listen"` // health, metrics and readiness; loopback only. Default 127.0.0.1:0 (printed at start)

	Identity string `yaml:"identity"` // directory of keys: made by `hub edge add`, or by itself for a lone edge
	Hub      string `yaml:"hub"`      // host:port of the hub's broker; left out, the edge is alone
	HubName  string `yaml:"hub_name"` // name in the hub's certificate when it differs from the host of hub
	Roster   string `yaml:"roster"`   // YAML file of people, cards and grants; for an edge without a hub

	Board string         `yaml:"board"` // unix:PATH of a virtual board, or gpio
	Pins  map[string]Pin `yaml:"pins"`  // for gpio: signal -> pin; every lock and every input that a door declares has one

	Doors   []Door   `yaml:"doors"`
	Readers []Reader `yaml:"readers"`

	Quiet     bool              `yaml:"quiet"`     // readers make light but no sound
	Retention settings.Duration `yaml:"retention"` // how long leaves stay here after the hub has them; default 30 days
}

// Pin is one GPIO line.
type Pin struct {
	Name      string            `yaml:"pin"`
	ActiveLow bool              `yaml:"active_low"`
	Pull      string            `yaml:"pull"`
	Debounce  settings.Duration `yaml:"debounce"`
	Tone      bool              `yaml:"tone"`
}

// Door is one door. Egress is a statement, not a switch: software cannot make a way out, and refuses to be the only one.
type Door struct {
	ID          string            `yaml:"id"`
	Zones       []string          `yaml:"zones"`
	Lock        string            `yaml:"lock"`   // fail-secure or fail-safe: what the hardware does without power
	Egress      string            `yaml:"egress"` // mechanical, or fire-release-in-series for magnetic locks
	Pulse       settings.Duration `yaml:"pulse"`
	MaxPulse    settings.Duration `yaml:"max_pulse"`
	Held        settings.Duration `yaml:"held"`
	PreAlarm    settings.Duration `yaml:"pre_alarm"`
	ExitShunt   settings.Duration `yaml:"exit_shunt"`
	Contact     bool              `yaml:"contact"`
	Exit        bool              `yaml:"exit_button"`
	ExitOpens   bool              `yaml:"exit_releases"`
	Fire        bool              `yaml:"fire"`
	AllowUID    bool              `yaml:"allow_uid"` // let cards in that anyone can copy
	Strict      bool              `yaml:"strict"`    // no durable record, no opening
	Degraded    string            `yaml:"degraded"`  // keep-residents, staff-only or closed, once the roster is stale
	DegradedMax settings.Duration `yaml:"degraded_max"`
}

// Reader is one card reader.
type Reader struct {
	ID        string `yaml:"id"`
	Door      string `yaml:"door"`
	Direction string `yaml:"direction"` // in, out, inside (a room of the house) or pass (it does not tell)
	PN532     string `yaml:"pn532"`     // hsu:/dev/ttyAMA0, spi:SPI0.0 or i2c:1
	Baud      int    `yaml:"baud"`      // hsu only; default 115200
	IRQ       string `yaml:"irq"`       // spi and i2c: GPIO of the IRQ line
	Reset     string `yaml:"reset"`     // spi and i2c: GPIO of the RSTPDN line
}

// directions are what a reader may say of where a tap leads. Nobody changes them.
var directions = []string{"in", "inside", "out", "pass"}

// Load reads and checks a configuration file.
func Load(path string) (Config, error) {
	b, err := settings.Read(path)
	if err != nil {
		return Config{}, err
	}
	return Decode(path, b)
}

// Decode is Load for bytes that are already here.
func Decode(path string, b []byte) (Config, error) {
	c, idle, err := decode(path, b)
	if err == nil && len(idle) > 0 {
		err = &settings.Error{File: path, Lines: idle}
	}
	if err != nil {
		return Config{}, err
	}
	return c, nil
}

// decode is Decode that leaves it to the caller whether idle wires are a reason to refuse. Other mistakes are named with them.
func decode(path string, b []byte) (c Config, idle []string, err error) {
	if err := settings.Decode(path, b, &c); err != nil {
		return Config{}, nil, err
	}
	c.Identity = settings.Beside(path, c.Identity)
	c.Roster = settings.Beside(path, c.Roster)
	if socket, ok := strings.CutPrefix(c.Board, "unix:"); ok {
		c.Board = "unix:" + settings.Beside(path, socket)
	}
	for i, r := range c.Readers {
		if tty, ok := strings.CutPrefix(r.PN532, "hsu:"); ok {
			c.Readers[i].PN532 = "hsu:" + settings.Beside(path, tty)
		}
	}
	problems, idle := c.check()
	if len(problems) > 0 {
		return Config{}, nil, &settings.Error{File: path, Lines: append(problems, idle...)}
	}
	return c, idle, nil
}

// check says everything that is wrong at once: a host should not have to find mistakes one start at a time. Idle are wires that
// move nothing and inputs without a wire: doors work beside them, as they did before anybody looked.
func (c *Config) check() (p, idle []string) {
	bad := func(format string, args ...any) { p = append(p, fmt.Sprintf(format, args...)) }
	for _, id := range [][2]string{{"network", c.Network}, {"node", c.Node}, {"edge", c.Edge}} {
		if !event.IsID(id[1]) {
			bad("%s: %q is not an id (a-z, 0-9 and -, at most %d)", id[0], id[1], event.MaxID)
		}
	}
	if _, err := time.LoadLocation(c.Zone); c.Zone == "" || err != nil {
		bad("zone: %q is not a time zone such as Europe/Lisbon", c.Zone)
	}
	if c.Clock != "" && c.Clock != "kernel" && c.Clock != "trusted" {
		bad("clock: %q: want kernel or trusted", c.Clock)
	}
	if err := loopback(c.Listen); err != nil {
		bad("listen: %v", err)
	}
	switch {
	case c.Identity == "":
		bad("identity: name the directory of this edge's keys (hub edge add makes it; for a lone edge any new directory)")
	case c.Hub == "" && c.Roster == "":
		bad("hub or roster: with neither of them this edge would know nobody")
	case c.Hub != "" && c.Roster != "":
		bad("hub and roster: people come from the hub or from the file, never from both")
	}
	if c.Hub != "" {
		if _, _, err := net.SplitHostPort(c.Hub); err != nil {
			bad("hub: %q is not host:port", c.Hub)
		}
	}
	if c.Board != "gpio" && !strings.HasPrefix(c.Board, "unix:") {
		bad("board: want gpio or unix:PATH")
	}
	if len(c.Doors) == 0 || len(c.Doors) > MaxDoors || len(c.Readers) > MaxReaders {
		bad("doors, readers: want 1 to %d doors and up to %d readers", MaxDoors, MaxReaders)
	}
	doors := map[string]bool{}
	for i := range c.Doors {
		for _, problem := range c.Doors[i].check() {
			bad("doors[%d]: %s", i, problem)
		}
		if doors[c.Doors[i].ID] {
			bad("doors[%d]: id %q twice", i, c.Doors[i].ID)
		}
		doors[c.Doors[i].ID] = true
	}
	readers := map[string]bool{}
	for i, r := range c.Readers {
		switch {
		case !event.IsID(r.ID) || readers[r.ID] || doors[r.ID]:
			bad("readers[%d]: id %q is not an id, or names another reader or a door too", i, r.ID)
		case !doors[r.Door]:
			bad("readers[%d]: door %q is not among doors", i, r.Door)
		case !slices.Contains(directions, r.Direction):
			bad("readers[%d]: direction %q: want in, out, inside (a room of the house) or pass (it does not tell)", i, r.Direction)
		}
		if kind, rest, _ := strings.Cut(r.PN532, ":"); rest == "" || kind != "hsu" && kind != "spi" && kind != "i2c" {
			bad("readers[%d]: pn532 %q: want hsu:DEVICE, spi:PORT or i2c:BUS", i, r.PN532)
		}
		readers[r.ID] = true
	}
	c.checkPins(bad, func(format string, args ...any) { idle = append(idle, fmt.Sprintf(format, args...)) })
	return p, idle
}

// checkPins holds the pins to the doors and readers that there are. A misspelt signal would be a wire that moves nothing, and
// a door whose fire input no pin carries would look well until there is fire. Without its lock a door is none; all else is idle.
func (c *Config) checkPins(bad, idle func(format string, args ...any)) {
	means := map[string]bool{"tamper": true} // every signal that moves something here
	for _, d := range c.Doors {
		for _, s := range []struct {
			kind, key string
			declared  bool
		}{{"lock", "lock", true}, {"contact", "contact", d.Contact}, {"exit", "exit_button", d.Exit}, {"fire", "fire", d.Fire}} {
			signal := d.ID + "/" + s.kind
			means[signal] = true
			_, wired := c.Pins[signal]
			switch {
			case s.kind == "lock" && !wired && c.Board == "gpio":
				bad("pins: %s is missing, and door %q has %s", signal, d.ID, s.key)
			case s.declared && !wired && c.Board == "gpio":
				idle("pins: %s is missing, and door %q has %s", signal, d.ID, s.key)
			case wired && !s.declared:
				idle("pins: %s moves nothing unless door %q says %s: true", signal, d.ID, s.key)
			}
		}
	}
	for _, r := range c.Readers {
		for _, kind := range []string{"red", "green", "blue", "buzzer"} {
			means[r.ID+"/"+kind] = true
		}
	}
	for _, signal := range slices.Sorted(maps.Keys(c.Pins)) {
		switch err := board.CheckSignal(signal); {
		case err != nil || c.Pins[signal].Name == "":
			idle("pins: %q: want a signal such as front/lock and a pin such as GPIO17", signal)
		case !means[signal]:
			idle("pins: %s: no door has it (lock, contact, exit, fire), no reader (red, green, blue, buzzer), and it is not tamper", signal)
		}
	}
}

func (d *Door) check() []string {
	var p []string
	if !event.IsID(d.ID) {
		p = append(p, fmt.Sprintf("id %q is not an id", d.ID))
	}
	for _, z := range d.Zones {
		if !event.IsID(z) {
			p = append(p, fmt.Sprintf("zone %q is not an id", z))
		}
	}
	if d.Lock != "fail-secure" && d.Lock != "fail-safe" {
		p = append(p, fmt.Sprintf("lock %q: say what the lock does without power: fail-secure or fail-safe", d.Lock))
	}
	if d.Egress != "mechanical" && d.Egress != "fire-release-in-series" {
		p = append(p, fmt.Sprintf("egress %q: say how people get out without this software: mechanical, or "+
			"fire-release-in-series for a magnetic lock; there is no third way", d.Egress))
	}
	if d.Lock == "fail-safe" && d.Egress == "mechanical" && !d.Fire {
		p = append(p, "a fail-safe lock needs fire: true, so that the panel's contact is watched too")
	}
	switch access.Degraded(d.Degraded) {
	case "", access.KeepResidents, access.StaffOnly, access.DegradedClosed:
	default:
		p = append(p, fmt.Sprintf("degraded %q: want keep-residents, staff-only or closed", d.Degraded))
	}
	if err := d.machine().WithDefaults().Validate(); err != nil {
		p = append(p, err.Error())
	}
	return p
}

func (d *Door) machine() door.Config {
	ms := func(v settings.Duration) int { return int(time.Duration(v) / time.Millisecond) }
	return door.Config{
		ID: d.ID, PulseMS: ms(d.Pulse), MaxPulseMS: ms(d.MaxPulse), HeldMS: ms(d.Held), PreAlarmMS: ms(d.PreAlarm),
		ExitShuntMS: ms(d.ExitShunt), HasContact: d.Contact, HasExit: d.Exit, HasFire: d.Fire, ExitReleases: d.ExitOpens,
	}
}

func (d *Door) rules() access.Door {
	return access.Door{ID: d.ID, Zones: d.Zones, AllowUID: d.AllowUID, Degraded: access.Degraded(d.Degraded),
		DegradedMax: time.Duration(d.DegradedMax)}
}

// readerID is what a reader tells a PKOC card about itself: 16 bytes of the site, 16 of the place. Cards do not sign it
// (docs/ARCHITECTURE.md, "What a tap proves"); it lets a phone show its owner where it was asked.
func (c *Config) readerID(reader string) card.ReaderID {
	site := sha256.Sum256([]byte("kith/site/v1\n" + c.Network + "/" + c.Node))
	place := sha256.Sum256([]byte("kith/reader/v1\n" + c.Edge + "/" + reader))
	return card.ReaderID{Site: [16]byte(site[:16]), Location: [16]byte(place[:16])}
}

// loopback refuses addresses that others could reach: nothing here asks who is calling yet.
func loopback(addr string) error {
	if addr == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not host:port", addr)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return errors.New("only loopback addresses (127.0.0.1, ::1) until pages know who is asking")
	}
	return nil
}
