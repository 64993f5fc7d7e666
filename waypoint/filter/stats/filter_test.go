package stats

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	statsv1 "istio.io/api/envoy/extensions/stats"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/telemetry/metrics"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	. "github.com/gowaypoint/gowaypoint/waypoint/filter/filtertest"
)

func config() *statsv1.PluginConfig {
	return &statsv1.PluginConfig{DisableHostHeaderFallback: true, Reporter: statsv1.Reporter_SERVER_GATEWAY,
		TcpReportingDuration: durationpb.New(10 * time.Second)}
}

// expect looks for series by name and value, whatever their labels.
func expect(t *testing.T, m *metrics.Mesh, want ...string) {
	t.Helper()
	var b strings.Builder
	if err := m.WritePrometheus(&b); err != nil {
		t.Fatal(err)
	}
	for _, w := range want {
		name, value, _ := strings.Cut(w, " ")
		found := ""
		for line := range strings.Lines(b.String()) {
			if strings.HasPrefix(line, name+"{") {
				found = strings.TrimSpace(line)
			}
		}
		if !strings.HasSuffix(found, "} "+value) {
			t.Errorf("want %s %s, got %q", name, value, found)
		}
	}
}

func TestRequest(t *testing.T) {
	m := metrics.NewMesh(metrics.MeshOptions{})
	f := Build(t, HTTP(m), "istio.stats", config())
	x := New("GET", "/")
	f.Request(x)
	x.Record.ResponseCode = 200
	x.Record.Duration = telemetry.Took(time.Millisecond)
	f.(filter.Finisher).Finish(x)
	expect(t, m, "istio_requests_total 1", "istio_request_duration_milliseconds_count 1")
	var b strings.Builder
	if err := m.WritePrometheus(&b); err != nil || !strings.Contains(b.String(), `source_principal="`+Principal+`"`) {
		t.Errorf("the client's principal is missing in (%v)\n%s", err, b.String())
	}
	if strings.Contains(b.String(), "istio_request_messages_total{") {
		t.Error("messages of what is not gRPC")
	}
}

func TestMessagesOfALongStream(t *testing.T) {
	m := metrics.NewMesh(metrics.MeshOptions{})
	f := Build(t, HTTP(m), "istio.stats", config()).(*httpFilter)
	x := New("POST", "/s/m", "content-type: application/grpc")
	now := x.Record.Start
	f.now = func() time.Time { return now }
	x.Messages = &filter.Messages{}
	f.Request(x)
	x.Messages.Requests.Add(1)
	x.Messages.Responses.Add(3)
	f.ResponseData(x, nil) // too early to tell
	var b strings.Builder
	if err := m.WritePrometheus(&b); err != nil || strings.Contains(b.String(), "messages_total{") {
		t.Errorf("reported before the interval was over (%v)\n%s", err, b.String())
	}
	now = now.Add(10 * time.Second)
	f.ResponseData(x, nil)
	expect(t, m, "istio_request_messages_total 1", "istio_response_messages_total 3")

	// At the end the counting filter, which comes first in the chain, has written the totals.
	x.Messages = nil
	x.Record.RequestMessages, x.Record.ResponseMessages = 2, 4
	f.Finish(x)
	expect(t, m, "istio_request_messages_total 2", "istio_response_messages_total 4", "istio_requests_total 1")
	if x.Local(f) != nil {
		t.Error("Finish leaves something behind")
	}
}

func TestSession(t *testing.T) {
	m := metrics.NewMesh(metrics.MeshOptions{})
	f := Build(t, Network(m), "istio.stats", config()).(*networkFilter)
	start := time.Now()
	at := func(id uint64, d time.Duration, received, sent uint64) *telemetry.Record { // a new Record each time
		return &telemetry.Record{Start: start, ConnectionID: id, Duration: telemetry.Took(d), WireBytesReceived: received, WireBytesSent: sent}
	}
	f.Report(at(1, 0, 0, 0), filter.Opened)
	f.Report(at(2, 0, 0, 0), filter.Opened)
	expect(t, m, "istio_tcp_connections_opened_total 2")
	f.Report(at(1, 5*time.Second, 5, 7), filter.Ongoing) // the interval is 10 s
	expect(t, m, "istio_tcp_received_bytes_total 0")
	f.Report(at(1, 9990*time.Millisecond, 10, 20), filter.Ongoing)
	f.Report(at(2, 10*time.Second, 100, 200), filter.Ongoing)
	expect(t, m, "istio_tcp_received_bytes_total 110", "istio_tcp_sent_bytes_total 220", "istio_tcp_connections_closed_total 0")
	f.Report(at(1, 11*time.Second, 11, 21), filter.Closed)
	f.Report(at(2, 11*time.Second, 100, 200), filter.Closed)
	expect(t, m, "istio_tcp_received_bytes_total 111", "istio_tcp_sent_bytes_total 221", "istio_tcp_connections_closed_total 2")
	if len(f.sessions) != 0 {
		t.Errorf("%d sessions are left", len(f.sessions))
	}
	f.Report(at(3, time.Second, 1, 1), filter.Closed) // never heard of before
	expect(t, m, "istio_tcp_connections_opened_total 3", "istio_tcp_connections_closed_total 3", "istio_tcp_received_bytes_total 112")
	if f.Connect(&filter.Conn{}) != nil || len(f.sessions) != 0 {
		t.Error("denied, or remembered")
	}
}

func TestNotes(t *testing.T) {
	f := Build(t, HTTP(metrics.NewMesh(metrics.MeshOptions{})), "istio.stats", &statsv1.PluginConfig{})
	if n := Notes(f); len(n) != 1 || !strings.HasPrefix(n[0], "reporter") {
		t.Errorf("notes %q", n)
	}
}
