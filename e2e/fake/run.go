package fake

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/config"
)

// runner carries a fixture out.
type runner struct {
	t    testing.TB
	m    *Mesh
	f    *fixture
	http httpClients
	tcp  map[string]*session
	logs []logCheck
	// unlogged are ids that must not be in the access log when the others are.
	unlogged []string
}

// outcome is what came of one request.
type outcome struct {
	values map[string]string // by expectation key
	id     string            // x-request-id, "" if it has none
}

// logCheck is an expectation of the access log, which is written a little later.
type logCheck struct {
	r     *request
	id    string
	field string
	expectation
}

func runFixture(t testing.TB, path string) {
	f, err := readFixture(path)
	must(t, err)
	o := Options{MeshConfig: f.mesh}
	sections := f.sections
	if len(sections) > 0 && sections[0].name == "manifests" {
		o.Manifests, sections = sections[0].text, sections[1:]
	}
	m := Start(t, o)
	x := &runner{t: t, m: m, f: f, http: httpClients{}, tcp: map[string]*session{}}
	x.census()
	for _, s := range sections {
		switch s.name {
		case "apply":
			m.Istiod.Apply(s.text)
		case "delete":
			m.Istiod.Delete(s.text)
		case "requests":
			for _, r := range s.requests {
				x.request(r)
			}
			x.census()
		}
	}
	x.checkLogs()
	if t.Failed() {
		t.Logf("%s: %s", path, f.prose)
	}
}

// census fails for every field that is refused, or reported without a reason, and for every part that serves nobody.
func (x *runner) census() {
	x.t.Helper()
	for _, problem := range census(x.m.Server.Report()) {
		x.t.Errorf("%s: census: %s", x.f.path, problem)
	}
}

func census(r *config.Report) (problems []string) {
	for _, e := range r.Entries {
		if e.Class == config.Refused || e.Class == config.Reported && strings.HasPrefix(e.Why, "not known here") {
			problems = append(problems, fmt.Sprintf("%s %s: %s (%s: %s)", e.Class, e.Path, e.Why, e.Resource, e.Example))
		}
	}
	for i, f := range r.Refusals {
		if i == 3 {
			return append(problems, fmt.Sprintf("and %d refusals more", len(r.Refusals)-i))
		}
		problems = append(problems, fmt.Sprintf("refusal %s: %s", f.Resource, f.Reason))
	}
	return problems
}

var requestIDs atomic.Int64

func (x *runner) request(r *request) {
	deadline := time.Now().Add(10 * time.Second)
	for {
		problems, logs := x.attempt(r)
		if len(problems) == 0 {
			x.logs = append(x.logs, logs...)
			return
		}
		if !r.await || time.Now().After(deadline) {
			x.t.Errorf("%s:%d: %s\n\t%s", x.f.path, r.line, r.source, strings.Join(problems, "\n\t"))
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// attempt makes the requests of a line once and returns what is not as wanted.
func (x *runner) attempt(r *request) (problems []string, logs []logCheck) {
	seen := map[string]bool{}
	for range r.times {
		start := time.Now()
		o, err := x.do(r)
		took := time.Since(start)
		if err != nil {
			return append(problems, err.Error()), nil
		}
		seen[o.values["pod"]] = true
		for _, e := range r.want {
			switch e.key {
			case "pods":
			case "after", "within":
				d, err := time.ParseDuration(e.value)
				if err != nil || (took < d) == (e.key == "after") {
					problems = append(problems, fmt.Sprintf("took %s, want %s %s (%v)", took, e.key, e.value, err))
				}
			case "details":
				logs = append(logs, logCheck{r, o.id, "response_code_details", e})
			case "unlogged":
				x.unlogged = append(x.unlogged, o.id)
			case "flags":
				logs = append(logs, logCheck{r, o.id, "response_flags", e})
			default:
				if field, ok := strings.CutPrefix(e.key, "log."); ok {
					logs = append(logs, logCheck{r, o.id, field, e})
				} else if got := o.values[strings.ToLower(e.key)]; !e.matches(got) {
					problems = append(problems, fmt.Sprintf("%s is %q, want %q; all: %q", e.key, got, e.value, o.values))
				}
			}
		}
		if len(problems) > 0 {
			return problems, nil
		}
	}
	for _, e := range r.want {
		if e.key == "pods" {
			want := strings.Split(e.value, ",")
			slices.Sort(want)
			var got []string
			for p := range seen {
				got = append(got, p)
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				problems = append(problems, fmt.Sprintf("answers came from %v, want %v", got, want))
			}
		}
	}
	return problems, logs
}

func (e expectation) matches(got string) bool {
	if e.part {
		return strings.Contains(got, e.value)
	}
	return got == e.value || slices.Contains(strings.Split(e.value, "|"), got)
}

// checkLogs reads the access log until all lines that are asked for are there.
func (x *runner) checkLogs() {
	if len(x.logs) == 0 {
		return
	}
	deadline := time.Now().Add(5 * time.Second)
	lines := map[string]map[string]any{}
	for {
		all, err := accessLog()
		must(x.t, err)
		for _, l := range all {
			if id, ok := l["request_id"].(string); ok {
				lines[id] = l
			}
		}
		missing := slices.ContainsFunc(x.logs, func(c logCheck) bool { return lines[c.id] == nil })
		if !missing || time.Now().After(deadline) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, id := range x.unlogged {
		if l := lines[id]; l != nil {
			x.t.Errorf("%s: this should not be in the access log: %v", x.f.path, l)
		}
	}
	wrong := map[*request]bool{}
	for _, c := range x.logs {
		if wrong[c.r] { // one line of several is enough
			continue
		}
		l := lines[c.id]
		got := ""
		if v := l[c.field]; v != nil {
			got = fmt.Sprint(v)
		}
		if l == nil || !c.matches(got) {
			wrong[c.r] = true
			x.t.Errorf("%s:%d: %s\n\taccess log: %s is %q, want %q; the line: %v", x.f.path, c.r.line, c.r.source, c.field, got, c.value, l)
		}
	}
}

// accessLog returns the lines that have been written so far.
func accessLog() ([]map[string]any, error) {
	f, err := os.Open(AccessLog())
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var out []map[string]any
	for s := bufio.NewScanner(f); s.Scan(); {
		l := map[string]any{}
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("access log: %w in %s", err, s.Text())
		}
		out = append(out, l)
	}
	return out, nil
}
