package authz

import "slices"

// blame says what has to come out otherwise so that the clause comes out as wanted, which it does not.
func (e *evaluation) blame(c Clause, r reading, want bool) []Reason {
	switch c := c.(type) {
	case And:
		return e.blameParts(c, r, want, !want)
	case Or:
		if len(c) == 0 {
			return []Reason{{Attribute: "policy", Wanted: "one alternative at least", Got: "none"}}
		}
		return e.blameParts(c, r, want, want)
	case *indexedOr:
		return e.blame(c.Or, r, want)
	case *Not:
		return e.blame(c.Clause, r.opposite(), !want)
	}
	return e.leaf(c, !want)
}

// blameParts asks the parts that do not come out as wanted. When any of them would be enough, they are a choice.
func (e *evaluation) blameParts(parts []Clause, r reading, want, any bool) []Reason {
	var choice [][]Reason
	for _, part := range parts {
		if e.holds(part, r) != want {
			choice = append(choice, e.blame(part, r, want))
		}
	}
	if !any {
		var all []Reason
		for _, reasons := range choice {
			for _, x := range reasons {
				all = merge(all, x, " and ")
			}
		}
		return all
	}
	// What asks about one attribute in several ways is one reason: "GET" or "HEAD".
	var single []Reason
	var several [][]Reason
	for _, reasons := range choice {
		if len(reasons) == 1 && reasons[0].AnyOf == nil {
			single = merge(single, reasons[0], " or ")
		} else {
			several = append(several, reasons)
		}
	}
	if len(several) == 0 && len(single) == 1 {
		return single
	}
	for _, x := range single {
		several = append(several, []Reason{x})
	}
	if len(several) == 1 {
		return several[0]
	}
	return []Reason{{AnyOf: several}}
}

// merge adds a reason to a list, to the one about the same attribute if there is one.
func merge(list []Reason, x Reason, joiner string) []Reason {
	at := slices.IndexFunc(list, func(y Reason) bool {
		return x.AnyOf == nil && y.AnyOf == nil && y.Attribute == x.Attribute && y.Got == x.Got
	})
	switch {
	case at < 0:
		return append(list, x)
	case list[at].Wanted != x.Wanted:
		list[at].Wanted += joiner + x.Wanted
	}
	return list
}

// evidence says what made the clause come out as it did. Where one part settles it, the first such part is enough.
func (e *evaluation) evidence(c Clause, r reading, came bool) []Reason {
	var parts []Clause
	var oneIsEnough bool
	switch c := c.(type) {
	case And:
		parts, oneIsEnough = c, !came
	case Or:
		parts, oneIsEnough = c, came
	case *indexedOr:
		parts, oneIsEnough = c.Or, came
	case *Not:
		return e.evidence(c.Clause, r.opposite(), !came)
	case Always:
		return nil
	default:
		return e.leaf(c, !came)
	}
	var all []Reason
	for _, part := range parts {
		if e.holds(part, r) != came {
			continue
		}
		for _, x := range e.evidence(part, r, came) {
			all = merge(all, x, " and ")
		}
		if oneIsEnough {
			break
		}
	}
	return all
}

// leaf is the reason of a clause without parts.
func (e *evaluation) leaf(c Clause, negated bool) []Reason {
	x := e.describe(c)
	if negated {
		x.Wanted = "not " + x.Wanted
	}
	if e.holds(c, certainly) != e.holds(c, possibly) {
		x.Got += " (not one certain value)"
	}
	return []Reason{x}
}
