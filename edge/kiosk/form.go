package kiosk

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"unicode/utf8"
)

// Limits of what a browser sends to the page at the wall.
const (
	MaxForm   = 1 << 10 // bytes of a form, and of a query
	maxFields = 8       // of either
)

var errForm = errors.New("a form of another page, or a damaged one")

// form is one press of a button at the wall: what ParseForm read. Nothing in it says who presses.
type form struct {
	Token    string
	At       string // reader
	Action   string
	Resource string
	Quantity int64
	Start    bool
	Stop     string // handle of a started use
}

// parseForm reads a form or a query strictly: known fields, each at most once.
func parseForm(text string) (form, error) {
	if len(text) > MaxForm {
		return form{}, fmt.Errorf("%w: %d bytes, limit %d", errForm, len(text), MaxForm)
	}
	values, err := url.ParseQuery(text)
	if err != nil || len(values) > maxFields {
		return form{}, errForm
	}
	var f form
	for key, all := range values {
		if len(all) != 1 || !utf8.ValidString(all[0]) {
			return form{}, fmt.Errorf("%w: field %.20q", errForm, key)
		}
		value, to := all[0], (*string)(nil)
		switch key {
		case "token":
			to = &f.Token
		case "at":
			to = &f.At
		case "action":
			to = &f.Action
		case "resource":
			to = &f.Resource
		case "stop":
			to = &f.Stop
		case "start":
			f.Start = value == "1"
			if !f.Start {
				return form{}, fmt.Errorf("%w: start", errForm)
			}
			continue
		case "quantity":
			if f.Quantity, err = strconv.ParseInt(value, 10, 64); err != nil {
				return form{}, fmt.Errorf("%w: quantity", errForm)
			}
			continue
		default:
			return form{}, fmt.Errorf("%w: unknown field %.20q", errForm, key)
		}
		*to = value
	}
	return f, nil
}

// readForm takes the body of a POST.
func readForm(w http.ResponseWriter, r *http.Request) (form, error) {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/x-www-form-urlencoded" {
		return form{}, errForm
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxForm))
	if err != nil {
		return form{}, fmt.Errorf("%w: at most %d bytes", errForm, MaxForm)
	}
	return parseForm(string(body))
}
