package bootstrap

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// environ reads typed settings. A value that does not parse is reported and the default taken, as Istio's
// env package does.
type environ struct {
	vars map[string]string
	rep  *reports
}

func newEnviron(list []string, rep *reports) environ {
	e := environ{vars: map[string]string{}, rep: rep}
	for _, kv := range list {
		if k, v, ok := strings.Cut(kv, "="); ok {
			e.vars[k] = v
		}
	}
	return e
}

func (e environ) text(name, def string) string {
	if v := e.vars[name]; v != "" {
		return v
	}
	return def
}

func envValue[T any](e environ, name string, def T, parse func(string) (T, error)) T {
	text := e.vars[name]
	if text == "" {
		return def
	}
	v, err := parse(text)
	if err != nil {
		e.rep.add(true, "env "+name, text, fmt.Sprintf("does not parse (%v); the default %v is used", err, def))
		return def
	}
	return v
}

func (e environ) boolean(name string, def bool) bool {
	return envValue(e, name, def, strconv.ParseBool)
}
func (e environ) integer(name string, def int) int { return envValue(e, name, def, strconv.Atoi) }
func (e environ) number(name string, def float64) float64 {
	return envValue(e, name, def, func(s string) (float64, error) { return strconv.ParseFloat(s, 64) })
}
func (e environ) duration(name string, def time.Duration) time.Duration {
	return envValue(e, name, def, time.ParseDuration)
}

func (e environ) port(name string, def int) int {
	return envValue(e, name, def, func(s string) (int, error) {
		n, err := strconv.Atoi(s)
		if err == nil && (n < 0 || n > 65535) {
			err = fmt.Errorf("a port is at most 65535")
		}
		return n, err
	})
}

// prefixed returns the variables whose name begins with prefix, without it.
func (e environ) prefixed(prefix string) map[string]string {
	out := map[string]string{}
	for k, v := range e.vars {
		if name, ok := strings.CutPrefix(k, prefix); ok && name != "" {
			out[name] = v
		}
	}
	return out
}

// notHonoured lists variables that Istio's agent reads and this program does not, with the values that
// change nothing ("" alone if any set value matters).
var notHonoured = map[string]struct {
	harmless string
	loud     bool
	why      string
}{
	"PROV_CERT":                        {"", true, "client certificates towards istiod are not used; the service account token is"},
	"XDS_AUTH_PROVIDER":                {"", true, "only the service account token authenticates to istiod"},
	"CREDENTIAL_FETCHER_TYPE":          {"JWT", true, "only the mounted service account token is used"},
	"CREDENTIAL_IDENTITY_PROVIDER":     {"", false, "only the mounted service account token is used"},
	"PKCS8_KEY":                        {"", false, "keys are PKCS #8 always; nothing outside the process sees them, OUTPUT_CERTS excepted"},
	"PILOT_CERT_PROVIDER":              {"istiod", false, "the root certificate is looked for in the mounted files, whoever provides it"},
	"ISTIO_META_DNS_CAPTURE":           {"false", false, "a waypoint runs no DNS proxy"},
	"ISTIO_META_ENABLE_DNS_SERVER":     {"false", false, "a waypoint runs no DNS proxy"},
	"DNS_PROXY_ADDR":                   {"", false, "a waypoint runs no DNS proxy"},
	"DNS_FORWARD_PARALLEL":             {"", false, "a waypoint runs no DNS proxy"},
	"DNS_FORWARD_TIMEOUT":              {"", false, "a waypoint runs no DNS proxy"},
	"ISTIO_META_ENABLE_SELF_DISCOVERY": {"false", false, "not used by a waypoint"},
	"PROXY_CONFIG_XDS_AGENT":           {"false", true, "trust bundles pushed over PCDS are not taken; list extra roots in ProxyConfig caCertificatesPem"},
	"GRPC_XDS_BOOTSTRAP":               {"", false, "proxyless gRPC is not served"},
	"DISABLE_ENVOY":                    {"false", true, "there is no Envoy to disable; the proxy runs"},
	"ISTIO_BOOTSTRAP":                  {"", true, "there is no Envoy bootstrap template"},
	"ISTIO_BOOTSTRAP_OVERRIDE":         {"", true, "there is no Envoy bootstrap to override"},
	"CLOUD_PLATFORM":                   {"none", false, "cloud metadata servers are not asked; locality comes from the node's labels in istiod"},
	"TOKEN_AUDIENCES":                  {"", false, "the token is sent as it is mounted"},
	"WASM_INSECURE_REGISTRIES":         {"", true, "Wasm modules are not run"},
	"PILOT_AGENT_MERGE_ENVOY_STATS":    {"true", false, "port 15020 always serves all metrics"},
	"ENVOY_SKIP_DEPRECATED_LOGS":       {"", false, "fields are reported by the census, not as deprecation warnings"},
	"ENVOY_SECURE_METRICS_PORT":        {"0", true, "no mTLS metrics listener is opened; scrape 15090"},
	"ENVOY_SECURE_MERGED_METRICS_PORT": {"0", true, "no mTLS metrics listener is opened; scrape 15020"},
	"PEER_METADATA_DISCOVERY":          {"true", false, "always on for a waypoint"},
}

func (e environ) reportNotHonoured() {
	for _, name := range slices.Sorted(maps.Keys(notHonoured)) {
		n := notHonoured[name]
		if v := e.vars[name]; v != "" && v != n.harmless {
			e.rep.add(n.loud, "env "+name, v, n.why)
		}
	}
}
