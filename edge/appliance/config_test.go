package appliance

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kith/configs"
)

func TestExamplesAreReadAsTheProgramReadsThem(t *testing.T) {
	for name, b := range map[string][]byte{"edge.yaml": configs.Edge, "edge-alone.yaml": configs.EdgeAlone} {
		c, err := Decode(filepath.Join("/etc/kith", name), b)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if c.Board != "unix:/etc/kith/board.sock" || !strings.HasPrefix(c.Readers[0].PN532, "hsu:/etc/kith/") {
			t.Errorf("%s: paths are not beside the file: %s %s", name, c.Board, c.Readers[0].PN532)
		}
	}
}

func TestMistakesInAnEdgeFileAreAllNamedAtOnce(t *testing.T) {
	good := string(configs.Edge)
	for _, c := range []struct{ old, new, want string }{
		{"zone: Europe/Lisbon", "zone: Europe/Atlantis", "zone: \"Europe/Atlantis\" is not a time zone"},
		{"egress: mechanical ", "egress: software ", "there is no third way"},
		{"egress: mechanical ", "# ", "say how people get out"},
		{"lock: fail-secure ", "lock: magnetic ", "fail-secure or fail-safe"},
		{"direction: out", "direction: up", "want in, out, inside"},
		{"door: front\n    direction: in", "door: back\n    direction: in", `door "back" is not among doors`},
		{"127.0.0.1:8081", "0.0.0.0:8081", "only loopback"},
		{"pulse: 5s", "pulse: 5", "line"},
		{"pulse: 5s", "pulse: 10m", "pulse"},
		{"readers:", "raeders:", "unknown key raeders"},
		{"hub: 127.0.0.1:8883", "roster: r.yaml\nhub: 127.0.0.1:8883", "never from both"},
		{"hub: 127.0.0.1:8883", "", "would know nobody"},
		{"identity: identity/", "", "identity"},
		{"edge: lisbon-front", "edge: Lisbon_Front", "is not an id"},
		{"degraded: keep-residents", "degraded: open", "want keep-residents"},
		{"zone: Europe/Lisbon", "zone: Europe/Lisbon\nclock: sundial", "want kernel or trusted"},
		{"id: front-out", "id: front-in", "names another reader"},
		{"hsu:reader-in.tty", "usb:1", "want hsu:DEVICE"},
	} {
		if !strings.Contains(good, c.old) {
			t.Fatalf("%q is not in the example", c.old)
		}
		_, err := Decode("edge.yaml", []byte(strings.Replace(good, c.old, c.new, 1)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s -> %s: %v", c.old, c.new, err)
		}
	}
	both := strings.Replace(strings.Replace(good, "edge: lisbon-front", "edge: X", 1), "lock: fail-secure ", "lock: x ", 1)
	if _, err := Decode("edge.yaml", []byte(both)); err == nil || !strings.Contains(err.Error(), "is not an id") || !strings.Contains(err.Error(), "fail-secure or") {
		t.Errorf("two mistakes, one named: %v", err)
	}
}

// wired is the example with the pins that its comments give.
func wired(t *testing.T) string {
	t.Helper()
	text := strings.Replace(string(configs.Edge), "board: unix:board.sock ", "board: gpio # ", 1)
	head, pins, ok := strings.Cut(text, "\n# pins:\n")
	if !ok || text == string(configs.Edge) {
		t.Fatal("the example has another board, or no pins in its comments")
	}
	var lines []string
	rest := strings.SplitAfter(pins, "\n")
	for len(rest) > 0 && strings.HasPrefix(rest[0], "#   ") {
		lines, rest = append(lines, rest[0][1:]), rest[1:]
	}
	return head + "\npins:\n" + strings.Join(lines, "") + strings.Join(rest, "")
}

func TestEveryPinMovesSomethingAndEverythingDeclaredHasAPin(t *testing.T) {
	good := wired(t)
	if c, err := Decode("edge.yaml", []byte(good)); err != nil || len(c.Pins) != 9 {
		t.Fatalf("the pins in the example's comments: %v of %d", err, len(c.Pins))
	}
	for _, c := range []struct{ old, new, want string }{
		{"front/fire:", "frnot/fire:", "pins: frnot/fire: no door has it"},
		{"front/fire:", "frnot/fire:", "pins: front/fire is missing, and door \"front\" has fire"},
		{"  front/lock: ", "  # ", "pins: front/lock is missing"},
		{"  front/contact: ", "  # ", "pins: front/contact is missing"},
		{"  front/exit: ", "  # ", "pins: front/exit is missing, and door \"front\" has exit_button"},
		{"    fire: true", "    fire: false", "pins: front/fire moves nothing unless door \"front\" says fire: true"},
		{"    exit_button: true", "", "pins: front/exit moves nothing unless"},
		{"    contact: true", "", "pins: front/contact moves nothing unless"},
		{"front-in/red:", "front/red:", "pins: front/red: no door has it"},
		{"front-in/red:", "front-up/red:", "pins: front-up/red: no door has it"},
		{"front-in/red:", "front-in/tamper:", "pins: front-in/tamper: no door has it"},
		{"tamper:", "temper:", "pins: temper: no door has it"},
		{"tamper:", "Tamper:", "pins: \"Tamper\": want a signal"},
		{"{pin: GPIO5}", "{active_low: true}", "pins: \"front-in/red\": want a signal"},
	} {
		if !strings.Contains(good, c.old) {
			t.Fatalf("%q is not in the example", c.old)
		}
		_, err := Decode("edge.yaml", []byte(strings.Replace(good, c.old, c.new, 1)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s -> %s: %v", c.old, c.new, err)
		}
	}
	for _, spare := range []string{"front-in/red:", "front-in/buzzer:", "tamper:"} { // lamps and a case may do without a wire
		if _, err := Decode("edge.yaml", []byte(strings.Replace(good, "  "+spare, "  #"+spare, 1))); err != nil {
			t.Errorf("without %s %v", spare, err)
		}
	}
}

func TestStartsCountAndADamagedFileIsANewDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "starts.json")
	a, err := nextStart(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := nextStart(path)
	if err != nil || b.Disk != a.Disk || b.Starts != 2 {
		t.Fatalf("%+v %+v %v", a, b, err)
	}
	if err := os.WriteFile(path, []byte("{torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := nextStart(path); err != nil || c.Disk == a.Disk || c.Starts != 1 {
		t.Fatalf("%+v %v", c, err)
	}
}
