package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gowaypoint/gowaypoint/cmd/waypoint/internal/demo/manifests"
)

// ErrUnexpected is returned by Once when an answer was not the expected one.
var ErrUnexpected = errors.New("not every answer was the expected one")

// result is what came of a probe.
type result struct {
	step string
	probe
	status  int
	body    string
	policy  string // as the waypoint logged it
	problem string // "" when all is as expected
}

// Once starts the demo, makes the requests of the table, prints what came, and ends. Any answer but the expected one is
// ErrUnexpected.
func Once(ctx context.Context, o Options) error {
	return once(ctx, o, scenario)
}

func once(ctx context.Context, o Options, scenario []step) error {
	if o.Dir != "" {
		return errors.New("--once has a scenario of its own: use it without -f")
	}
	base, err := embeddedFiles("default")
	if err != nil {
		return err
	}
	began := time.Now()
	s, err := start(ctx, o, base)
	if err != nil {
		return err
	}
	defer s.Close()
	fmt.Fprintf(o.Out, "control plane, CA, waypoint, client and destination are up after %s\n\n", time.Since(began).Round(time.Millisecond))
	var results []*result
	byID := map[string]*result{}
	seen := s.lines.watch()
	for _, st := range scenario {
		files, err := st.files(base)
		if err != nil {
			return err
		}
		if err := s.apply(ctx, files); err != nil {
			return fmt.Errorf("step %q: %w", st.title, err)
		}
		for _, p := range st.probes {
			r := &result{step: st.title, probe: p}
			id := newID()
			byID[sameID(id)] = r
			results = append(results, r)
			if err := s.probe(ctx, r, id); err != nil {
				r.problem = err.Error()
			}
		}
	}
	collect(ctx, seen, byID)
	bad := 0
	for _, r := range results {
		if r.check(); r.problem != "" {
			bad++
		}
	}
	printTable(o.Out, results)
	if err := s.awaitSpans(o.Out); err != nil {
		return err
	}
	fmt.Fprintf(o.Out, "%d of %d as expected\n", len(results)-bad, len(results))
	if bad > 0 {
		fmt.Fprintf(o.Out, "the waypoint's log: %s\n", s.logFile)
		return ErrUnexpected
	}
	s.dropLog()
	return nil
}

// files are the default manifests without the step's omissions and with its additions.
func (st *step) files(base []manifests.File) ([]manifests.File, error) {
	var out []manifests.File
	for _, f := range base {
		if f.Name != st.without {
			out = append(out, f)
		}
	}
	extra, err := embeddedFiles("once")
	if err != nil {
		return nil, err
	}
	for _, name := range st.with {
		found := false
		for _, f := range extra {
			if f.Name == name {
				out, found = append(out, f), true
			}
		}
		if !found {
			return nil, fmt.Errorf("no manifest %s", path.Join("once", name))
		}
	}
	return out, nil
}

// probeTimeout bounds one request; all is local.
const probeTimeout = 10 * time.Second

// probe makes a request at the way in, as curl would, until each of the instances that are wanted has answered.
func (s *stack) probe(ctx context.Context, r *result, id string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer c.CloseIdleConnections()
	// Load balancing may take any endpoint: whoever wants an answer of one version asks until it is that one's turn.
	for try := 0; ; try++ {
		req, err := http.NewRequestWithContext(ctx, r.method, "http://"+s.entry.addr()+r.path, strings.NewReader(""))
		if err != nil {
			return err
		}
		req.Header.Set("X-Request-Id", id)
		req.Header.Set(toHeader, "helloworld:5000")
		if r.as != "" {
			req.Header.Set(asHeader, r.as)
		}
		for name, v := range r.header {
			req.Header.Set(name, v)
		}
		resp, err := c.Do(req)
		if err != nil {
			return err
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return err
		}
		r.status, r.body = resp.StatusCode, string(b)
		if loc := resp.Header.Get("Location"); loc != "" {
			r.body = "Location: " + loc
		}
		if !r.anyOf || strings.Contains(r.body, r.wantBody) || r.status != r.wantStatus || try == 50 {
			return nil
		}
	}
}

// collect waits for the access log's lines about the probes.
func collect(ctx context.Context, seen chan *exchange, byID map[string]*result) {
	timeout := time.After(3 * time.Second) // the log is written every second
	missing := len(byID)
	for missing > 0 {
		select {
		case x := <-seen:
			if r := byID[sameID(x.id)]; r != nil && r.policy == "" {
				r.policy = x.log.Details
				missing--
			}
		case <-timeout:
			return
		case <-ctx.Done():
			return
		}
	}
}

// check compares with what the table wants.
func (r *result) check() {
	switch {
	case r.problem != "":
	case r.status != r.wantStatus:
		r.problem = fmt.Sprintf("status %d, want %d", r.status, r.wantStatus)
	case r.method != http.MethodHead && !strings.Contains(r.body, r.wantBody):
		r.problem = fmt.Sprintf("body %q, want %q", r.body, r.wantBody)
	case r.policy != r.wantDetails:
		r.problem = fmt.Sprintf("details %q, want %q", r.policy, r.wantDetails)
	}
}

func printTable(out io.Writer, results []*result) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "  request\twho\texpected\tgot\tdecided by\t\n")
	last := ""
	for _, r := range results {
		if r.step != last {
			fmt.Fprintf(w, "%s\t\t\t\t\t\n", r.step)
			last = r.step
		}
		name := r.method + " " + r.path
		for k, v := range r.header {
			name += fmt.Sprintf(" (%s: %s)", k, v)
		}
		verdict := "ok"
		if r.problem != "" {
			verdict = "UNEXPECTED: " + r.problem
		}
		who := r.as
		if who == "" {
			who = defaultCaller
		}
		want := r.wantBody
		if r.method == http.MethodHead {
			want = "" // HEAD has no body
		}
		fmt.Fprintf(w, "  %s\t%s\t%d %s\t%d %s\t%s\t%s\n", name, who, r.wantStatus, brief(want), r.status, brief(r.body), r.policy, verdict)
	}
	_ = w.Flush() // a table that cannot be printed is not the demo's failure
}

func brief(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	s, _, _ = strings.Cut(s, ", instance")
	return strings.TrimPrefix(s, "Hello version: ")
}

// awaitSpans waits for the collector to have got a trace.
func (s *stack) awaitSpans(out io.Writer) error {
	for end := time.Now().Add(8 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if n, name := s.spans.received(); n > 0 {
			fmt.Fprintf(out, "\n%d spans reached the collector; the last is of %s\n", n, name)
			return nil
		}
	}
	return errors.New("no span reached the demo's collector")
}
