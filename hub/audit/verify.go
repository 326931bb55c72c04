package audit

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"kith/hub/settlement"
	"kith/internal/wire"
)

const manifestTitle = "kith-bundle v1"

// Report is what verifying a bundle came to.
type Report struct {
	OK         bool        `json:"ok"`
	Network    string      `json:"network,omitempty"`
	Period     string      `json:"period,omitempty"`
	Day        string      `json:"day,omitempty"`
	Operator   string      `json:"operator,omitempty"` // the key that everything rests on: compare it
	Pinned     bool        `json:"pinned"`             // it is the one that was given
	Policy     string      `json:"policy,omitempty"`   // version and hash
	Number     int         `json:"statement,omitempty"`
	Seal       string      `json:"seal,omitempty"`
	Follows    string      `json:"follows,omitempty"` // the period whose seal this one opens with
	Journals   int         `json:"journals"`
	Shown      int         `json:"shown"` // leaves
	Missing    []string    `json:"missing,omitempty"`
	Units      []UnitTotal `json:"units,omitempty"`
	Breaches   []Breach    `json:"breaches,omitempty"` // nodes past their limits when the period ended
	Asides     int         `json:"asides"`             // entries that made no obligation
	Copies     int         `json:"copies"`             // of them: those that repeat what a card signed for another
	Difference *Difference `json:"difference,omitempty"`
}

// UnitTotal is what the final statement came to in one unit.
type UnitTotal struct {
	Unit    string `json:"unit"`
	Gross   int64  `json:"gross"`
	Cleared int64  `json:"cleared"`
}

// Bundle packs the finished texts behind a manifest that lists every file and that the operator signs.
func (c *Closing) Bundle(sign Sign) ([]byte, error) {
	if c.Period.State != settlement.Posted {
		return nil, fmt.Errorf("bundling period %s in state %q: post it first", c.Period.Name, c.Period.State)
	}
	manifest, err := c.signedManifest(sign)
	if err != nil {
		return nil, err
	}
	f := maps.Clone(c.Files)
	f[manifestName] = manifest
	return Pack(f)
}

func (c *Closing) signedManifest(sign Sign) ([]byte, error) {
	manifest, err := sign(string(c.manifest(c.Files)))
	if err != nil {
		return nil, fmt.Errorf("signing the manifest: %w", err)
	}
	return manifest, nil
}

// Manifest returns the signed manifest of a period that came from a bundle; nil for one that was closed here.
func (c *Closing) Manifest() []byte { return c.Files[manifestName] }

func (c *Closing) manifest(f Files) []byte {
	seal, digest := c.Seal.Root, c.Period.InForce().Digest
	b := fmt.Appendf(nil, "%s\nnetwork %s\nperiod %s\nstatement %s\nseal %s\n", manifestTitle, c.Network.Name, c.Period.Name,
		hex.EncodeToString(digest[:]), hex.EncodeToString(seal[:]))
	return append(b, listing(f)...)
}

func listing(f Files) []byte {
	var b []byte
	for _, name := range f.names() {
		if name != manifestName {
			h := hash(f[name])
			b = fmt.Appendf(b, "file %s %d %s\n", hex.EncodeToString(h[:]), len(f[name]), name)
		}
	}
	return b
}

// Verify checks a bundle from its bytes alone.
func Verify(bundle []byte) (*Closing, Report) { return VerifyBy(bundle, "") }

// VerifyBy also holds the bundle to the operator's verifier key, unless that is empty.
func VerifyBy(bundle []byte, operator string) (*Closing, Report) {
	c, err := verify(bundle, operator)
	r := Report{}
	if c != nil {
		r = c.Report()
	}
	if err != nil {
		r.OK = false
		if !errors.As(err, &r.Difference) {
			r.Difference = differ("the bundle", 0, "%v", err)
		}
		return nil, r
	}
	r.Pinned = r.OK && operator != ""
	return c, r
}

func verify(bundle []byte, operator string) (*Closing, error) {
	f, err := Unpack(bundle)
	if err != nil {
		return nil, err
	}
	if n, err := ParseNetwork(f[networkName]); operator != "" && (err != nil || n.Operator != operator) {
		return nil, differ(networkName, 0, "the operator's key is not the one that was given, %s", wire.Plain(operator))
	}
	if d := f.sealed(); d != nil {
		return nil, f.locate(d)
	}
	c, err := Load(f)
	if err != nil {
		return c, err
	}
	if c.Period.State != settlement.Posted {
		return c, differ(stepName(c.steps), 0, "the period is %q, not posted", c.Period.State)
	}
	if err := c.complete(); err != nil {
		return c, err
	}
	text, _, _ := strings.Cut(string(f[manifestName]), "\n\n")
	return c, (Files{manifestName: []byte(text + "\n")}).same(manifestName, c.manifest(f))
}

// sealed holds every file to the signed manifest, before anything in it is believed.
func (f Files) sealed() *Difference {
	text, _, found := strings.Cut(string(f[manifestName]), "\n\n")
	if !found {
		return differ(manifestName, 0, "is missing or no signed note")
	}
	var listed []string
	for line := range strings.Lines(text + "\n") {
		if strings.HasPrefix(line, "file ") {
			listed = append(listed, line)
		}
	}
	signErr, keyErr := f.signed()
	has := strings.Split(strings.TrimSuffix(string(listing(f)), "\n"), "\n")
	for i, line := range has {
		name := line[strings.LastIndexByte(line, ' ')+1:]
		if i < len(listed) && strings.TrimSuffix(listed[i], "\n") == line {
			continue
		}
		// A manifest that nobody signed accuses nobody, except the file that holds the key, when that cannot be read.
		if signErr != nil || keyErr != nil && name != networkName {
			break
		}
		return differ(name, 0, "is not the file that the manifest lists at this place")
	}
	if err := errors.Join(signErr, keyErr); err != nil {
		return differ(manifestName, 0, "%v", err)
	}
	if len(listed) > len(has) {
		words := strings.Fields(listed[len(has)]) // whoever signs for himself may list what is no file at all
		return differ(wire.Plain(words[len(words)-1]), 0, "is in the manifest and not in the bundle")
	}
	return nil
}

// signed checks the operator's signature, and tells it apart from a key that cannot be read.
func (f Files) signed() (signErr, keyErr error) {
	n, err := ParseNetwork(f[networkName])
	if err != nil {
		return nil, err
	}
	key, err := n.operator()
	if err != nil {
		return nil, fmt.Errorf("the operator's key: %w", err)
	}
	if _, err = opened(f[manifestName], key); err != nil {
		return fmt.Errorf("the operator's signature: %w", err), nil
	}
	return nil, nil
}

// complete refuses files that nothing accounts for.
func (c *Closing) complete() error {
	known := map[string]bool{manifestName: true, readmeName: true, networkName: true, policyName: true, cutName: true, obligationsName: true,
		asidesName: true, carryName: true, entriesName: true, closingName: true, sealName: true, journalName: true,
		rulesName: true, breachesName: true}
	if c.Previous != nil {
		known[openCutName], known[openCarryName], known[openBooksName] = true, true, true
		for i := range c.Previous.Checkpoints {
			known[openReceiptName(i)] = true
		}
	}
	for i := range c.Cut.Checkpoints {
		known[receiptName(i)], known[excerptName(i)] = true, true
	}
	for i := range c.steps {
		known[stepName(i)] = true
	}
	for n, list := range c.answers {
		known[noteName(n+1)] = true
		for _, a := range list {
			for _, what := range []string{"case", "answer", "proof"} {
				known[unitName(n+1, a.c.Unit(), what)] = true
			}
		}
	}
	for _, name := range c.Files.names() {
		if !known[name] {
			return differ(name, 0, "is no part of this period")
		}
	}
	return nil
}

// Report tells what the period came to.
func (c *Closing) Report() Report {
	policy := c.Policy.Settlement.Hash
	r := Report{OK: true, Network: c.Network.Name, Period: c.Name, Day: date(int64(c.Cut.Day) * dayMS), Operator: c.Network.Operator,
		Policy: c.Policy.Settlement.Version + " " + hex.EncodeToString(policy[:]), Journals: len(c.Cut.Checkpoints), Shown: len(c.Shown), Missing: c.Cut.Missing}
	if c.Ground.Opening != nil {
		r.Follows = c.Ground.Opening.Period
	}
	r.Asides = len(c.Set.Asides)
	for _, a := range c.Set.Asides {
		if a.Why == whyUsed {
			r.Copies++
		}
	}
	if s := c.Period.InForce(); s != nil {
		r.Number = s.Number
		for _, a := range c.answers[s.Number-1] {
			r.Units = append(r.Units, UnitTotal{Unit: a.c.Unit(), Gross: a.c.Gross(), Cleared: a.r.Total})
		}
	}
	if c.Period.State == settlement.Posted {
		r.Seal, r.Breaches = hex.EncodeToString(c.Seal.Root[:]), c.Breaches
	}
	return r
}

// Next returns what a posted period hands over to the next one.
func (c *Closing) Next() Files {
	f := Files{openCarryName: c.Files[carryName], openBooksName: c.Files[closingName], openCutName: c.Files[cutName]}
	for i := range c.Cut.Checkpoints {
		f[openReceiptName(i)] = c.Files[receiptName(i)]
	}
	return f
}

// operatorLine is where the operator's key stands in network.txt.
const operatorLine = 3

// Follows says whether c opens with exactly what previous has left, under the same operator's key: anybody can go on from a
// bundle under a key of their own. Without a previous one, c must be the first.
func (c *Closing) Follows(previous *Closing) error {
	want := Files{}
	if previous != nil {
		want = previous.Next()
		if was := previous.Network.Operator; c.Network.Operator != was {
			return differ(networkName, operatorLine, "%.200q, but the period before was closed under %.200q", c.Network.Operator, was)
		}
	}
	for _, name := range want.names() {
		if err := c.Files.same(name, want[name]); err != nil {
			return err
		}
	}
	i := slices.IndexFunc(c.Files.names(), func(name string) bool { return strings.HasPrefix(name, "opening/") && want[name] == nil })
	if i >= 0 {
		return differ(c.Files.names()[i], 0, "the period before does not leave this")
	}
	return nil
}

// Statement returns the text of a statement by number.
func (c *Closing) Statement(number int) (string, bool) {
	if number < 1 || number > len(c.texts) {
		return "", false
	}
	return c.texts[number-1], true
}

// InputNames says under which names the receipt and the excerpt of the cut's i-th checkpoint stand.
func InputNames(i int) (receipt, excerpt string) { return receiptName(i), excerptName(i) }

// Inputs makes the files that a period starts from. Receipts and excerpts are added by their [InputNames].
func Inputs(n *Network, policy []byte, cut *settlement.Cut, previous *Closing) Files {
	f := Files{}
	if previous != nil {
		f = previous.Next()
	}
	f[networkName], f[policyName], f[cutName] = n.AppendText(nil), policy, cut.AppendText(nil)
	return f
}

// Carried is the text of what a posted period leaves to the next.
func (c *Closing) Carried() []byte { return c.Files[carryName] }

// Entries is the journal of the books of a posted period, one line an entry.
func (c *Closing) Entries() []byte { return c.Files[entriesName] }
