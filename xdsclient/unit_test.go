package xdsclient

import (
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

func TestConfigErrors(t *testing.T) {
	good := Config{
		Target: "istiod:15012", Node: &corev3.Node{Id: "n"}, RootCAs: func() (*x509.CertPool, error) { return x509.NewCertPool(), nil },
	}
	if _, err := New(good, &recorder{}); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*Config){
		"Target": func(c *Config) { c.Target = "istiod" }, "Node.id": func(c *Config) { c.Node = nil },
		"RootCAs": func(c *Config) { c.RootCAs = nil },
	} {
		cfg := good
		spoil(&cfg)
		if _, err := New(cfg, &recorder{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
	if _, err := New(good, nil); err == nil {
		t.Error("a nil handler was taken")
	}
}

func TestBackoff(t *testing.T) {
	b := Backoff{}.withDefaults()
	for n, whole := range []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 30 * time.Second, 30 * time.Second} {
		if low, high := b.wait(n, 0), b.wait(n, 1); low != whole/2 || high != whole {
			t.Errorf("wait(%d) is in [%v, %v], want [%v, %v]", n, low, high, whole/2, whole)
		}
	}
	if got := b.wait(1<<30, 0); got != b.Max/2 {
		t.Errorf("after very many attempts: %v", got)
	}
	if got := (Backoff{Initial: time.Minute}).withDefaults().Max; got != time.Minute {
		t.Errorf("Max below Initial: %v", got)
	}
}

// TestErrorDetailIsBounded: a NACK of anything can be sent.
func TestErrorDetailIsBounded(t *testing.T) {
	var many []Rejection
	for i := range 10_000 {
		many = append(many, Rejection{Name: fmt.Sprint("r", i), Field: "f", Reason: "\xff" + strings.Repeat("ä", 1000)})
	}
	got := errorDetail(TypeListener, many).GetMessage()
	if len(got) > maxDetail+100 || !utf8.ValidString(got) {
		t.Errorf("%d bytes, UTF-8 %v", len(got), utf8.ValidString(got))
	}
	if !strings.HasPrefix(got, "Error adding/updating listener(s) r0: f: ") || !strings.HasSuffix(got, " more") {
		t.Errorf("%q … %q", got[:60], got[len(got)-20:])
	}
	if got := errorDetail("type.googleapis.com/a.b.Thing", []Rejection{{Name: "x", Reason: "bad"}}).GetMessage(); got != "Error adding/updating Thing(s) x: bad" {
		t.Errorf("%q", got)
	}
}

// push makes a response with n clusters of 500 bytes.
func push(n int) *discoveryv3.DeltaDiscoveryResponse {
	resp := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: TypeCluster, Nonce: "n"}
	for i := range n {
		resp.Resources = append(resp.Resources, &discoveryv3.Resource{
			Name:     fmt.Sprintf("inbound-vip|80|http|service-%d.namespace.svc.cluster.local", i),
			Resource: &anypb.Any{TypeUrl: TypeCluster, Value: []byte(strings.Repeat("x", 500))},
		})
	}
	return resp
}

// TestTooMuchToTell: a client that holds more names than istiod's limit for a request says nothing of them after a reconnect. The first
// response then is the whole truth.
func TestTooMuchToTell(t *testing.T) {
	m := newMachine(&corev3.Node{Id: "n"}, []string{TypeCluster}, nil)
	const n = 40_000
	m.connect()
	m.ready()
	m.receive(push(n))
	m.finish(nil, time.Now())

	m.connect()
	if got := m.ready()[0]; len(got.GetInitialResourceVersions()) != 0 {
		t.Fatalf("%d names are told", len(got.GetInitialResourceVersions()))
	}
	u := m.receive(push(n - 2))
	if u == nil || len(u.Removed) != 2 || len(u.Changed) != 0 {
		t.Fatalf("update %v", u)
	}
	m.finish(nil, time.Now())
	if got := len(m.typeSnapshot(TypeCluster).Entries); got != n-2 {
		t.Errorf("%d are held", got)
	}
	// Only the first response.
	if u := m.receive(push(1)); u != nil {
		t.Errorf("the second response removed %d", len(u.Removed))
	}
	m.finish(nil, time.Now())
}

// BenchmarkUnchangedPush is what a push of 10,000 clusters costs of which none changed.
func BenchmarkUnchangedPush(b *testing.B) {
	m := newMachine(&corev3.Node{Id: "n"}, []string{TypeCluster}, nil)
	m.connect()
	m.ready()
	resp := push(10_000)
	b.ReportAllocs()
	for b.Loop() {
		m.receive(resp)
		m.finish(nil, time.Time{})
		m.ready()
	}
}
