package appliance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"kith/edge/kiosk"
	"kith/internal/command"
)

// entryLimit bounds how long edge entry add waits: for the card, the witness, and the disk.
const entryLimit = kiosk.TapWait + kiosk.WitnessWait + 15*time.Second

// pages is the running edge's API, found by its state directory.
type pages struct{ base string }

func findPages(state string) (pages, error) {
	addr, err := os.ReadFile(filepath.Join(state, addrFile))
	if err != nil {
		return pages{}, fmt.Errorf("no edge has run with %s: %w", state, err)
	}
	return pages{"http://" + strings.TrimSpace(string(addr))}, nil
}

// call does one request and decodes the answer; a refusal of the edge becomes its sentence.
func (p pages) call(ctx context.Context, method, path string, body, into any) error {
	ctx, cancel := context.WithTimeout(ctx, statusWait)
	defer cancel()
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, p.base+path, content)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("the edge does not answer; is it running? %w", err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, statusLimit))
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		var no struct{ Error string }
		if json.Unmarshal(b, &no) != nil || no.Error == "" {
			no.Error = res.Status
		}
		return errors.New(no.Error)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("reading the edge's answer: %w", err)
	}
	return nil
}

func entryFlags(f *flag.FlagSet, p *place) {
	f.StringVar(&p.config, "config", "edge.yaml", "configuration `FILE`")
	f.StringVar(&p.state, "state-dir", "", "`DIR` of the journal; default: state/ beside the configuration")
	f.BoolVar(&p.json, "json", false, "print JSON")
}

func (p *place) fill() {
	if p.state == "" {
		p.state = filepath.Join(filepath.Dir(p.config), "state")
	}
}

func entryAddVerb(ctx context.Context, s command.Streams, args []string) int {
	f := command.Flags(s, "edge entry add")
	var p place
	var want kiosk.Want
	entryFlags(f, &p)
	f.StringVar(&want.Action, "action", "", "`VERB`: use, consume, work, deliver-service, transfer, transfer-custody, raise or lower")
	f.StringVar(&want.Resource, "resource", "", "`RESOURCE` of the node's catalogue")
	f.Int64Var(&want.Quantity, "quantity", 0, "how many `PARTS` of its measure")
	f.StringVar(&want.Reader, "reader", "", "`READER` where the card will be shown")
	f.StringVar(&want.Note, "note", "", "`TEXT` that only people of the house read")
	f.StringVar(&want.Member, "member", "", "on behalf of `MEMBER`: a host's card confirms; without --reader nobody's does")
	f.StringVar(&want.To, "to", "", "where a transfer goes: `NODE` or NODE/MEMBER")
	f.StringVar(&want.Corrects, "corrects", "", "`EPOCH/INDEX` of the entry that this one replaces")
	f.BoolVar(&want.Start, "start", false, "begin a use; its stop will make the quantity")
	f.StringVar(&want.Stop, "stop", "", "`ID` of the started use to stop")
	if _, code, ok := command.Parse(s, f, args, 0); !ok {
		return code
	}
	p.fill()
	at, err := findPages(p.state)
	if err != nil {
		return command.Fail(s, "edge entry add", err)
	}
	ctx, cancel := context.WithTimeout(ctx, entryLimit)
	defer cancel()
	var a kiosk.Answer
	if err := at.call(ctx, http.MethodPost, "/api/v1/entries", want, &a); err != nil {
		return command.Fail(s, "edge entry add", err)
	}
	if a, err = at.follow(ctx, s, a, p.json); err != nil {
		return command.Fail(s, "edge entry add", err)
	}
	if p.json {
		_ = json.NewEncoder(s.Out).Encode(a) // a closed pipe is the reader's wish
	} else {
		fmt.Fprintln(s.Out, sentence(a))
	}
	if a.State != kiosk.Recorded && a.State != kiosk.Running {
		return command.Failed
	}
	return command.OK
}

// follow asks until nothing more will happen. When the caller gives up, so does the entry: nobody waits for it any more.
func (p pages) follow(ctx context.Context, s command.Streams, a kiosk.Answer, quiet bool) (kiosk.Answer, error) {
	tick := time.NewTicker(kiosk.AskAgain)
	defer tick.Stop()
	told := kiosk.State("")
	for !a.State.Final() {
		if a.State != told && !quiet {
			told = a.State
			fmt.Fprintln(s.Err, sentence(a))
		}
		select {
		case <-ctx.Done():
			err := p.call(context.WithoutCancel(ctx), http.MethodPost, "/api/v1/entries/"+a.ID+"/cancel", nil, &a)
			return a, err
		case <-tick.C:
		}
		if err := p.call(ctx, http.MethodGet, "/api/v1/entries/"+a.ID, nil, &a); err != nil && ctx.Err() == nil {
			return a, err
		}
	}
	return a, nil
}

func sentence(a kiosk.Answer) string {
	what := fmt.Sprintf("%s %s, %d %s", a.Action, a.Resource, a.Quantity, a.Measure)
	switch a.State {
	case kiosk.Waiting:
		return what + ": show a card at " + a.Reader
	case kiosk.Witness:
		return what + ": now a second person's card at " + a.Reader
	case kiosk.Recording:
		return what + ": being recorded"
	case kiosk.Recorded:
		return fmt.Sprintf("%s: recorded, evidence %s, leaf %s", what, a.Evidence, a.Address)
	case kiosk.Running:
		return fmt.Sprintf("%s %s: started; stop it with --stop %s", a.Action, a.Resource, a.ID)
	case kiosk.Refused:
		return what + ": refused: " + a.Reason
	}
	return what + ": " + string(a.State)
}

func entryListVerb(ctx context.Context, s command.Streams, args []string) int {
	f := command.Flags(s, "edge entry list")
	var p place
	entryFlags(f, &p)
	limit := f.Int("limit", 20, "at most `N`")
	if _, code, ok := command.Parse(s, f, args, 0); !ok {
		return code
	}
	p.fill()
	at, err := findPages(p.state)
	if err != nil {
		return command.Fail(s, "edge entry list", err)
	}
	var list struct {
		Entries []kiosk.Listed `json:"entries"`
	}
	if err := at.call(ctx, http.MethodGet, fmt.Sprintf("/api/v1/entries?limit=%d", *limit), nil, &list); err != nil {
		return command.Fail(s, "edge entry list", err)
	}
	if p.json {
		_ = json.NewEncoder(s.Out).Encode(list) // a closed pipe is the reader's wish
		return command.OK
	}
	for _, l := range list.Entries {
		state := ""
		if l.Corrected {
			state = "\tcorrected"
		}
		fmt.Fprintf(s.Out, "%s\t%s\t%s %s\t%d %s\tof %s\tevidence %s%s\n", l.Address, time.Unix(int64(l.Entry.Day)*86400, 0).UTC().Format(time.DateOnly),
			l.Action, l.Entry.Resource, l.Entry.Quantity, l.Entry.Measure, l.Entry.Home, l.Entry.Evidence, state)
	}
	return command.OK
}
