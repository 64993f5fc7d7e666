package controlplane

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/gowaypoint/gowaypoint/xdsclient"
	"github.com/gowaypoint/gowaypoint/xdsclient/wds"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata")

// Each testdata/<name>.yaml has the xDS that it becomes in <name>.golden: of listener main_internal the routes and RBAC of each
// chain, the endpoints, and the names of all else, whose shape TestSameAsIstiod holds.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) < 2 {
		t.Fatal("fixtures are missing", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			got := dump(t, file)
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func dump(t *testing.T, file string) string {
	t.Helper()
	res, err := Build(load(t, file), Options{})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	section := func(name string, m proto.Message) { out.WriteString("-- " + name + " --\n" + text(t, m) + "\n") }
	main := res[xdsclient.TypeListener]["main_internal"].(*listenerv3.Listener)
	section("filter_chain_matcher", main.GetFilterChainMatcher())
	for _, c := range main.GetFilterChains() {
		for _, f := range c.GetFilters() {
			var m hcmv3.HttpConnectionManager
			if f.GetTypedConfig().MessageIs(&m) {
				if err := f.GetTypedConfig().UnmarshalTo(&m); err != nil {
					t.Fatal(err)
				}
				section(c.GetName()+" routes", m.GetRouteConfig())
				for _, hf := range m.GetHttpFilters() {
					if strings.HasSuffix(hf.GetName(), ".rbac") {
						section(c.GetName()+" "+hf.GetName(), hf.GetTypedConfig())
					}
				}
			} else if strings.HasSuffix(f.GetName(), ".rbac") {
				section(c.GetName()+" "+f.GetName(), f.GetTypedConfig())
			}
		}
	}
	for _, name := range res.Names(xdsclient.TypeEndpoint) {
		section(name, res[xdsclient.TypeEndpoint][name])
	}
	out.WriteString("-- names --\n")
	for _, typ := range pushOrder {
		for _, name := range res.Names(typ) {
			out.WriteString(typ[strings.LastIndexByte(typ, '.')+1:] + " " + name + "\n")
		}
	}
	return out.String()
}

// The waypoint reads workloads as they were meant.
func TestWorkload(t *testing.T) {
	mesh := load(t, "testdata/istiod.yaml")
	for _, p := range mesh.Pods {
		raw, err := proto.Marshal(workload(p))
		if err != nil {
			t.Fatal(err)
		}
		w, err := wds.Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		canonical, revision := p.Canonical()
		if w.UID != workloadUID(p) || w.Name != p.Name || w.Namespace != p.Namespace || w.CanonicalName != canonical || w.CanonicalRevision != revision ||
			w.ClusterID != clusterID || w.WorkloadName != p.Workload || w.WorkloadType.String() != "pod" || w.Identity() != p.Account.Principal() ||
			len(w.Addresses) != 1 || w.Addresses[0] != p.IP {
			t.Errorf("%s became %+v", p.Name, w)
		}
	}
}
