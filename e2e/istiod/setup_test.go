package istiod

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gowaypoint/gowaypoint/e2e/istiod/builder"
)

// meshes in which the corpus is looked at; the first is Istio's default.
func meshes(t testing.TB) []*Mesh {
	t.Helper()
	raw, err := os.ReadFile("testdata/mesh.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var out []*Mesh
	for _, m := range []Mesh{
		{Name: "default"},
		{Name: "renamed", TrustDomain: "new-td", Aliases: []string{"old-td"}},
		{Name: "aliases", Aliases: []string{"old-td", "*-td", "example.org"}},
		{Name: "other root namespace, no providers", RootNamespace: "mesh-root", TrustDomain: "old-td"},
	} {
		providers := string(raw)
		if m.RootNamespace != "" {
			providers = ""
		}
		complete, err := newMesh(m, providers)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, complete)
	}
	return out
}

// service makes a Service of the cluster.
func service(namespace, name string) *builder.Service {
	return &builder.Service{Namespace: namespace, Name: name, Hostname: name + "." + namespace + ".svc.cluster.local"}
}

var waypoint = builder.Gateway{Namespace: "default", Name: "waypoint"}

// places are chains of waypoints; most of the corpus is attached to the first.
var places = []*Place{
	{"Service default/reviews", waypoint, service("default", "reviews")},
	{"Service default/ratings", waypoint, service("default", "ratings")},
	{"Service other/reviews", waypoint, service("other", "reviews")},
	{"ServiceEntry default/external", waypoint, &builder.Service{Namespace: "default", Name: "external", Hostname: "external.example.com", External: true}},
	{"workloads", waypoint, nil},
	{"workloads behind other/waypoint", builder.Gateway{Namespace: "other", Name: "waypoint"}, nil},
	{"Service default/reviews behind other/waypoint", builder.Gateway{Namespace: "other", Name: "waypoint"}, service("default", "reviews")},
	{"Service istio-system/reviews behind istio-system/waypoint", builder.Gateway{Namespace: "istio-system", Name: "waypoint"}, service("istio-system", "reviews")},
}

// keyHost stands in the corpus for a server of the test.
const keyHost = "keys.test:8080"

// corpus reads it, with a server for keys that ends with the test.
func corpus(t testing.TB) []*Entry {
	t.Helper()
	var address string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/keys":
			_, _ = w.Write([]byte(`{"keys": [{"kty": "RSA", "kid": "fetched", "e": "AQAB", "n": "xAE7eB6qugXyCAG3yhh7pkDkT65pHymX"}]}`))
		case "/openid/.well-known/openid-configuration":
			_, _ = w.Write([]byte(`{"issuer": "http://` + address + `/openid", "jwks_uri": "http://` + address + `/keys"}`))
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	address = server.Listener.Addr().String()
	entries, err := Corpus("testdata/corpus", keyHost, address)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// localAddress is that server's, which is another in each run.
var localAddress = regexp.MustCompile(`127\.0\.0\.1:\d{4,}`)

// differences are objects that one side takes and the other does not, with the reason, by title.
type differences struct {
	file  string
	found map[string]map[string]string
}

func newDifferences(line Line) *differences {
	return &differences{file: filepath.Join("testdata", "differences", line.Name+".txt"), found: map[string]map[string]string{}}
}

func (d *differences) add(title, object, why string) {
	if d.found[title] == nil {
		d.found[title] = map[string]string{}
	}
	why = strings.Join(strings.Fields(localAddress.ReplaceAllString(why, keyHost)), " ")
	if len(why) > 200 {
		why = strings.ToValidUTF8(why[:200], "") + "…"
	}
	d.found[title][object] = why
}

// check compares with the file, and writes it with -update.
func (d *differences) check(t *testing.T) {
	t.Helper()
	var b strings.Builder
	for _, title := range slices.Sorted(maps.Keys(d.found)) {
		b.WriteString("-- " + title + " --\n")
		for _, object := range slices.Sorted(maps.Keys(d.found[title])) {
			b.WriteString(object + ": " + d.found[title][object] + "\n")
		}
	}
	if *update {
		if err := os.WriteFile(d.file, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(d.file)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("%s lists other objects: run with -update and read the difference\n%s", d.file, b.String())
	}
}
