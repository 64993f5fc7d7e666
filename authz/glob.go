package authz

import (
	"regexp/syntax"
	"slices"
	"strings"
)

// glob is a sequence of literals with gaps between them: the string begins with the first literal, ends with the last,
// and has the others between in order. It is what remains of an expression such as .*/ns/shop/.* once read.
// Positions and gaps are counted in bytes, which are what an expression reads.
type glob struct {
	literals []string
	gaps     []int // gaps[i] is the least length between literals[i] and literals[i+1]
}

// match reports whether v, which holds no newline, has the form of the glob. Taking each middle literal at its
// leftmost place leaves the most room for the rest, so nothing has to be tried twice.
func (g *glob) match(v string) bool {
	if !strings.HasPrefix(v, g.literals[0]) {
		return false
	}
	v = v[len(g.literals[0]):]
	last := len(g.gaps)
	if last == 0 {
		return v == ""
	}
	for i := 1; i < last; i++ {
		if len(v) < g.gaps[i-1] {
			return false
		}
		v = v[g.gaps[i-1]:]
		at := strings.Index(v, g.literals[i])
		if at < 0 {
			return false
		}
		v = v[at+len(g.literals[i]):]
	}
	return len(v) >= g.gaps[last-1]+len(g.literals[last]) && strings.HasSuffix(v, g.literals[last])
}

// maxGlobs bounds the alternatives that groups multiply out to. istiod's service account form needs four.
const maxGlobs = 8

// globsOf reads an expression as globs, or reports that it is of another form. Each of its characters stands for a byte.
func globsOf(expr string) ([]glob, bool) {
	if g, ok := plainGlob(expr); ok {
		return []glob{g}, true
	}
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil, false
	}
	alternatives, ok := alternativesOf(re)
	if !ok {
		return nil, false
	}
	globs := make([]glob, 0, len(alternatives))
	for _, tokens := range alternatives {
		globs = append(globs, newGlob(tokens))
	}
	return globs, true
}

// token is a literal, or a gap of at least min characters.
type token struct {
	literal string
	gap     bool
	min     int
}

// alternativesOf lists the token sequences that an expression stands for.
func alternativesOf(re *syntax.Regexp) ([][]token, bool) {
	switch re.Op {
	case syntax.OpEmptyMatch:
		return [][]token{nil}, true
	case syntax.OpLiteral:
		if re.Flags&syntax.FoldCase != 0 || slices.Contains(re.Rune, '\n') {
			return nil, false
		}
		return [][]token{{{literal: bytesOf(string(re.Rune))}}}, true
	case syntax.OpStar, syntax.OpPlus:
		if re.Sub[0].Op != syntax.OpAnyCharNotNL {
			return nil, false
		}
		t := token{gap: true}
		if re.Op == syntax.OpPlus {
			t.min = 1
		}
		return [][]token{{t}}, true
	case syntax.OpCapture:
		return alternativesOf(re.Sub[0])
	case syntax.OpQuest:
		with, ok := alternativesOf(re.Sub[0])
		return append(with, nil), ok && len(with) < maxGlobs
	case syntax.OpAlternate:
		var all [][]token
		for _, sub := range re.Sub {
			some, ok := alternativesOf(sub)
			if all = append(all, some...); !ok || len(all) > maxGlobs {
				return nil, false
			}
		}
		return all, true
	case syntax.OpConcat:
		all := [][]token{nil}
		for _, sub := range re.Sub {
			tails, ok := alternativesOf(sub)
			if !ok || len(all)*len(tails) > maxGlobs {
				return nil, false
			}
			all = product(all, tails)
		}
		return all, true
	}
	return nil, false
}

// plainGlob reads an expression of literals and .* without parsing it: the form in which istiod asks for a namespace, of which a
// set may hold a hundred thousand.
func plainGlob(expr string) (glob, bool) {
	literals := strings.Split(expr, ".*")
	for i, literal := range literals {
		if strings.ContainsAny(literal, "\\.+*?()|[]{}^$\n") {
			return glob{}, false
		}
		if literal == "" && i > 0 && i < len(literals)-1 {
			return glob{}, false // two gaps are one: newGlob knows
		}
		literals[i] = bytesOf(literal)
	}
	return glob{literals, make([]int, len(literals)-1)}, true
}

func product(heads, tails [][]token) [][]token {
	var all [][]token
	for _, head := range heads {
		for _, tail := range tails {
			all = append(all, slices.Concat(head, tail))
		}
	}
	return all
}

// newGlob joins neighbouring literals and neighbouring gaps.
func newGlob(tokens []token) glob {
	g := glob{literals: []string{""}}
	afterGap := false
	for _, t := range tokens {
		last := len(g.literals) - 1
		switch {
		case !t.gap:
			g.literals[last] += t.literal
			afterGap = afterGap && t.literal == ""
		case afterGap:
			g.gaps[last-1] += t.min
		default:
			g.literals, g.gaps = append(g.literals, ""), append(g.gaps, t.min)
			afterGap = true
		}
	}
	return g
}
