package mesh

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
)

func testConfig() Config {
	return Config{Listen: netip.MustParseAddr("127.0.0.3"), VIP: netip.MustParseAddr("10.96.0.1"), Pod: netip.MustParseAddr("127.0.0.2"),
		Policy: Policy{Count: 3, Principal: true}}
}

func TestControlPlaneTakesEveryResource(t *testing.T) {
	r, err := testConfig().Resources()
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewControlPlane(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for url, want := range map[string]int{typeListener: 3, typeCluster: 4, typeEndpoint: 1} {
		if got := len(p.byType[url]); got != want {
			t.Errorf("%d resources of %s, want %d", got, url, want)
		}
	}
}

func TestEnvoyBootstrapHasNothingOfIstio(t *testing.T) {
	ca, err := NewCA()
	if err != nil {
		t.Fatal(err)
	}
	id, err := ca.Issue("default", "waypoint")
	if err != nil {
		t.Fatal(err)
	}
	r, err := testConfig().Resources()
	if err != nil {
		t.Fatal(err)
	}
	text, err := Envoy(r, id)
	if err != nil {
		t.Fatal(err)
	}
	for _, no := range []string{"istio.stats", "TypedStruct", "hashable_string", "sds-grpc", "eds_cluster_config", "@VIP@", "@POD@"} {
		if strings.Contains(string(text), no) {
			t.Errorf("%s is still there", no)
		}
	}
	for _, yes := range []string{"io.istio.peer_principal", "connect_authority", "envoy.filters.http.rbac", "envoy.filters.http.grpc_stats", "127.0.0.2:8080"} {
		if !strings.Contains(string(text), yes) {
			t.Errorf("%s is missing", yes)
		}
	}
}

func TestOnlyTheLastPolicyMatchesTheClient(t *testing.T) {
	text, err := Policy{Count: 3, Principal: true}.rules()
	if err != nil {
		t.Fatal(err)
	}
	var rules struct{ Policies map[string]json.RawMessage }
	if err := json.Unmarshal(text, &rules); err != nil {
		t.Fatal(err)
	}
	if len(rules.Policies) != 3 {
		t.Errorf("%d policies, want 3", len(rules.Policies))
	}
	for name, p := range rules.Policies {
		last := name == "ns[default]-policy[allow-get]-rule[0]"
		if got := strings.Contains(string(p), `"`+ClientSPIFFE+`"`); got != last {
			t.Errorf("%s names the client: %v", name, got)
		}
		if got := strings.Contains(string(p), "/elsewhere/"); got == last {
			t.Errorf("%s is about another path: %v", name, got)
		}
	}
}
