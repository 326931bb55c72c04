package exchange

import (
	"flag"
	"fmt"
	"io"

	"kith/hub/advice"
)

// adviceOrder makes the builder of one verb on advice.
func adviceOrder(do string) request {
	return func(f *flag.FlagSet) (int, func([]string) (Order, error)) {
		o := &AdviceOrder{Do: do}
		if do == "list" {
			return 0, func([]string) (Order, error) { return Order{Advice: o}, nil }
		}
		f.Int64Var(&o.Quantity, "quantity", 0, "accept only `MANY` of what is advised; default: all")
		return 1, func(args []string) (Order, error) {
			o.ID = args[0]
			return Order{Advice: o}, nil
		}
	}
}

// commitmentOrder makes the builder of one verb on commitments.
func commitmentOrder(do string) request {
	return func(f *flag.FlagSet) (int, func([]string) (Order, error)) {
		o := &CommitmentOrder{Do: do}
		if do == "list" {
			return 0, func([]string) (Order, error) { return Order{Commitment: o}, nil }
		}
		f.StringVar(&o.Reason, "reason", "", "`TEXT` that says why, one line; name no person")
		return 1, func(args []string) (Order, error) {
			o.ID = args[0]
			return Order{Commitment: o}, nil
		}
	}
}

func printAdvice(w io.Writer, a *advice.Advice) {
	if len(a.Items) == 0 {
		fmt.Fprintln(w, "nothing to advise: the houses are in balance, as far as this hub knows")
	}
	for _, i := range a.Items {
		fmt.Fprintf(w, "%s  %s\n  %s\n", i.ID, sentence(i.Do, i.Quantity, i.Kind, i.Measure, i.Provider, i.Receiver), i.Reason)
	}
	for _, u := range a.Unmet {
		fmt.Fprintf(w, "no bed for %d from %s\n  %s\n", u.Quantity, u.Node, u.Reason)
	}
	for _, q := range a.Quotas {
		fmt.Fprintf(w, "share of %s in %s: %d, hosted %d\n", q.Node, q.Kind, q.Quota, q.Hosted)
	}
}

func (s *CommitmentState) print(w io.Writer) {
	fmt.Fprintf(w, "%s  %s, until %s\t%s\n", s.ID, s.says(), s.Until, s.State)
}
