package controlplane

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/gowaypoint/gowaypoint/cmd/waypoint/internal/demo/manifests"
	"github.com/gowaypoint/gowaypoint/xdsclient"
)

// fromIstiod are resources that a real istiod sent for the manifests in testdata/istiod.yaml.
func fromIstiod(t *testing.T, file string) map[string]proto.Message {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../../../../waypoint/config/testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	var dump struct {
		Resources []json.RawMessage `json:"resources"`
	}
	if err := json.Unmarshal(b, &dump); err != nil {
		t.Fatal(err)
	}
	out := map[string]proto.Message{}
	for _, raw := range dump.Resources {
		var a anypb.Any
		if err := protojson.Unmarshal(raw, &a); err != nil {
			t.Fatal(err)
		}
		m, err := a.UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		switch r := m.(type) {
		case interface{ GetClusterName() string }:
			out[r.GetClusterName()] = m
		case interface{ GetName() string }:
			out[r.GetName()] = m
		}
	}
	return out
}

func load(t *testing.T, file string) *manifests.Mesh {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m, err := manifests.Load([]manifests.File{{Name: filepath.Base(file), Data: b}})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// The demo's control plane sends what istiod sends: field by field the same, but for the addresses of pods.
func TestSameAsIstiod(t *testing.T) {
	mesh := load(t, "testdata/istiod.yaml")
	first := netip.MustParseAddr("10.244.0.2") // as in the cluster of the sample
	for _, p := range mesh.Pods {
		p.IP, first = first, first.Next()
	}
	got, err := Build(mesh, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for typeURL, file := range map[string]string{
		xdsclient.TypeListener: "lds.json", xdsclient.TypeCluster: "cds.json", xdsclient.TypeEndpoint: "eds.json",
	} {
		want := fromIstiod(t, file)
		for name, w := range want {
			g := got[typeURL][name]
			if g == nil {
				t.Errorf("%s %s: missing", typeURL, name)
				continue
			}
			if !same(t, g, w) {
				t.Errorf("%s %s differs\n got: %s\nwant: %s", typeURL, name, text(t, g), text(t, w))
			}
		}
		if typeURL == xdsclient.TypeEndpoint {
			continue // the sample holds some of them
		}
		for _, name := range got.Names(typeURL) {
			if want[name] == nil {
				t.Errorf("%s %s: istiod sends no such", typeURL, name)
			}
		}
	}
}

// same compares as JSON trees: packed messages may be serialised in different orders. Chains are looked up by name, so that
// their order does not matter.
func same(t *testing.T, a, b proto.Message) bool {
	return text(t, a) == text(t, b)
}

func text(t *testing.T, m proto.Message) string {
	t.Helper()
	raw, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := json.Unmarshal(raw, &tree); err != nil {
		t.Fatal(err)
	}
	if chains, ok := tree["filterChains"].([]any); ok {
		slices.SortFunc(chains, func(a, b any) int {
			x, _ := a.(map[string]any)["name"].(string)
			y, _ := b.(map[string]any)["name"].(string)
			return slices.Compare([]byte(x), []byte(y))
		})
	}
	out, err := json.MarshalIndent(tree, "", " ") // sorted keys, stable spaces
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
