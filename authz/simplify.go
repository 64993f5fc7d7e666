package authz

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// simplify copies a clause without the nesting that generated policies are full of, such as an Or of one And of one.
func simplify(c Clause) (Clause, error) {
	if isNil(c) {
		return nil, errors.New("nil clause")
	}
	switch c := c.(type) {
	case Always:
		return c, nil
	case And:
		if len(c) == 1 {
			return simplify(c[0])
		}
		parts, err := simplifyAll(c)
		if err != nil {
			return nil, err
		}
		switch parts = slices.DeleteFunc(parts, isAlways); len(parts) {
		case 0:
			return Always{}, nil
		case 1:
			return parts[0], nil
		}
		return And(parts), nil
	case Or:
		if len(c) == 1 {
			return simplify(c[0])
		}
		parts, err := simplifyAll(c)
		switch {
		case err != nil:
			return nil, err
		case slices.ContainsFunc(parts, isAlways):
			return Always{}, nil
		case len(parts) == 1:
			return parts[0], nil
		}
		return Or(parts), nil
	case *Not:
		inner, err := simplify(c.Clause)
		return &Not{inner}, err
	}
	return simplifyLeaf(c)
}

func simplifyAll(parts []Clause) ([]Clause, error) {
	simple := make([]Clause, 0, len(parts))
	for _, part := range parts {
		part, err := simplify(part)
		if err != nil {
			return nil, err
		}
		simple = append(simple, part)
	}
	return simple, nil
}

// isNil reports an interface without a value, or with a nil pointer.
func isNil(v any) bool {
	x := reflect.ValueOf(v)
	return !x.IsValid() || x.Kind() == reflect.Pointer && x.IsNil()
}

func isAlways(c Clause) bool {
	_, ok := c.(Always)
	return ok
}

// simplifyLeaf copies a leaf, so that the caller may change its own, and checks it.
func simplifyLeaf(c Clause) (Clause, error) {
	switch c := c.(type) {
	case *Header:
		h := *c
		h.Name = strings.ToLower(h.Name)
		switch h.Name {
		case ":method", ":scheme", ":authority", ":path", "host":
			h.single = true
		}
		h.oneLine = OneLine(h.Name)
		if h.Name == "" || h.Test > HeaderInRange {
			return nil, fmt.Errorf("header %q: no name, or unknown test", c.Name)
		}
		return &h, nil
	case *Path:
		p := *c
		return &p, nil
	case *URITemplate:
		t := *c
		if t.Template.text == "" {
			return nil, errors.New("empty path template")
		}
		return &t, nil
	case *IP:
		ip := *c
		if !ip.Range.IsValid() || ip.Of > DestinationIP {
			return nil, errors.New("invalid address range")
		}
		ip.Range = ip.Range.Masked()
		return &ip, nil
	case *DestinationPort:
		p := *c
		return &p, nil
	case *AddressText:
		a := *c
		if a.Of > DestinationIP || a.Port && a.Of != DestinationIP {
			return nil, errors.New("text of an address or port that is not known")
		}
		return &a, nil
	case *ServerName:
		n := *c
		return &n, nil
	case *Authenticated:
		var a Authenticated
		if c.Pattern != nil {
			p := *c.Pattern
			a.Pattern = &p
		}
		return &a, nil
	case *Certificate:
		x := *c
		if x.Names > Subject || x.Host != "" && (x.Names != DNSNames || x.Joined) {
			return nil, errors.New("certificate: unknown names, or a host that is not compared with each DNS name")
		}
		x.Host = lowerASCII(x.Host)
		return &x, nil
	case *FilterStateIs:
		f := *c
		return &f, nil
	case *FilterStateIP:
		f := *c
		if f.Ranges = slices.Clone(c.Ranges); slices.ContainsFunc(f.Ranges, invalidPrefix) {
			return nil, fmt.Errorf("filter state %q: invalid address range", c.Key)
		}
		return &f, nil
	case *MetadataIs:
		m := *c
		if m.Path = slices.Clone(c.Path); len(m.Path) == 0 {
			return nil, fmt.Errorf("metadata %q: no path", c.Filter)
		}
		value, err := copyValueTest(c.Value)
		m.Value = value
		return &m, err
	}
	return nil, fmt.Errorf("unknown clause %T", c)
}
