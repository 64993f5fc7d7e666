package authz

import "strings"

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
		var all merged
		for _, reasons := range choice {
			all.add(reasons...)
		}
		return all.list(" and ")
	}
	// What asks about one attribute in several ways is one reason: "GET" or "HEAD".
	var alone merged
	var several [][]Reason
	for _, reasons := range choice {
		if len(reasons) == 1 && reasons[0].AnyOf == nil {
			alone.add(reasons[0])
		} else {
			several = append(several, reasons)
		}
	}
	single := alone.list(" or ")
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

// merged is a list of reasons in which those about the same attribute are one. Of a policy for ten thousand principals that is one
// reason, so what they want is put together only at the end.
type merged struct {
	reasons []Reason
	wanted  [][]string        // of each reason
	places  map[[2]string]int // by attribute and value
}

func (m *merged) add(reasons ...Reason) {
	for _, x := range reasons {
		subject := [2]string{x.Attribute, x.Got}
		if at, ok := m.places[subject]; ok && x.AnyOf == nil {
			if w := m.wanted[at]; len(w) > 1 || w[0] != x.Wanted {
				m.wanted[at] = append(w, x.Wanted)
			}
			continue
		}
		if x.AnyOf == nil {
			if m.places == nil {
				m.places = map[[2]string]int{}
			}
			m.places[subject] = len(m.reasons)
		}
		m.reasons, m.wanted = append(m.reasons, x), append(m.wanted, []string{x.Wanted})
	}
}

func (m *merged) list(joiner string) []Reason {
	for i, wanted := range m.wanted {
		m.reasons[i].Wanted = strings.Join(wanted, joiner)
	}
	return m.reasons
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
	var all merged
	for _, part := range parts {
		if e.holds(part, r) != came {
			continue
		}
		all.add(e.evidence(part, r, came)...)
		if oneIsEnough {
			break
		}
	}
	return all.list(" and ")
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
