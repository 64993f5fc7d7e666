package tracing

import (
	"regexp"
	"testing"
)

// Sampling as Envoy's connection manager does it: reason in the id, forced by headers, at random by the id, bounded overall.
func TestDecide(t *testing.T) {
	const low, high = "00000001-0b1c-4f3a-8f7e-1c2b3a4d5e6f", "0000270f-0b1c-4f3a-8f7e-1c2b3a4d5e6f" // 1 and 9999
	p := NewProvider(Options{})
	for _, c := range []struct {
		name    string
		config  string
		headers headers
		id      string
		want    Reason
		digit   byte
	}{
		{"one percent, low", `{"random_sampling":{"value":1}}`, headers{}, low, Sampled, '9'},
		{"one percent, high", `{"random_sampling":{"value":1}}`, headers{}, high, NotTraced, '4'},
		{"nothing configured is all", `{}`, headers{}, high, Sampled, '9'},
		{"forced", `{"random_sampling":{"value":0}}`, headers{"x-envoy-force-trace": "1"}, high, ServiceForced, 'a'},
		{"client", `{"random_sampling":{"value":0}}`, headers{"x-client-trace-id": "x"}, high, ClientForced, 'b'},
		{"client, switched off", `{"random_sampling":{"value":0},"client_sampling":{"value":0}}`, headers{"x-client-trace-id": "x"}, high, NotTraced, '4'},
		{"decided before us", `{"random_sampling":{"value":0}}`, headers{}, WithReason(high, Sampled), Sampled, '9'},
		{"overall bounds it", `{"overall_sampling":{"value":50}}`, headers{"x-envoy-force-trace": "1"}, high, NotTraced, '4'},
		{"overall takes it back", `{"overall_sampling":{"value":0}}`, headers{}, WithReason(low, Sampled), NotTraced, '4'},
		{"no UUID, but a number", `{}`, headers{}, "00000001-abc", Sampled, 0},
		{"no number", `{}`, headers{"x-envoy-force-trace": "1"}, "hello-there", NotTraced, 0},
		{"no number, but a reason", `{}`, headers{}, "zzzzzzzz-0b1c-9f3a-8f7e-1c2b3a4d5e6f", NotTraced, 0},
	} {
		got, reason := newTracer(t, p, c.config).Decide(c.headers, c.id)
		if reason != c.want || c.digit != 0 && got[reasonPosition] != c.digit || c.digit == 0 && got != c.id {
			t.Errorf("%s: %s %v", c.name, got, reason)
		}
	}
	tr, _, err := p.Tracer(parseTracing(t, `{}`), RequestIDConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if got, reason := tr.Decide(headers{}, low); got != low || reason != Sampled {
		t.Errorf("without packing: %s %v", got, reason)
	}
}

func TestRequestID(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := map[string]bool{}
	for range 10000 {
		s := NewRequestID()
		if seen[s] || !form.MatchString(s) {
			t.Fatalf("%q is no new UUID", s)
		}
		seen[s] = true
	}
	if n := testing.AllocsPerRun(100, func() { _ = NewRequestID() }); n > 1 {
		t.Errorf("%v allocations, want only the string", n)
	}
	for _, r := range []Reason{NotTraced, Sampled, ServiceForced, ClientForced} {
		if got := ReasonOf(WithReason(id, r)); got != r {
			t.Errorf("reason %v is read back as %v", r, got)
		}
	}
	if c, err := CompileRequestID(nil); err != nil || c != DefaultRequestID {
		t.Errorf("%v %v", c, err)
	}
}

func BenchmarkRequestID(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_ = NewRequestID()
	}
}

// Forms of B3 and W3C headers, good and bad.
func TestExtract(t *testing.T) {
	const trace, span = "463ac35c9f6413ad48485a3953bb6124", "a2fb4a1d1a96d312"
	b3 := func(h headers) (string, string, string) { return show(extractB3(h)) }
	w3c := func(h headers) (string, string, string) { return show(extractW3C(h)) }
	for _, c := range []struct {
		name                string
		extract             func(headers) (string, string, string)
		headers             headers
		trace, span, sample string
	}{
		{"multi", b3, headers{"x-b3-traceid": trace, "x-b3-spanid": span, "x-b3-sampled": "1"}, trace, span, "yes"},
		{"multi, 64 bits, deferred", b3, headers{"x-b3-traceid": span, "x-b3-spanid": span}, span, span, "-"},
		{"multi, debug", b3, headers{"x-b3-traceid": trace, "x-b3-spanid": span, "x-b3-flags": "1"}, trace, span, "yes"},
		{"only a decision", b3, headers{"x-b3-sampled": "0"}, "", "", "no"},
		{"single", b3, headers{"b3": trace + "-" + span + "-1-" + span}, trace, span, "yes"},
		{"single, deferred", b3, headers{"b3": trace + "-" + span}, trace, span, "-"},
		{"single, decision", b3, headers{"b3": "0"}, "", "", "no"},
		{"single, debug", b3, headers{"b3": trace + "-" + span + "-d"}, trace, span, "yes"},
		{"single before multi", b3, headers{"b3": "0", "x-b3-traceid": trace, "x-b3-spanid": span, "x-b3-sampled": "1"}, "", "", "no"},
		{"short id", b3, headers{"x-b3-traceid": "463ac", "x-b3-spanid": span, "x-b3-sampled": "1"}, "", "", "yes"},
		{"zero ids", b3, headers{"x-b3-traceid": "0000000000000000", "x-b3-spanid": span}, "", "", "-"},
		{"no hex", b3, headers{"x-b3-traceid": "+63ac35c9f6413ad", "x-b3-spanid": span}, "", "", "-"},
		{"traceparent", w3c, headers{"traceparent": "00-" + trace + "-" + span + "-01"}, trace, span, "yes"},
		{"traceparent, not sampled", w3c, headers{"traceparent": "00-" + trace + "-" + span + "-00"}, trace, span, "no"},
		{"a later version", w3c, headers{"traceparent": "cc-" + trace + "-" + span + "-01-what"}, trace, span, "yes"},
		{"version 00 with more", w3c, headers{"traceparent": "00-" + trace + "-" + span + "-01-what"}, "", "", "-"},
		{"version ff", w3c, headers{"traceparent": "ff-" + trace + "-" + span + "-01"}, "", "", "-"},
		{"upper case", w3c, headers{"traceparent": "00-463AC35C9F6413AD48485A3953BB6124-" + span + "-01"}, "", "", "-"},
		{"zero trace", w3c, headers{"traceparent": "00-00000000000000000000000000000000-" + span + "-01"}, "", "", "-"},
		{"flags no hex", w3c, headers{"traceparent": "00-" + trace + "-" + span + "-0x"}, "", "", "-"},
		{"short", w3c, headers{"traceparent": "00-1-1-01"}, "", "", "-"},
	} {
		tr, sp, sa := c.extract(c.headers)
		if tr != c.trace || sp != c.span || sa != c.sample {
			t.Errorf("%s: %q %q %s, want %q %q %s", c.name, tr, sp, sa, c.trace, c.span, c.sample)
		}
	}
}

func show(in incoming) (trace, span, sampled string) {
	sampled = "-"
	if in.sampled != nil {
		sampled = map[bool]string{true: "yes", false: "no"}[*in.sampled]
	}
	if !in.ok {
		return "", "", sampled
	}
	return in.parent.traceID(), hex64(in.parent.span), sampled
}

// B3 with W3C: B3 is read first, W3C when there is none; both are written.
func TestB3WithW3C(t *testing.T) {
	z := startZipkin(t)
	p := NewProvider(options(dialTo(z.Listener.Addr().String())))
	defer closeProvider(t, p)
	tr := newTracer(t, p, zipkinConfig(`,"trace_context_option":"USE_B3_WITH_W3C_PROPAGATION"`))
	span := tr.Start(headers{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}, NotTraced)
	out := headers{"b3": "old"}
	span.Inject(out)
	if out["x-b3-traceid"] != "4bf92f3577b34da6a3ce929d0e0e4736" || out["x-b3-parentspanid"] != "00f067aa0ba902b7" || out["traceparent"] != "00-4bf92f3577b34da6a3ce929d0e0e4736-"+out["x-b3-spanid"]+"-01" || out["b3"] != "" {
		t.Errorf("injected %v", out)
	}
}

// Id forms: shared spans, 64 bits, timestamps, no propagation.
func TestIDForms(t *testing.T) {
	p := NewProvider(options(dialTo("127.0.0.1:1")))
	defer closeProvider(t, p)
	config := func(from, to string) string {
		return regexp.MustCompile(regexp.QuoteMeta(from)).ReplaceAllString(zipkinConfig(""), to)
	}
	in := headers{"x-b3-traceid": "a2fb4a1d1a96d312", "x-b3-spanid": "463ac35c9f6413ad"}

	shared := newTracer(t, p, config(`"shared_span_context":false`, `"shared_span_context":true`)).Start(in, Sampled)
	out := headers{}
	if shared.Inject(out); out["x-b3-spanid"] != "463ac35c9f6413ad" || !shared.ctx.shared {
		t.Errorf("shared span: %v", out)
	}
	narrow := newTracer(t, p, config(`"trace_id_128bit":true`, `"trace_id_128bit":false`)).Start(headers{}, NotTraced)
	if out = (headers{}); len(narrow.TraceID()) != 16 {
		t.Errorf("64 bits: %s", narrow.TraceID())
	}
	if narrow.Inject(out); out["x-b3-sampled"] != "0" || out["x-b3-spanid"] != narrow.TraceID() {
		t.Errorf("64 bits, not sampled: %v", out)
	}
	stamped := newTracer(t, p, config(`"trace_id_128bit":true`, `"trace_id_128bit":true,"timestamp_trace_ids":true`)).Start(headers{}, NotTraced)
	if ts := stamped.ctx.traceHigh >> 32; ts < 1700000000 {
		t.Errorf("timestamp in the id: %d", ts)
	}
	quiet := newTracer(t, p, config(`"client_sampling"`, `"no_context_propagation":true,"client_sampling"`)).Start(in, Sampled)
	if out = (headers{}); len(out) == 0 {
		if quiet.Inject(out); len(out) != 0 || !quiet.Sampled() {
			t.Errorf("no_context_propagation: %v", out)
		}
	}
}

// Whatever the headers say, extraction does not panic, and what it accepts is a valid parent that survives a round trip.
func FuzzExtract(f *testing.F) {
	f.Add("463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-1", "463ac35c9f6413ad", "00-463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-01")
	f.Fuzz(func(t *testing.T, single, multi, traceparent string) {
		for _, in := range []incoming{
			extractB3(headers{"b3": single}), extractB3(headers{"x-b3-traceid": multi, "x-b3-spanid": multi}), extractW3C(headers{"traceparent": traceparent}),
		} {
			if !in.ok {
				continue
			}
			if !in.parent.valid() {
				t.Errorf("%+v is accepted", in.parent)
			}
			b3, w3c := headers{}, headers{}
			injectB3(b3, &in.parent)
			injectW3C(w3c, &in.parent)
			for _, h := range []incoming{extractB3(b3), extractW3C(w3c)} {
				if !h.ok || h.parent.traceID() != in.parent.traceID() || h.parent.span != in.parent.span {
					t.Errorf("%+v comes back as %+v", in.parent, h.parent)
				}
			}
		}
	})
}
