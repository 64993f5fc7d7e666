package bootstrap

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	meshv1 "istio.io/api/mesh/v1alpha1"
	"sigs.k8s.io/yaml"
)

const (
	defaultServiceCluster   = "istio-proxy"
	defaultDiscoveryAddress = "istiod.istio-system.svc:15012"
)

// defaultProxyConfig holds Istio's built-in defaults (pkg/config/mesh).
func defaultProxyConfig() *meshv1.ProxyConfig {
	return &meshv1.ProxyConfig{
		ConfigPath:               "./etc/istio/proxy",
		BinaryPath:               "/usr/local/bin/envoy",
		ClusterName:              &meshv1.ProxyConfig_ServiceCluster{ServiceCluster: defaultServiceCluster},
		DrainDuration:            durationpb.New(45 * time.Second), // Envoy --drain-time-s
		TerminationDrainDuration: durationpb.New(5 * time.Second),  // enough for GOAWAY to move clients, short of the pod's 30 s
		ProxyAdminPort:           15000,
		ControlPlaneAuthPolicy:   meshv1.AuthenticationPolicy_MUTUAL_TLS,
		DiscoveryAddress:         defaultDiscoveryAddress,
		StatNameLength:           189,
		StatusPort:               15020,
	}
}

// mergeProxyConfig applies a YAML or JSON ProxyConfig to dst. Fields that are present replace whole, lists
// and messages included; proxyMetadata and proxyHeaders are merged one level deeper, as Istio does.
// Unknown fields are reported under source: a newer control plane may know more.
func mergeProxyConfig(dst *meshv1.ProxyConfig, source string, text []byte, rep *reports) error {
	js, err := yaml.YAMLToJSON(text)
	if err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	var present map[string]json.RawMessage
	if err := json.Unmarshal(js, &present); err != nil {
		return fmt.Errorf("%s: want a ProxyConfig object: %w", source, err)
	}
	overlay := &meshv1.ProxyConfig{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(js, overlay); err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	reportUnknown(js, overlay.ProtoReflect().Descriptor(), source, "ProxyConfig", rep)
	metadata, headers := dst.GetProxyMetadata(), dst.GetProxyHeaders()
	to, from := dst.ProtoReflect(), overlay.ProtoReflect()
	for _, name := range slices.Sorted(maps.Keys(present)) {
		fd := fieldByJSON(to.Descriptor(), name)
		if fd == nil || string(present[name]) == "null" {
			continue
		}
		if fd.HasPresence() && !from.Has(fd) {
			to.Clear(fd)
			continue
		}
		to.Set(fd, from.Get(fd)) // also an explicit zero: the author wrote it
	}
	if len(metadata) > 0 {
		merged := maps.Clone(metadata)
		maps.Copy(merged, dst.GetProxyMetadata())
		dst.ProxyMetadata = merged
	}
	if headers != nil && overlay.GetProxyHeaders() != nil {
		merged := proto.Clone(headers).(*meshv1.ProxyConfig_ProxyHeaders)
		proto.Merge(merged, overlay.GetProxyHeaders())
		dst.ProxyHeaders = merged
	}
	return nil
}

// meshDefaultConfig extracts defaultConfig from a mesh configuration file; nil when it has none.
func meshDefaultConfig(text []byte) ([]byte, error) {
	var mesh struct {
		DefaultConfig json.RawMessage `json:"defaultConfig"`
	}
	if err := yaml.Unmarshal(text, &mesh); err != nil {
		return nil, err
	}
	return mesh.DefaultConfig, nil
}

func fieldByJSON(d protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	if fd := d.Fields().ByJSONName(name); fd != nil {
		return fd
	}
	return d.Fields().ByTextName(name)
}

// reportUnknown reports members of a JSON object that its message does not have.
func reportUnknown(js []byte, d protoreflect.MessageDescriptor, source, path string, rep *reports) {
	var members map[string]json.RawMessage
	if json.Unmarshal(js, &members) != nil { // a well-known type in scalar form
		return
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		fd := fieldByJSON(d, name)
		switch {
		case fd == nil:
			rep.add(true, path+"."+name, string(members[name]), "this field is not known here ("+source+")")
		case fd.IsMap() || fd.Message() == nil || fd.Message().ParentFile().Package() == "google.protobuf":
		case fd.IsList():
			var items []json.RawMessage
			if json.Unmarshal(members[name], &items) == nil {
				for i, item := range items {
					reportUnknown(item, fd.Message(), source, fmt.Sprintf("%s.%s[%d]", path, name, i), rep)
				}
			}
		default:
			reportUnknown(members[name], fd.Message(), source, path+"."+name, rep)
		}
	}
}

// proxyConfigFate says what becomes of each ProxyConfig field: "" honoured here or by what istiod makes of
// it; otherwise why it has no effect. A test demands an entry for every field of the message.
var proxyConfigFate = map[string]struct {
	why  string
	loud bool
}{
	"service_cluster":                     {},
	"tracing_service_name":                {},
	"drain_duration":                      {},
	"termination_drain_duration":          {},
	"discovery_address":                   {},
	"proxy_admin_port":                    {},
	"status_port":                         {},
	"concurrency":                         {},
	"control_plane_auth_policy":           {},
	"proxy_metadata":                      {},
	"proxy_stats_matcher":                 {},
	"extra_stat_tags":                     {},
	"ca_certificates_pem":                 {},
	"proxy_headers":                       {}, // istiod puts it into the HCM
	"image":                               {}, // used by istiod when it makes the pod
	"mesh_id":                             {}, // reaches istiod in PROXY_CONFIG
	"config_path":                         {why: "no Envoy configuration is written"},
	"binary_path":                         {why: "no Envoy is started"},
	"stat_name_length":                    {why: "names are not cut"},
	"discovery_refresh_delay":             {why: "configuration is pushed"},
	"availability_zone":                   {why: "locality comes from the node's labels in istiod"},
	"interception_mode":                   {why: "not meaningful for a waypoint"},
	"hold_application_until_proxy_starts": {why: "not meaningful for a waypoint"},
	"readiness_probe":                     {why: "not meaningful for a waypoint"},
	"sds":                                 {why: "not used by Istio any more"},
	"gateway_topology":                    {why: "reaches istiod in PROXY_CONFIG; a waypoint trusts no hops by itself"},
	"tracing":                             {why: "sampling and custom tags take effect through istiod; a collector named here is not used, declare it as an extensionProvider and enable it with Telemetry", loud: true},
	"zipkin_address":                      {why: "declare the collector as an extensionProvider and enable it with Telemetry", loud: true},
	"statsd_udp_address":                  {why: "metrics are served for Prometheus only", loud: true},
	"envoy_metrics_service_address":       {why: "metrics are served for Prometheus only", loud: true},
	"envoy_metrics_service":               {why: "metrics are served for Prometheus only", loud: true},
	"envoy_access_log_service":            {why: "declare the log service as an extensionProvider and enable it with Telemetry", loud: true},
	"custom_config_file":                  {why: "there is no Envoy bootstrap", loud: true},
	"proxy_bootstrap_template_path":       {why: "there is no Envoy bootstrap", loud: true},
	"runtime_values":                      {why: "there is no Envoy runtime", loud: true},
	"private_key_provider":                {why: "keys are generated in this process, without hardware or CPU acceleration", loud: true},
	"file_flush_interval":                 {why: "access log lines are written as they come"},
	"file_flush_min_size_kb":              {why: "access log lines are written as they come"},
	"stats_compression":                   {why: "the scraper's Accept-Encoding decides"},
	"connection_settings":                 {}, // istiod puts it into listeners
}

// reportProxyConfig reports the fields that are set, differ from the default, and are not honoured.
func reportProxyConfig(pc *meshv1.ProxyConfig, rep *reports) {
	def := defaultProxyConfig().ProtoReflect()
	pc.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		fate, known := proxyConfigFate[string(fd.Name())]
		if known && fate.why == "" || v.Equal(def.Get(fd)) {
			return true
		}
		if !known {
			fate.why, fate.loud = "this field is not known here", true
		}
		rep.add(fate.loud, "ProxyConfig."+fd.JSONName(), valueText(fd, v), fate.why)
		return true
	})
}

// valueText prints a field's value as compact JSON.
func valueText(fd protoreflect.FieldDescriptor, v protoreflect.Value) string {
	one := (&meshv1.ProxyConfig{}).ProtoReflect()
	one.Set(fd, v)
	js, err := protojson.Marshal(one.Interface())
	if err != nil {
		return "(set)"
	}
	var members map[string]any // protojson varies its spacing on purpose; reports are compared
	if json.Unmarshal(js, &members) != nil {
		return "(set)"
	}
	if text, ok := members[fd.JSONName()].(string); ok {
		return text
	}
	if js, err = json.Marshal(members[fd.JSONName()]); err != nil {
		return "(set)"
	}
	return string(js)
}
