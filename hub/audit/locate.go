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

// maxLooked is how much is read to say which line of a changed bundle was changed, in bytes; what is read twice counts twice. Who
// made what is read here is not known any more, so past it the file alone is named.
const maxLooked = 128 << 20

// hashedAtOnce is how many bytes are hashed while one is parsed.
const hashedAtOnce = 16

// maxSolved is how many debts are cleared anew to say which line of an answer or a proof was changed: at most a second or two.
const maxSolved = 20_000

// looking is one search for a line, with what it may still read.
type looking struct {
	Files
	left int64 // bytes; negative: nothing, and what was found since is not to be believed
}

// may takes n bytes from what is left, and says whether there were as many.
func (l *looking) may(n int64) bool {
	if l.left < n {
		l.left = -1
		return false
	}
	l.left -= n
	return true
}

// read gives a file; nothing once too much was read.
func (l *looking) read(name string) []byte {
	if !l.may(int64(len(l.Files[name]))) {
		return nil
	}
	return l.Files[name]
}

// whole takes what deriving the period again may read: every text once, and what grows with two of them together.
func (l *looking) whole() bool {
	var size, receipts, steps, notes int64
	for name, text := range l.Files {
		size += int64(len(text))
		switch {
		case strings.HasPrefix(name, "receipts/"), strings.HasPrefix(name, "opening/receipts/"):
			receipts++
		case strings.HasPrefix(name, "steps/"):
			steps++
		case strings.HasSuffix(name, "/statement.note"):
			notes++
		}
	}
	lines := func(name string) int64 { return int64(bytes.Count(l.Files[name], newline)) }
	// Each receipt looks for its edge and each checkpoint for its node; dues and grants each hash the cut; each step copies the
	// debts, and each statement asks of every debt for its unit and whether it is disputed.
	places, cut := lines(networkName), int64(len(l.Files[cutName]))
	rules := int64(len(l.Files[policyName])) / hashedAtOnce
	return l.may(size) && l.may((receipts+lines(cutName))*places) && l.may((rules+places)*cut/hashedAtOnce) &&
		l.may((steps+rules)*lines(obligationsName)) && l.may(notes*(steps+rules)*lines(obligationsName))
}

// locate looks for the line in which a file is not the one that the manifest lists, or in which the manifest is not what was
// signed. The manifest holds hashes alone; but nearly everything in a bundle also follows from something else in it. What has
// the hash that was listed is what stood there, and the first line that differs from it is certain. Where nothing gives that,
// the first line is named that does not fit the other files. A line that only a root speaks for stays unnamed.
func (f Files) locate(d *Difference) *Difference {
	return (&looking{f, maxLooked}).locate(d)
}

func (l *looking) locate(d *Difference) *Difference {
	if d.Line > 0 || l.Files[d.File] == nil {
		return d
	}
	if d.File == manifestName {
		if line := l.manifestLine(d); line != nil {
			return line
		}
		return d
	}
	words := l.listed(d.File)
	if words == nil {
		return d
	}
	var at *Difference
	if text := l.remade(d.File); text != nil {
		if sum := hash(text); hex.EncodeToString(sum[:]) == words[1] && errors.As(l.same(d.File, text), &at) {
			return at
		}
	}
	if !l.whole() {
		return d
	}
	if _, err := Load(l.Files); errors.As(err, &at) && at.File == d.File && at.Line > 0 {
		return at
	}
	if line := l.suspect(d.File); line > 0 && l.left >= 0 {
		return differ(d.File, line, "%s", d.What)
	}
	if d.File != policyName || !l.may(int64(len(l.Files[policyName]))) {
		return d
	}
	if _, err := ParsePolicy(policyName, l.Files[policyName]); err != nil {
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
func (l *looking) manifestLine(d *Difference) *Difference {
	if !l.whole() {
		return nil
	}
	c, err := Load(l.Files)
	if err != nil || c.Period.State != settlement.Posted {
		return nil
	}
	return l.noteLine(manifestName, c.manifest(l.Files), errors.New(d.What))
}

// remade is what a file must have been, from others that are as they were; nil where nothing says so.
func (l *looking) remade(name string) []byte {
	switch {
	case name == networkName:
		return l.remadeNetwork()
	case name == cutName || name == openCutName:
		return l.remadeCut(name)
	case name == openBooksName:
		return l.remadeOpening()
	case strings.HasPrefix(name, "journals/"):
		return l.remadeExcerpt(name)
	case strings.HasSuffix(name, ".answer.txt") || strings.HasSuffix(name, ".proof.txt"):
		return l.solved(name)
	}
	return nil
}

// remadeNetwork has the network of the manifest and the nodes of the cut, which knows all of them. Keys carry their own sums.
func (l *looking) remadeNetwork() []byte {
	cut, err := parseCut(cutName, l.read(cutName))
	head := strings.SplitN(string(l.read(manifestName)), "\n", 3)
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
	for line := range strings.Lines(string(l.read(networkName))) {
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
func (l *looking) remadeCut(name string) []byte {
	n, err := ParseNetwork(l.read(networkName))
	if err != nil {
		return nil
	}
	receipt := receiptName
	if name == openCutName {
		receipt = openReceiptName
	}
	c := &settlement.Cut{}
	has := map[string]bool{} // nodes
	for i := 0; ; i++ {
		signed := l.read(receipt(i))
		if signed == nil || !l.may(int64(len(n.Edges))) {
			break
		}
		text, _, _ := strings.Cut(string(signed), "\n\n")
		p, err := wire.ParseCheckpoint(text + "\n")
		if err != nil {
			return nil
		}
		edge, _, err := n.journal(p.Origin)
		if err != nil {
			return nil
		}
		c.Checkpoints = append(c.Checkpoints, settlement.Checkpoint{Journal: p.Origin, Node: edge.Node, Size: p.Size, Root: p.Root})
		has[edge.Node] = true
	}
	for line := range strings.Lines(string(l.read(name))) {
		switch words := strings.Fields(line); {
		case len(words) == 2 && words[0] == "day":
			day, _ := number(words[1])
			c.Day = settlement.Day(day)
		case len(words) == 2 && words[0] == "missing" && name == openCutName:
			c.Missing = append(c.Missing, words[1])
		}
	}
	for _, node := range n.Nodes {
		if name == cutName && !has[node] {
			c.Missing = append(c.Missing, node)
		}
	}
	return c.AppendText(nil)
}

// remadeExcerpt has the journal and its sizes from both cuts, and all between as it stands here.
func (l *looking) remadeExcerpt(name string) []byte {
	cut, err := parseCut(cutName, l.read(cutName))
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
	if opening, err := parseCut(openCutName, l.read(openCutName)); err == nil {
		for _, p := range opening.Checkpoints {
			if p.Journal == cut.Checkpoints[i].Journal {
				from = p.Size
			}
		}
	}
	const head = 4
	b := fmt.Appendf(nil, "%s\norigin %s\nfrom %d\nto %d\n", excerptTitle, cut.Checkpoints[i].Journal, from, cut.Checkpoints[i].Size)
	for n, line := range strings.SplitAfter(string(l.read(name)), "\n") {
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
func (l *looking) remadeOpening() []byte {
	balances, _, err := parseBalances(closingName, l.read(closingName))
	if err != nil || !l.may(int64(len(l.Files[entriesName]))) {
		return nil
	}
	entries, err := ReadEntries(l.Files)
	if err != nil {
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
func (l *looking) solved(name string) []byte {
	stem, isAnswer := strings.CutSuffix(name, ".answer.txt")
	if !isAnswer {
		stem = strings.TrimSuffix(name, ".proof.txt")
	}
	c, err := clearing.DecodeCase(l.read(stem + ".case.txt"))
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
func (l *looking) suspect(name string) int {
	switch {
	case strings.HasPrefix(name, "steps/"):
		return 1 // it has no other
	case strings.HasPrefix(name, "receipts/"), strings.HasPrefix(name, "opening/receipts/"):
		return l.suspectReceipt(name)
	case strings.HasPrefix(name, "journals/"):
		return l.suspectLeaf(name)
	case name == cutName, name == openCutName:
		// Everything but the day was compared with the receipts; what an earlier cut missed stands nowhere else.
		if bytes.Equal(l.remadeCut(name), l.read(name)) && (name == cutName || !bytes.Contains(l.read(name), []byte("\nmissing "))) {
			return 2
		}
	case name == openCarryName:
		return l.suspectCarried()
	}
	return 0
}

// suspectReceipt finds the signature that is not the one which stood there. One under an earlier key of the edge can be read by
// nobody: it is that one when the hub's verifies.
func (l *looking) suspectReceipt(name string) int {
	n, err := ParseNetwork(l.read(networkName))
	if err != nil {
		return 0
	}
	text, signatures, _ := strings.Cut(string(l.read(name)), "\n\n")
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
func (l *looking) suspectLeaf(name string) int {
	if !l.whole() {
		return 0
	}
	c := &Closing{Files: l.Files}
	var err error
	if c.Network, err = ParseNetwork(l.Files[networkName]); err != nil {
		return 0
	}
	if c.Policy, err = ParsePolicy(policyName, l.Files[policyName]); err != nil {
		return 0
	}
	if err := c.open(); err != nil {
		return 0
	}
	if c.Cut, err = parseCut(cutName, l.Files[cutName]); err != nil {
		return 0
	}
	type use struct {
		nonceKey
		line int
	}
	var uses []use             // of cards, in this file
	lines := map[Address]int{} // of the leaves in this file
	for i := range c.Cut.Checkpoints {
		x, err := readExcerpt(excerptName(i), l.Files[excerptName(i)])
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
		for n, line := range bytes.Split(l.read(name), newline) {
			if !bytes.HasPrefix(line, []byte("leaf ")) || len(shown) == 0 {
				continue
			}
			leaf, err := event.Parse(shown[0].Line)
			if err != nil || leaf.Index != shown[0].Index || wire.Origin(leaf.Network, leaf.Node, leaf.Edge, leaf.Epoch) != x.origin || !Economic(shown[0].Line) {
				return n + 1
			}
			if inner, carried := original(&leaf); carried {
				leaf = inner
			}
			if body, err := event.ParseEntry(leaf.Kind, leaf.Body); err == nil && body.Nonce != "" {
				uses = append(uses, use{nonceKey{leaf.Edge, body.Nonce}, n + 1})
			}
			lines[shown[0].address()], shown = n+1, shown[1:]
		}
	}
	set, err := c.Derive()
	if err != nil {
		return 0
	}
	// A nonce that nobody knows first: another one of the same leaf makes its copy count.
	carried, err := ParseCarry(carryName, l.read(carryName))
	if err != nil {
		return 0
	}
	for _, u := range uses {
		_, counts := set.Used[u.nonceKey]
		_, after := carried.Used[u.nonceKey]
		if _, before := c.Ground.Opening.used(u.nonceKey); counts && !before && !after {
			return u.line
		}
	}
	for i, want := range [][]byte{set.appendText(nil), set.appendAsides(nil)} {
		have, other := strings.Split(string(l.read([]string{obligationsName, asidesName}[i])), "\n"), strings.Split(string(want), "\n")
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
func (l *looking) suspectCarried() int {
	again := map[string]bool{}
	for _, name := range []string{obligationsName, carryName} {
		for line := range strings.Lines(string(l.read(name))) {
			again[line] = true
		}
	}
	_, root, err := parseBalances(openBooksName, l.read(openBooksName))
	seal := "seal " + hex.EncodeToString(root[:]) + "\n"
	alone := []int{}
	for n, line := range strings.SplitAfter(string(l.read(openCarryName)), "\n") {
		switch word, _, _ := strings.Cut(line, " "); {
		case again[line], n == 0, line == "", word == "end": // the title and the end were read already
		case word == "obligation", word == "void", word == "idle", word == "left":
			return n + 1
		case word == "seal":
			if err != nil || line != seal {
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
