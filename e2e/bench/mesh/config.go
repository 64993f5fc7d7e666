package mesh

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

//go:embed testdata/waypoint.json
var waypoint string

// HBONEPort is the one port of HBONE: the proxies dial it on the pod's address whatever the endpoint's port is.
const HBONEPort = 15008

// ServicePort is the service's port, and the pod's.
const ServicePort = 8080

// Config is what is left open in the configuration.
type Config struct {
	// Listen is the address of the proxy's HBONE port.
	Listen netip.Addr
	// VIP is the service's address. Nothing is sent to it: it is what clients name in CONNECT.
	VIP netip.Addr
	// Pod is the address of the one endpoint, where HBONE has to be served.
	Pod    netip.Addr
	Policy Policy
	// Edit changes the resources before a proxy gets them; nil: they stay as istiod made them.
	Edit func(*Resources)
}

// Resources are xDS resources as JSON objects, each with its "@type".
type Resources struct {
	Listeners []object `json:"listeners"`
	Clusters  []object `json:"clusters"`
	Endpoints []object `json:"endpoints"`
}

// Resources returns what istiod would send.
func (c Config) Resources() (*Resources, error) {
	rules, err := c.Policy.rules()
	if err != nil {
		return nil, err
	}
	text := strings.NewReplacer("@HBONE@", c.Listen.String(), "@VIP@", c.VIP.String(), "@POD@", c.Pod.String(),
		`"@RULES@"`, string(rules)).Replace(waypoint)
	var r Resources
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return nil, fmt.Errorf("testdata/waypoint.json: %w", err)
	}
	if c.Edit != nil {
		c.Edit(&r)
	}
	return &r, nil
}

// Authority is what a client names in CONNECT.
func (c Config) Authority() string { return netip.AddrPortFrom(c.VIP, ServicePort).String() }

// Address is where the proxy serves HBONE.
func (c Config) Address() string { return netip.AddrPortFrom(c.Listen, HBONEPort).String() }

// EachObject calls f for every JSON object of the listeners and clusters, parents first, for Config.Edit.
func (r *Resources) EachObject(f func(o map[string]any)) {
	walk(r.Listeners, f)
	walk(r.Clusters, f)
}

// walk calls f for every object below v, parents first.
func walk(v any, f func(object)) {
	switch v := v.(type) {
	case object:
		f(v)
		for _, child := range v {
			walk(child, f)
		}
	case []any:
		for _, child := range v {
			walk(child, f)
		}
	case []object:
		for _, child := range v {
			walk(child, f)
		}
	}
}

// istioOnly tells whether a filter is compiled into Istio's Envoy only.
func istioOnly(filter any) bool {
	f, _ := filter.(object)
	config, _ := f["typed_config"].(object)
	switch config["@type"] {
	case "type.googleapis.com/stats.PluginConfig":
		return true
	case "type.googleapis.com/udpa.type.v1.TypedStruct":
		url, _ := config["type_url"].(string)
		return strings.HasPrefix(url, "type.googleapis.com/io.istio.") || strings.HasPrefix(url, "type.googleapis.com/envoy.tcp.metadataexchange.")
	}
	return false
}

// Envoy makes a bootstrap for a stock Envoy out of r, which is not to be used afterwards. id is the proxy's identity.
func Envoy(r *Resources, id *Identity) ([]byte, error) {
	for _, root := range []any{r.Listeners, r.Clusters} {
		walk(root, func(o object) {
			for _, key := range []string{"filters", "http_filters"} {
				if list, ok := o[key].([]any); ok {
					o[key] = slices.DeleteFunc(list, istioOnly)
				}
			}
			if o["factory_key"] == "istio.hashable_string" {
				o["factory_key"] = "envoy.string"
			}
			delete(o, "sds_config") // a name alone is that of a static secret
		})
	}
	if err := inlineEndpoints(r); err != nil {
		return nil, err
	}
	inline := func(b []byte) object { return object{"inline_string": string(b)} }
	return json.Marshal(object{
		"node": object{"id": "bench", "cluster": "bench"},
		"bootstrap_extensions": []any{object{
			"name":         "envoy.bootstrap.internal_listener",
			"typed_config": object{"@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener"},
		}},
		"static_resources": object{
			"listeners": r.Listeners,
			"clusters":  r.Clusters,
			"secrets": []any{
				object{"name": "default", "tls_certificate": object{
					"certificate_chain": inline(id.CertPEM), "private_key": inline(id.KeyPEM)}},
				object{"name": "ROOTCA", "validation_context": object{"trusted_ca": inline(id.ca.RootPEM)}},
			},
		},
	})
}

// inlineEndpoints makes static clusters of those that would get their endpoints by EDS.
func inlineEndpoints(r *Resources) error {
	byName := map[any]object{}
	for _, e := range r.Endpoints {
		delete(e, "@type")
		byName[e["cluster_name"]] = e
	}
	for _, c := range r.Clusters {
		if c["type"] != "EDS" {
			continue
		}
		config, _ := c["eds_cluster_config"].(object)
		assignment, ok := byName[config["service_name"]]
		if !ok {
			return fmt.Errorf("cluster %v has no endpoints", c["name"])
		}
		delete(c, "eds_cluster_config")
		c["type"], c["load_assignment"] = "STATIC", assignment
	}
	for _, list := range [][]object{r.Clusters, r.Listeners} {
		for _, o := range list {
			delete(o, "@type") // in a bootstrap the place says the type
		}
	}
	return nil
}
