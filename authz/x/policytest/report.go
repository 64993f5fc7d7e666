package policytest

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

// Place says where a field of a policy stands, such as policies/cart.yaml:12. The policy is given by its index.
type Place func(policy int, field string) string

// WriteText writes the failures as differences, the alternatives that no case hits, and a summary whose last line is
// "<n> passed, <n> failed". place may be nil.
func (r *Result) WriteText(w io.Writer, place Place) error {
	var b strings.Builder
	for _, o := range r.Outcomes {
		if !o.Passed {
			o.writeText(&b)
		}
	}
	c := r.Coverage
	if len(c.Missed) > 0 {
		b.WriteString("Not hit by any case:\n")
		for _, m := range c.Missed {
			at := ""
			if place != nil {
				at = place(m.Index, m.Field) + ": "
			}
			fmt.Fprintf(&b, "  %s%s %s%s\n", at, m.Policy, m.Part, dash(m.Why))
		}
	}
	for _, name := range c.Uncounted {
		fmt.Fprintf(&b, "Not counted: %s has no targetRefs, so no waypoint enforces it\n", name)
	}
	fmt.Fprintf(&b, "coverage: %d of %d alternatives of rules (%.0f %%)\n", c.Hit, c.Alternatives, c.Percent())
	fmt.Fprintf(&b, "%d passed, %d failed\n", len(r.Outcomes)-r.Failed(), r.Failed())
	_, err := io.WriteString(w, b.String())
	return err
}

func (o *Outcome) writeText(b *strings.Builder) {
	fmt.Fprintf(b, "FAIL %s: %s\n", o.Case.Where(), o.Case.Name)
	fmt.Fprintf(b, "    %s\n", &o.Case.Query)
	for _, line := range o.difference() {
		fmt.Fprintf(b, "  %s\n", line)
	}
	for _, why := range o.Why {
		fmt.Fprintf(b, "    %s\n", why)
	}
	b.WriteByte('\n')
}

// difference is what was expected and what came.
func (o *Outcome) difference() []string {
	if o.Err != nil {
		return []string{"- " + o.Case.Expect.String(), "+ error: " + o.Err.Error()}
	}
	return []string{"- " + o.Case.Expect.String(), "+ " + string(o.Got) + " by " + o.By}
}

func dash(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}

type junitSuites struct {
	XMLName xml.Name     `xml:"testsuites"`
	Suites  []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	File    string        `xml:"file,attr"`
	Line    int           `xml:"line,attr"`
	Failure *junitProblem `xml:"failure,omitempty"`
	Error   *junitProblem `xml:"error,omitempty"`
}

type junitProblem struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// WriteJUnit writes the outcomes in the XML form that CI systems read, a suite for each file of cases.
func (r *Result) WriteJUnit(w io.Writer) error {
	var out junitSuites
	suites := map[string]int{}
	for _, o := range r.Outcomes {
		i, known := suites[o.Case.File]
		if !known {
			i = len(out.Suites)
			suites[o.Case.File] = i
			out.Suites = append(out.Suites, junitSuite{Name: o.Case.File})
		}
		s := &out.Suites[i]
		c := junitCase{Class: o.Case.For, Name: o.Case.Name, File: o.Case.File, Line: o.Case.Line}
		if c.Class == "" {
			c.Class = o.Case.File
		}
		s.Tests++
		if !o.Passed {
			diff := o.difference()
			p := &junitProblem{
				Message: strings.TrimPrefix(diff[1], "+ ") + ", expected " + strings.TrimPrefix(diff[0], "- "),
				Text:    strings.Join(append(append([]string{o.Case.Query.String()}, diff...), o.Why...), "\n"),
			}
			if o.Err != nil {
				s.Errors++
				c.Error = p
			} else {
				s.Failures++
				c.Failure = p
			}
		}
		s.Cases = append(s.Cases, c)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(out); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}
