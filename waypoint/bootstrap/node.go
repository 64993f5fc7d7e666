package bootstrap

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
	meshv1 "istio.io/api/mesh/v1alpha1"
)

// IstioVersion is what the node advertises as ISTIO_VERSION unless the environment overrides it. istiod
// gates what it generates by it: 1.28 and 1.29 bring Zipkin options and formatter span tags, 1.29.2 the
// `istio.hashable_string` filter state, 1.30 the option not to propagate trace context. 1.31 passes all
// of these gates and is the last minor before the development tree that this program was written
// against, so a gate that a later istiod adds keeps off what we have not seen.
const IstioVersion = "1.31.0"

// Labels that decide what istiod sends.
const (
	gatewayNameLabel = "gateway.networking.k8s.io/gateway-name"
	managedLabel     = "gateway.istio.io/managed"
	managedWaypoint  = "istio.io-mesh-controller"
	managedEastWest  = "istio.io-eastwest-controller"
	localityLabel    = "topology.istio.io/locality"
	oldLocalityLabel = "istio-locality"
)

// AllowNoGatewayName is the environment variable that turns [ErrNoGatewayName] into a report.
const AllowNoGatewayName = "WAYPOINT_ALLOW_NO_GATEWAY_NAME"

// ErrNoGatewayName is returned when the pod's labels lack the Gateway's name. istiod attaches policies
// that have targetRefs by that label alone; without it, it drops them all without a word and the waypoint
// would let through what they forbid. Envoy starts and does so. The label is looked for where istiod may
// find it in our node: the pod's labels and ISTIO_METAJSON_LABELS. A waypoint that is really meant to run
// without (selector policies only) sets WAYPOINT_ALLOW_NO_GATEWAY_NAME=true.
var ErrNoGatewayName = errors.New("the pod has no label " + gatewayNameLabel +
	": istiod would skip every policy that targets this gateway; set the label to the Gateway's name, or " + AllowNoGatewayName + "=true to accept that")

// checkLabels enforces ErrNoGatewayName and reports the labels that change what istiod generates.
func checkLabels(labels map[string]string, env environ) error {
	if labels[gatewayNameLabel] == "" {
		if !env.boolean(AllowNoGatewayName, false) {
			return ErrNoGatewayName
		}
		env.rep.add(true, "label "+gatewayNameLabel, "", "is missing: policies with targetRefs are NOT enforced")
	}
	switch v := labels[managedLabel]; v {
	case managedWaypoint:
	case managedEastWest:
		env.rep.add(true, "label "+managedLabel, v, "east-west gateways are not supported; their inner CONNECT forwarding is refused")
	default:
		env.rep.add(false, "label "+managedLabel, v, "istiod takes this for a gateway it does not manage and sends no multi-network resources; want "+managedWaypoint)
	}
	return nil
}

// nodeInput is what a node is made of.
type nodeInput struct {
	flags               Flags
	env                 environ
	ips                 []netip.Addr
	labels, annotations map[string]string
	proxyConfig         *meshv1.ProxyConfig
	ports               Ports
	exitOnZero          bool
	pilotSAN            string
	version             string
}

// newNode builds the xDS node: ID `waypoint~<ip>~<pod>.<namespace>~<domain>` and the metadata by which
// istiod recognises the waypoint (pkg/bootstrap/config.go in Istio).
func newNode(in nodeInput) (*corev3.Node, error) {
	env := in.env
	name, namespace := env.vars["POD_NAME"], env.vars["POD_NAMESPACE"]
	for key, v := range map[string]string{"POD_NAME": name, "POD_NAMESPACE": namespace, "--domain": in.flags.Domain} {
		if v == "" || strings.Contains(v, "~") {
			return nil, fmt.Errorf("%s is %q: it is part of the node ID by which istiod knows this pod", key, v)
		}
	}
	meta := map[string]any{}
	for k, v := range in.proxyConfig.GetProxyMetadata() {
		if name, ok := strings.CutPrefix(k, "ISTIO_META_"); ok {
			meta[name] = v
		}
	}
	for k, v := range env.prefixed("ISTIO_META_") {
		meta[k] = v
	}
	// Each ISTIO_METAJSON_* holds an object whose members join the metadata; its own name is ignored.
	// LABELS is special: Istio adds its members to the metadata as well, where a label could pose as a key.
	for _, k := range slices.Sorted(maps.Keys(env.prefixed("ISTIO_METAJSON_"))) {
		text := env.vars["ISTIO_METAJSON_"+k]
		var members map[string]any
		if err := json.Unmarshal([]byte(text), &members); err != nil {
			env.rep.add(true, "env ISTIO_METAJSON_"+k, text, "is not a JSON object and is left out")
			continue
		}
		if k == "LABELS" {
			meta["STATIC_LABELS"] = members
			continue
		}
		maps.Copy(meta, members)
	}
	set := func(key, value string) {
		if value != "" {
			meta[key] = value
		}
	}
	if _, ok := meta["ISTIO_VERSION"]; !ok {
		set("ISTIO_VERSION", env.text("ISTIO_VERSION", IstioVersion))
	}
	set("NAME", name)
	set("NAMESPACE", namespace)
	set("SERVICE_ACCOUNT", env.vars["SERVICE_ACCOUNT"])
	set("OUTLIER_LOG_PATH", in.flags.OutlierLogPath)
	ips := make([]string, len(in.ips))
	for i, ip := range in.ips {
		ips[i] = ip.String()
	}
	meta["INSTANCE_IPS"] = strings.Join(ips, ",")
	meta["ENVOY_STATUS_PORT"] = in.ports.Health
	meta["ENVOY_PROMETHEUS_PORT"] = in.ports.Prometheus
	meta["METADATA_DISCOVERY"] = "true" // forced for waypoints, as a string: istiod's StringBool
	meta["EXIT_ON_ZERO_ACTIVE_CONNECTIONS"] = fmt.Sprint(in.exitOnZero)
	meta["PILOT_SAN"] = []any{in.pilotSAN}
	if len(in.labels) > 0 {
		meta["LABELS"] = anyMap(in.labels)
	}
	if len(in.annotations) > 0 {
		meta["ANNOTATIONS"] = anyMap(in.annotations)
	}
	// Its presence is what makes istiod list this proxy in proxy-status.
	pc, err := protojson.Marshal(in.proxyConfig)
	if err != nil {
		return nil, fmt.Errorf("encoding ProxyConfig for the node: %w", err)
	}
	meta["PROXY_CONFIG"] = json.RawMessage(pc)

	js, err := json.Marshal(meta)
	if err != nil {
		return nil, fmt.Errorf("encoding the node metadata: %w", err)
	}
	st := &structpb.Struct{}
	if err := protojson.Unmarshal(js, st); err != nil {
		return nil, fmt.Errorf("encoding the node metadata: %w", err)
	}
	text := func(key string) string { s, _ := meta[key].(string); return s }
	return &corev3.Node{
		Id:                   "waypoint~" + ips[0] + "~" + name + "." + namespace + "~" + in.flags.Domain,
		Cluster:              serviceCluster(in.proxyConfig, in.labels, text("WORKLOAD_NAME"), namespace),
		Metadata:             st,
		Locality:             locality(in.labels),
		UserAgentName:        "gowaypoint",
		UserAgentVersionType: buildVersion(in.version),
	}, nil
}

func anyMap(m map[string]string) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

// serviceCluster follows Istio's rules for node.cluster, which istiod uses as OpenTelemetry's service.name.
func serviceCluster(pc *meshv1.ProxyConfig, labels map[string]string, workload, namespace string) string {
	name := ""
	switch c := pc.GetClusterName().(type) {
	case *meshv1.ProxyConfig_ServiceCluster:
		name = c.ServiceCluster
	case *meshv1.ProxyConfig_TracingServiceName_:
		canonical := labels["service.istio.io/canonical-name"]
		for _, alternative := range []string{labels["app.kubernetes.io/name"], labels["app"], workload, defaultServiceCluster} {
			if canonical == "" {
				canonical = alternative
			}
		}
		switch c.TracingServiceName {
		case meshv1.ProxyConfig_CANONICAL_NAME_ONLY:
			name = canonical
		case meshv1.ProxyConfig_CANONICAL_NAME_AND_NAMESPACE:
			return canonical + "." + namespace
		}
	}
	switch {
	case name != "" && name != defaultServiceCluster:
		return name
	case labels["app"] != "":
		return labels["app"] + "." + namespace
	case workload != "":
		return workload + "." + namespace
	}
	return defaultServiceCluster + "." + namespace
}

// locality reads the label topology.istio.io/locality (or istio-locality), whose parts are separated by
// "/" or, because labels may not hold that, by ".". istiod prefers the Kubernetes node's labels.
func locality(labels map[string]string) *corev3.Locality {
	text := labels[localityLabel]
	if text == "" {
		text = labels[oldLocalityLabel]
	}
	if text == "" {
		return nil
	}
	if !strings.Contains(text, "/") {
		text = strings.ReplaceAll(text, ".", "/")
	}
	parts := append(strings.SplitN(text, "/", 3), "", "")
	return &corev3.Locality{Region: parts[0], Zone: parts[1], SubZone: parts[2]}
}

// buildVersion is what istioctl version shows as the proxy's; nil when version is not major.minor.patch.
func buildVersion(version string) *corev3.Node_UserAgentBuildVersion {
	var major, minor, patch uint32
	if n, err := fmt.Sscanf(version, "%d.%d.%d", &major, &minor, &patch); err != nil || n != 3 {
		return nil
	}
	return &corev3.Node_UserAgentBuildVersion{UserAgentBuildVersion: &corev3.BuildVersion{
		Version: &typev3.SemanticVersion{MajorNumber: major, MinorNumber: minor, Patch: patch},
	}}
}
