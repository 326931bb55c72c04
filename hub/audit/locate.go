package audit

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"kith/hub/clearing"
	"kith/hub/ledger"
	"kith/hub/settlement"
	"kith/internal/event"
	"kith/internal/wire"
)

// maxSolved is how many debts are cleared anew to say which line of an answer or a proof was changed: at most a second or two.
const maxSolved = 20_000

// locate looks for the line in which a file is not the one that the manifest lists, or in which the manifest is not what was
// signed. The manifest holds hashes alone; but nearly everything in a bundle also follows from something else in it. What has
// the hash that was listed is what stood there, and the first line that differs from it is certain. Where nothing gives that,
// the first line is named that does not fit the other files. A line that only a root speaks for stays unnamed.
func (f Files) locate(d *Difference) *Difference {
	if d.Line > 0 || f[d.File] == nil {
		return d
	}
	if d.File == manifestName {
		if line := f.manifestLine(d); line != nil {
			return line
		}
		return d
	}
	words := f.listed(d.File)
	if words == nil {
		return d
	}
	var at *Difference
	if text := f.remade(d.File); text != nil {
		if sum := hash(text); hex.EncodeToString(sum[:]) == words[1] && errors.As(f.same(d.File, text), &at) {
			return at
		}
	}
	if _, err := Load(f); errors.As(err, &at) && at.File == d.File && at.Line > 0 {
		return at
	}
	if line := f.suspect(d.File); line > 0 {
		return differ(d.File, line, "%s", d.What)
	}
	if _, err := ParsePolicy(policyName, f[policyName]); err != nil && d.File == policyName {
		d.What += "; " + strings.TrimPrefix(err.Error(), policyName+": ")
		if m := yamlLine.FindStringSubmatch(d.What); m != nil {
			d.Line, _ = strconv.Atoi(m[1])
		}
	}
	return d
}

// yamlLine are the mistakes whose line is certain. Where YAML itself breaks off, its reader stumbles somewhere near.
var yamlLine = regexp.MustCompile(`; line ([0-9]{1,9}): (?:unknown key|key given twice|this key takes|"[^"]*" is not a duration)`)

// listed are the words of the manifest's line about a file.
func (f Files) listed(name string) []string {
	for line := range strings.Lines(string(f[manifestName])) {
		if words := strings.Fields(line); len(words) == 4 && words[0] == "file" && words[3] == name {
			return words
		}
	}
	return nil
}

// noteLine says in which line a note of one signature parts from the text that it must have; else it is the signature.
func (f Files) noteLine(name string, text []byte, err error) *Difference {
	if f[name] == nil {
		return differ(name, 0, "is missing")
	}
	have, _, _ := strings.Cut(string(f[name]), "\n\n")
	var d *Difference
	if errors.As((Files{name: []byte(have + "\n")}).same(name, text), &d) {
		return d
	}
	return differ(name, bytes.Count(text, newline)+2, "%v", err)
}

// manifestLine makes the manifest anew: everything in it follows from the other files, but the signature.
func (f Files) manifestLine(d *Difference) *Difference {
	c, err := Load(f)
	if err != nil || c.Period.State != settlement.Posted {
		return nil
	}
	return f.noteLine(manifestName, c.manifest(f), errors.New(d.What))
}

// remade is what a file must have been, from others that are as they were; nil where nothing says so.
func (f Files) remade(name string) []byte {
	switch {
	case name == networkName:
		return f.remadeNetwork()
	case name == cutName || name == openCutName:
		return f.remadeCut(name)
	case name == openBooksName:
		return f.remadeOpening()
	case strings.HasPrefix(name, "journals/"):
		return f.remadeExcerpt(name)
	case strings.HasSuffix(name, ".answer.txt") || strings.HasSuffix(name, ".proof.txt"):
		return f.solved(name)
	}
	return nil
}

// remadeNetwork has the network of the manifest and the nodes of the cut, which knows all of them. Keys carry their own sums.
func (f Files) remadeNetwork() []byte {
	cut, err := parseCut(cutName, f[cutName])
	head := strings.SplitN(string(f[manifestName]), "\n", 3)
	if err != nil || len(head) != 3 {
		return nil
	}
	nodes := slices.Clone(cut.Missing)
	for _, p := range cut.Checkpoints {
		nodes = append(nodes, p.Node)
	}
	slices.Sort(nodes)
	b := []byte(networkTitle + "\n" + head[1] + "\n")
	var edges []byte
	for line := range strings.Lines(string(f[networkName])) {
		switch word, _, _ := strings.Cut(line, " "); word {
		case "operator", "witness":
			b = append(b, line...)
		case "edge":
			edges = append(edges, line...)
		}
	}
	for _, id := range slices.Compact(nodes) {
		b = append(append(append(b, "node "...), id...), '\n')
	}
	return append(b, edges...)
}

// remadeCut has the checkpoints of the receipts, and the day and the missing nodes as they stand here.
func (f Files) remadeCut(name string) []byte {
	n, err := ParseNetwork(f[networkName])
	if err != nil {
		return nil
	}
	receipt := receiptName
	if name == openCutName {
		receipt = openReceiptName
	}
	c := &settlement.Cut{}
	for i := 0; f[receipt(i)] != nil; i++ {
		text, _, _ := strings.Cut(string(f[receipt(i)]), "\n\n")
		p, err := wire.ParseCheckpoint(text + "\n")
		if err != nil {
			return nil
		}
		edge, _, err := n.journal(p.Origin)
		if err != nil {
			return nil
		}
		c.Checkpoints = append(c.Checkpoints, settlement.Checkpoint{Journal: p.Origin, Node: edge.Node, Size: p.Size, Root: p.Root})
	}
	for line := range strings.Lines(string(f[name])) {
		switch words := strings.Fields(line); {
		case len(words) == 2 && words[0] == "day":
			day, _ := number(words[1])
			c.Day = settlement.Day(day)
		case len(words) == 2 && words[0] == "missing" && name == openCutName:
			c.Missing = append(c.Missing, words[1])
		}
	}
	for _, node := range n.Nodes {
		if name == cutName && !slices.ContainsFunc(c.Checkpoints, func(p settlement.Checkpoint) bool { return p.Node == node }) {
			c.Missing = append(c.Missing, node)
		}
	}
	return c.AppendText(nil)
}

// remadeExcerpt has the journal and its sizes from both cuts, and all between as it stands here.
func (f Files) remadeExcerpt(name string) []byte {
	cut, err := parseCut(cutName, f[cutName])
	if err != nil {
		return nil
	}
	i := 0
	for i < len(cut.Checkpoints) && excerptName(i) != name {
		i++
	}
	if i == len(cut.Checkpoints) {
		return nil
	}
	from := uint64(0)
	if opening, err := parseCut(openCutName, f[openCutName]); err == nil {
		for _, p := range opening.Checkpoints {
			if p.Journal == cut.Checkpoints[i].Journal {
				from = p.Size
			}
		}
	}
	const head = 4
	b := fmt.Appendf(nil, "%s\norigin %s\nfrom %d\nto %d\n", excerptTitle, cut.Checkpoints[i].Journal, from, cut.Checkpoints[i].Size)
	for n, line := range strings.SplitAfter(string(f[name]), "\n") {
		switch word, _, _ := strings.Cut(line, " "); {
		case n < head:
		case word == "mark":
			b = fmt.Appendf(b, "mark %d\n", from)
		case word == "end":
			b = fmt.Appendf(b, "end %d\n", cut.Checkpoints[i].Size)
		default:
			b = append(b, line...)
		}
	}
	return b
}

// remadeOpening takes what was booked away from what stands there now.
func (f Files) remadeOpening() []byte {
	balances, _, err := parseBalances(closingName, f[closingName])
	entries, failed := ReadEntries(f)
	if err != nil || failed != nil {
		return nil
	}
	for i := range entries {
		for _, p := range entries[i].Postings {
			t := balances[p.Account]
			if p.Amount < 0 {
				t.Debits += p.Amount
			} else {
				t.Credits -= p.Amount
			}
			balances[p.Account] = t
		}
	}
	maps.DeleteFunc(balances, func(_ ledger.Account, t ledger.Totals) bool { return t == ledger.Totals{} })
	text, _, err := appendBalances(balances)
	if err != nil {
		return nil
	}
	return text
}

// solved clears the case again.
func (f Files) solved(name string) []byte {
	stem, isAnswer := strings.CutSuffix(name, ".answer.txt")
	if !isAnswer {
		stem = strings.TrimSuffix(name, ".proof.txt")
	}
	c, err := clearing.DecodeCase(f[stem+".case.txt"])
	if err != nil {
		return nil
	}
	if _, debts := c.Size(); debts > maxSolved {
		return nil
	}
	r, err := clearing.Settle(c)
	switch {
	case err != nil:
		return nil
	case isAnswer:
		return c.AppendStatement(nil, r)
	}
	return c.AppendProof(nil, r)
}

// suspect is the line of a file that does not fit others, or the only one that nothing speaks for; 0 where there is none.
func (f Files) suspect(name string) int {
	switch {
	case strings.HasPrefix(name, "steps/"):
		return 1 // it has no other
	case strings.HasPrefix(name, "receipts/"), strings.HasPrefix(name, "opening/receipts/"):
		return f.suspectReceipt(name)
	case strings.HasPrefix(name, "journals/"):
		return f.suspectLeaf(name)
	case name == cutName, name == openCutName:
		// Everything but the day was compared with the receipts; what an earlier cut missed stands nowhere else.
		if bytes.Equal(f.remadeCut(name), f[name]) && (name == cutName || !bytes.Contains(f[name], []byte("\nmissing "))) {
			return 2
		}
	case name == openCarryName:
		return f.suspectCarried()
	}
	return 0
}

// suspectReceipt finds the signature that is not the one which stood there. One under an earlier key of the edge can be read by
// nobody: it is that one when the hub's verifies.
func (f Files) suspectReceipt(name string) int {
	n, err := ParseNetwork(f[networkName])
	if err != nil {
		return 0
	}
	text, signatures, _ := strings.Cut(string(f[name]), "\n\n")
	origin, _, _ := strings.Cut(text, "\n")
	edge, _, err := n.journal(origin)
	if err != nil {
		return 0
	}
	witness, err := n.witness()
	if err != nil {
		return 0
	}
	key, err := verifierKey(edge.Key)
	if err != nil {
		return 0
	}
	by := func(line string, key note.Verifier) bool {
		_, err := note.Open([]byte(text+"\n\n"+line), note.VerifierList(key))
		return err == nil && wire.OneSpelling([]byte(text+"\n\n"+line), 1) == nil
	}
	lines := strings.SplitAfter(signatures, "\n")
	first := strings.Count(text, "\n") + 3
	var spoilt *note.InvalidSignatureError
	_, err = note.Open([]byte(text+"\n\n"+lines[0]), note.VerifierList(key, witness))
	switch {
	case by(lines[0], witness), by(lines[0], key):
		return first + 1
	case errors.As(err, &spoilt), len(lines) != 3, wire.OneSpelling([]byte(text+"\n\n"+lines[0]), 1) != nil:
		return first
	case by(lines[1], witness), !strings.HasPrefix(lines[0], "\u2014 "+key.Name()+" "):
		return first
	}
	return first + 1
}

// suspectLeaf finds the leaf that does not lead to the obligations, asides and nonces that are here, or that nobody would show.
func (f Files) suspectLeaf(name string) int {
	c := &Closing{Files: f}
	var err error
	if c.Network, err = ParseNetwork(f[networkName]); err != nil {
		return 0
	}
	if c.Policy, err = ParsePolicy(policyName, f[policyName]); err != nil {
		return 0
	}
	if err := c.open(); err != nil {
		return 0
	}
	if c.Cut, err = parseCut(cutName, f[cutName]); err != nil {
		return 0
	}
	lines := map[Address]int{} // of the leaves in this file
	for i := range c.Cut.Checkpoints {
		x, err := readExcerpt(excerptName(i), f[excerptName(i)])
		if err != nil {
			return 0
		}
		c.Shown = append(c.Shown, x.shown...)
		if excerptName(i) != name {
			continue
		}
		if x.origin != c.Cut.Checkpoints[i].Journal {
			return 2
		}
		shown := x.shown
		for n, line := range bytes.Split(f[name], newline) {
			if !bytes.HasPrefix(line, []byte("leaf ")) || len(shown) == 0 {
				continue
			}
			l, err := event.Parse(shown[0].Line)
			if err != nil || l.Index != shown[0].Index || wire.Origin(l.Network, l.Node, l.Edge, l.Epoch) != x.origin || !Economic(shown[0].Line) {
				return n + 1
			}
			lines[shown[0].address()], shown = n+1, shown[1:]
		}
	}
	set, err := c.Derive()
	if err != nil {
		return 0
	}
	// A nonce that nobody knows first: another one of the same leaf makes its copy count.
	carried, err := ParseCarry(carryName, f[carryName])
	if err != nil {
		return 0
	}
	for k := range set.Used {
		if _, here := carried.Used[k]; here {
			continue
		}
		for n, line := range bytes.Split(f[name], newline) {
			if bytes.Contains(line, []byte(k.nonce)) {
				return n + 1
			}
		}
	}
	for i, want := range [][]byte{set.appendText(nil), set.appendAsides(nil)} {
		have, other := strings.Split(string(f[[]string{obligationsName, asidesName}[i]]), "\n"), strings.Split(string(want), "\n")
		for _, line := range append(without(have, other), without(other, have)...) {
			if at, ok := addressIn(line); ok && lines[at] > 0 {
				return lines[at]
			}
		}
	}
	return 0
}

// without lists the lines of a that b lacks.
func without(a, b []string) []string {
	has := map[string]bool{}
	for _, line := range b {
		has[line] = true
	}
	return slices.DeleteFunc(slices.Clone(a), func(line string) bool { return has[line] })
}

// addressIn is the leaf that a line of obligations or asides speaks of.
func addressIn(line string) (Address, bool) {
	words := strings.Split(line, " ")
	switch n := len(words); {
	case n > 3 && words[0] == "obligation" && words[n-3] == fromLeaf: // a correction follows from two leaves
		return parseAddress(words[n-2:])
	case n == 4 && words[0] == "aside":
		return parseAddress(words[1:3])
	}
	return Address{}, false
}

// suspectCarried holds each line to where it stands again in this period.
func (f Files) suspectCarried() int {
	again := map[string]bool{}
	for _, name := range []string{obligationsName, carryName} {
		for line := range strings.Lines(string(f[name])) {
			again[line] = true
		}
	}
	alone := []int{}
	for n, line := range strings.SplitAfter(string(f[openCarryName]), "\n") {
		switch word, _, _ := strings.Cut(line, " "); {
		case again[line], n == 0, line == "", word == "end": // the title and the end were read already
		case word == "obligation", word == "void", word == "idle", word == "left":
			return n + 1
		case word == "seal":
			if _, root, err := parseBalances(openBooksName, f[openBooksName]); err != nil || line != "seal "+hex.EncodeToString(root[:])+"\n" {
				return n + 1
			}
		default:
			alone = append(alone, n+1)
		}
	}
	if len(alone) == 1 {
		return alone[0]
	}
	return 0
}
