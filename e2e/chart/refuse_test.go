package chart

import (
	"encoding/json"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/gowaypoint/gowaypoint/charts"
)

// Wrong values are refused before anything is rendered, with an error that names the key.
func TestRefused(t *testing.T) {
	for name, tc := range map[string]struct{ values, want string }{
		"negative replicas":            {`waypoints: [{name: a, replicas: -1}]`, "/waypoints/0/replicas"},
		"negative default":             {`defaults: {replicas: -1}`, "/defaults/replicas"},
		"half a replica":               {`defaults: {replicas: 1.5}`, "/defaults/replicas"},
		"unknown key":                  {`replicaCount: 2`, "replicaCount"},
		"unknown key of a waypoint":    {`waypoints: [{name: a, replica: 2}]`, "'replica'"},
		"unknown key, nested":          {`defaults: {drain: {seconds: 2}}`, "'seconds'"},
		"unknown key of istio":         {`istio: {hub: x}`, "'hub'"},
		"no waypoint":                  {`waypoints: []`, "/waypoints"},
		"no name":                      {`waypoints: [{namespace: a}]`, "'name'"},
		"name of no Service":           {`waypoints: [{name: 1st}]`, "/waypoints/0/name"},
		"for something else":           {`defaults: {for: services}`, "/defaults/for"},
		"env that is not text":         {`defaults: {proxyMetadata: {A: 1}}`, "/defaults/proxyMetadata/A"},
		"metadata of identity":         {`defaults: {proxyMetadata: {TRUST_DOMAIN: x}}`, "/defaults/proxyMetadata/TRUST_DOMAIN"},
		"env of identity":              {`defaults: {env: [{name: POD_NAME, value: x}]}`, "/defaults/env/0/name"},
		"drain in metadata":            {`defaults: {proxyMetadata: {EXIT_ON_ZERO_ACTIVE_CONNECTIONS: "true"}}`, "/defaults/proxyMetadata/EXIT_ON_ZERO_ACTIVE_CONNECTIONS"},
		"discoveryAddress twice":       {`defaults: {proxyConfig: {discoveryAddress: "a:1"}}`, "/defaults/proxyConfig/discoveryAddress"},
		"role labels":                  {`defaults: {podLabels: {sidecar.istio.io/inject: "true"}}`, "/defaults/podLabels/sidecar.istio.io~1inject"},
		"address without port":         {`istio: {caAddress: istiod}`, "/istio/caAddress"},
		"digest that is none":          {`defaults: {image: {digest: abc}}`, "/defaults/image/digest"},
		"too much unavailable":         {`defaults: {rollingUpdate: {maxUnavailable: "101%"}}`, "/defaults/rollingUpdate/maxUnavailable"},
		"quantity that is none":        {`defaults: {resources: {limits: {memory: 1 GB}}}`, "/defaults/resources/limits/memory"},
		"HPA to zero":                  {`defaults: {hpa: {minReplicas: 0}}`, "/defaults/hpa/minReplicas"},
		"names twice":                  {`waypoints: [{name: a}, {name: a}]`, "shop/a is listed twice"},
		"account created twice":        {`waypoints: [{name: a}, {name: b, serviceAccount: a}]`, "both create service account shop/a"},
		"serves its own account":       {`waypoints: [{name: a, for: all, servesServiceAccount: a}]`, "runs as the account it serves"},
		"serves an account's Services": {`waypoints: [{name: a, servesServiceAccount: b}]`, "set for: workload"},
		"killed while it drains":       {`defaults: {drain: {terminationDrainSeconds: 30}}`, "is killed after drain.terminationGracePeriodSeconds, 30 s"},
		"killed before it counts":      {`defaults: {drain: {exitOnZeroActiveConnections: true, minimumDrainSeconds: 40}}`, "drains for 40 s"},
		"HPA upside down":              {`defaults: {hpa: {enabled: true, minReplicas: 9}}`, "hpa.minReplicas 9 above"},
		"PDB that says two things":     {`defaults: {pdb: {enabled: true, minAvailable: 1, maxUnavailable: 1}}`, "takes one"},
		"PDB that blocks nodes":        {`defaults: {replicas: 2, pdb: {enabled: true, minAvailable: 2}}`, "no node that runs one could be drained"},
		"env twice":                    {`defaults: {env: [{name: A, value: "1"}, {name: A, value: "2"}]}`, "env A twice"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := Render(charts.Waypoint(), release, ns, tc.values)
			if err == nil {
				t.Fatalf("accepted:\n%s", strings.Join(r.Manifests, "\n"))
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("the error does not say %q:\n%v", tc.want, err)
			}
		})
	}
}

// The strict decoder is what finds a misspelt field: it must be able to.
func TestDecodeRefuses(t *testing.T) {
	r, _ := mustRender(t, "")
	for _, change := range [][2]string{
		{"periodSeconds: 15", "periodSecond: 15"},
		{"type: ClusterIP", "type: ClusterIP\n  type: ClusterIP"},
		{"gatewayClassName:", "gatewayClass:"},
		{"kind: ServiceAccount", "kind: Secret"},
		{"containerPort: 15020", `containerPort: "15020"`},
	} {
		all := strings.Join(r.Manifests, "\n---\n")
		changed := strings.Replace(all, change[0], change[1], 1)
		if changed == all {
			t.Fatalf("%q is not there", change[0])
		}
		if _, err := Decode(strings.Split(changed, "\n---\n")); err == nil {
			t.Errorf("%q is accepted", change[1])
		}
	}
}

// A waypoint takes every key of the defaults, and each object of the schema is closed.
func TestSchemaIsStrict(t *testing.T) {
	raw, err := fs.ReadFile(charts.Waypoint(), "values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(raw, &schema); err != nil {
		t.Fatal(err)
	}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			// A map of the user's own keys has properties only to refuse some.
			properties, _ := v["properties"].(map[string]any)
			for key, value := range properties {
				if value != false && v["additionalProperties"] != false {
					t.Errorf("%s has %s and takes unknown keys", path, key)
				}
			}
			for k, x := range v {
				walk(path+"/"+k, x)
			}
		case []any:
			for _, x := range v {
				walk(path+"/*", x)
			}
		}
	}
	walk("", schema)
	properties := schema["properties"].(map[string]any)
	keys := func(v any) map[string]any { return v.(map[string]any)["properties"].(map[string]any) }
	waypoint := keys(properties["waypoints"].(map[string]any)["items"])
	for _, k := range slices.Sorted(maps.Keys(keys(properties["defaults"]))) {
		if _, ok := waypoint[k]; !ok {
			t.Errorf("defaults.%s cannot be set on a waypoint", k)
		}
	}
}
