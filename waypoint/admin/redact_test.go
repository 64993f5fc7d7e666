package admin

import (
	"strings"
	"testing"

	udpav1 "github.com/cncf/xds/go/udpa/type/v1"
	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

func mustAny(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func text(s string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: s}}
}

func upstreamTLS() *tlsv3.UpstreamTlsContext {
	return &tlsv3.UpstreamTlsContext{Sni: "shown", CommonTlsContext: &tlsv3.CommonTlsContext{TlsCertificates: []*tlsv3.TlsCertificate{{
		CertificateChain: text("chain"), PrivateKey: text("hidden key"), Password: &corev3.DataSource{
			Specifier: &corev3.DataSource_InlineBytes{InlineBytes: []byte("hidden password")},
		},
	}}}}
}

func withSocket(a *anypb.Any) *clusterv3.Cluster {
	return &clusterv3.Cluster{Name: "c", TransportSocket: &corev3.TransportSocket{
		Name: "tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: a},
	}}
}

// A key two Anys deep does not come out, whether it is a message or the JSON of one.
func TestRedact(t *testing.T) {
	js, err := protojson.Marshal(upstreamTLS())
	if err != nil {
		t.Fatal(err)
	}
	st := &structpb.Struct{}
	if err := protojson.Unmarshal(js, st); err != nil {
		t.Fatal(err)
	}
	for name, socket := range map[string]*anypb.Any{
		"message":      mustAny(t, upstreamTLS()),
		"typed struct": mustAny(t, &udpav1.TypedStruct{TypeUrl: typePrefix + "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", Value: st}),
	} {
		original := mustAny(t, withSocket(socket))
		before := proto.Clone(original)
		js, err := toJSON(&adminv3.ClustersConfigDump_DynamicCluster{Cluster: redact(original)})
		if err != nil {
			t.Fatal(err)
		}
		got := string(js)
		if strings.Contains(got, "hidden") || strings.Contains(got, "aGlkZGVu") {
			t.Errorf("%s: a secret is dumped: %s", name, got)
		}
		for _, want := range []string{`"[redacted]"`, `"W3JlZGFjdGVkXQ=="`, `"shown"`, `"chain"`} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: no %s in %s", name, want, got)
			}
		}
		if !proto.Equal(original, before) {
			t.Errorf("%s: the resource itself was changed", name)
		}
	}
}

// What holds no secret is the very Any that came.
func TestRedactKeepsBytes(t *testing.T) {
	a := mustAny(t, withSocket(mustAny(t, &tlsv3.UpstreamTlsContext{Sni: "x"})))
	if redact(a) != a {
		t.Error("a resource without secrets was encoded anew")
	}
}

// A known type with bytes that are none of it costs the extensions of that resource, not the dump.
func TestBrokenExtension(t *testing.T) {
	broken := mustAny(t, withSocket(&anypb.Any{TypeUrl: typePrefix + "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", Value: []byte{0xff}}))
	js, err := toJSON(&adminv3.ClustersConfigDump_DynamicCluster{Cluster: redact(broken)})
	if err != nil {
		t.Fatal(err)
	}
	if got := string(js); !strings.Contains(got, `"undecoded_sha256"`) || !strings.Contains(strings.ReplaceAll(got, " ", ""), `"name":"c"`) {
		t.Error(got)
	}
	nameless := mustAny(t, withSocket(&anypb.Any{Value: []byte("x")}))
	js, err = toJSON(&adminv3.ClustersConfigDump_DynamicCluster{Cluster: redact(nameless)})
	if err != nil || !strings.Contains(string(js), typePrefix+"envoy.config.cluster.v3.Cluster") {
		t.Errorf("%s, %v", js, err)
	}
	garbage := &anypb.Any{TypeUrl: typePrefix + "envoy.config.cluster.v3.Cluster", Value: []byte{0xff}}
	js, err = toJSON(&adminv3.ClustersConfigDump_DynamicCluster{Cluster: redact(garbage)})
	if err != nil || !strings.Contains(string(js), "undecoded_bytes") {
		t.Errorf("%s, %v", js, err)
	}
}
