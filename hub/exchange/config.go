package exchange

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"kith/internal/event"
	"kith/internal/settings"
)

// Defaults and limits of a hub.
const (
	DefaultListen = "127.0.0.1:8080"
	DefaultBroker = "127.0.0.1:8883"
	DefaultBackup = 15 * time.Minute
	DefaultKeep   = 8
	MaxNodes      = 10_000
)

// Config is the file of one hub. Every key is described in docs/FORMATS.md, "Hub configuration"; relative paths are relative to
// the file.
type Config struct {
	Network     string   `yaml:"network"`
	Name        string   `yaml:"name"`
	Listen      string   `yaml:"listen"`       // pages and API; loopback only
	Broker      string   `yaml:"broker"`       // where edges connect
	BrokerNames []string `yaml:"broker_names"` // names and addresses in the hub's certificate
	Nodes       []Node   `yaml:"nodes"`
	Policy      string   `yaml:"policy"` // what counts how much, and how a period is closed; without it nothing is settled
	Backup      Backup   `yaml:"backup"`

	PolicyText []byte `yaml:"-"` // in place of a file: for a caller that has none

	file string // that it was read from, for the commands that pages print
}

// Node is one house or pop-up city.
type Node struct {
	ID   string `yaml:"id"`
	Name string `yaml:"name"`
	Zone string `yaml:"zone"` // IANA time zone
}

// Backup says how often the database is copied, and where to.
type Backup struct {
	Dir   string            `yaml:"dir"`   // default backups/ under the state directory
	Every settings.Duration `yaml:"every"` // default 15m
	Keep  int               `yaml:"keep"`  // copies kept; default 8
}

// Load reads and checks a configuration file.
func Load(path string) (Config, error) {
	b, err := settings.Read(path)
	if err != nil {
		return Config{}, err
	}
	c, err := Decode(path, b)
	if err != nil {
		return Config{}, err
	}
	c.file, err = filepath.Abs(path)
	return c, err
}

// Decode is Load for bytes that are already here.
func Decode(path string, b []byte) (Config, error) {
	c := Config{Listen: DefaultListen, Broker: DefaultBroker}
	if err := settings.Decode(path, b, &c); err != nil {
		return Config{}, err
	}
	c.Backup.Dir = settings.Beside(path, c.Backup.Dir)
	c.Policy = settings.Beside(path, c.Policy)
	if c.Backup.Every == 0 {
		c.Backup.Every = settings.Duration(DefaultBackup)
	}
	if c.Backup.Keep == 0 {
		c.Backup.Keep = DefaultKeep
	}
	if c.Name == "" {
		c.Name = c.Network
	}
	if len(c.BrokerNames) == 0 {
		if host, _, err := net.SplitHostPort(c.Broker); err == nil && host != "" {
			c.BrokerNames = []string{host}
		}
	}
	if problems := c.check(); len(problems) > 0 {
		return Config{}, &settings.Error{File: path, Lines: problems}
	}
	return c, nil
}

func (c *Config) check() []string {
	var p []string
	bad := func(format string, args ...any) { p = append(p, fmt.Sprintf(format, args...)) }
	if !event.IsID(c.Network) {
		bad("network: %q is not an id (a-z, 0-9 and -, at most %d)", c.Network, event.MaxID)
	}
	if err := loopback(c.Listen); err != nil {
		bad("listen: %v", err)
	}
	if _, _, err := net.SplitHostPort(c.Broker); err != nil {
		bad("broker: %q is not host:port", c.Broker)
	}
	if len(c.Nodes) == 0 || len(c.Nodes) > MaxNodes {
		bad("nodes: want 1 to %d", MaxNodes)
	}
	seen := map[string]bool{}
	for i, n := range c.Nodes {
		if !event.IsID(n.ID) || seen[n.ID] {
			bad("nodes[%d]: id %q is not an id, or is there twice", i, n.ID)
		}
		if _, err := time.LoadLocation(n.Zone); n.Zone == "" || err != nil {
			bad("nodes[%d]: zone %q is not a time zone such as Europe/Lisbon", i, n.Zone)
		}
		seen[n.ID] = true
	}
	if c.Backup.Keep < 1 || c.Backup.Every < settings.Duration(time.Second) {
		bad("backup: keep at least 1, and leave at least 1s between two")
	}
	return p
}

func (c *Config) backupDir(state string) string {
	if c.Backup.Dir != "" {
		return c.Backup.Dir
	}
	return filepath.Join(state, "backups")
}

// loopback refuses addresses that others could reach: no page asks who is looking yet.
func loopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not host:port", addr)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return errors.New("only loopback addresses (127.0.0.1, ::1) until pages know who is asking")
	}
	return nil
}
