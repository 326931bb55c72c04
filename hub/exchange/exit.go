package exchange

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"kith/hub/audit"
	"kith/hub/settlement"
)

// picksOf reads what was chosen about the obligations of a node that leaves: each choice is the first digits of an
// obligation, what becomes of it, the nodes that say so and, to serve in kind, a day. As at a dispute, that those nodes
// have said so is the operator's word.
func picksOf(c *audit.Closing, choices []string) ([]audit.Pick, error) {
	if c.Period.State != settlement.Final {
		return nil, fmt.Errorf("period %s is %s; a node leaves once it is final and before it is posted", c.Name, c.Period.State)
	}
	open, err := c.Open()
	if err != nil {
		return nil, err
	}
	var picks []audit.Pick
	for _, text := range choices {
		words := strings.Fields(text)
		if len(words) != 3 && len(words) != 4 {
			return nil, fmt.Errorf("choice %.120q: write \"OBLIGATION REMAINDER NODE,NODE [DATE]\"", text)
		}
		var found []settlement.Obligation
		for _, o := range open {
			if strings.HasPrefix(o.ID.String(), words[0]) {
				found = append(found, o)
			}
		}
		if len(found) != 1 {
			return nil, fmt.Errorf("choice %.120q: %d open obligations begin so; hub period show lists them", text, len(found))
		}
		p := audit.Pick{Obligation: found[0].ID.String(), Remainder: words[1], By: strings.Split(words[2], ",")}
		slices.Sort(p.By)
		if len(words) == 4 {
			day, err := time.Parse(time.DateOnly, words[3])
			if err != nil {
				return nil, fmt.Errorf("choice %.120q: write the day as 2026-11-30", text)
			}
			p.Until = day.Unix() / daySeconds
		}
		picks = append(picks, p)
	}
	return picks, nil
}
