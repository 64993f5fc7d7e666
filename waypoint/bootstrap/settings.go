package bootstrap

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/identity"
	meshv1 "istio.io/api/mesh/v1alpha1"
)

// Token files by JWT_POLICY, relative to the root.
const (
	thirdPartyToken = "var/run/secrets/tokens/istio-token"                 // audience istio-ca, the default
	firstPartyToken = "var/run/secrets/kubernetes.io/serviceaccount/token" // clusters without projected tokens
)

// buildIdentity fills Discovery and Identity, which share token, cluster ID and server name.
func (b *Bootstrap) buildIdentity(env environ) error {
	pc := b.ProxyConfig
	token, err := tokenFile(b.Root, env.text("JWT_POLICY", "third-party-jwt"))
	if err != nil {
		return err
	}
	if ca := env.text("CA_PROVIDER", "Citadel"); ca != "Citadel" {
		return fmt.Errorf("CA_PROVIDER is %q: only istiod's own protocol (Citadel) is supported; unset it or mount certificates with FILE_MOUNTED_CERTS", ca)
	}
	clusterID := env.vars["ISTIO_META_CLUSTER_ID"]
	b.Discovery = Discovery{
		Address: pc.GetDiscoveryAddress(), ServerName: serverName(pc.GetDiscoveryAddress(), env.vars["ISTIOD_SAN"]),
		Plaintext:            pc.GetControlPlaneAuthPolicy() == meshv1.AuthenticationPolicy_NONE,
		SendTokenInPlaintext: env.boolean("XDS_AUTH_PLAINTEXT", false),
		RootCA:               env.vars["XDS_ROOT_CA"], TokenFile: token, ClusterID: clusterID,
		Headers:           env.prefixed("XDS_HEADER_"),
		KeepaliveInterval: env.duration("GRPC_KEEPALIVE_INTERVAL", 30*time.Second),
		KeepaliveTimeout:  env.duration("GRPC_KEEPALIVE_TIMEOUT", 10*time.Second),
	}
	if b.Discovery.Plaintext {
		env.rep.add(true, "ProxyConfig.controlPlaneAuthPolicy", "NONE", "istiod is spoken to in plaintext and not authenticated; it decides every policy")
	}
	switch b.CompliancePolicy = env.vars["COMPLIANCE_POLICY"]; b.CompliancePolicy {
	case "", "fips-140-2", "fips-140-3", "pqc":
	default:
		return fmt.Errorf("COMPLIANCE_POLICY is %q: want fips-140-2, fips-140-3 or pqc", b.CompliancePolicy)
	}
	caAddress := env.text("CA_ADDR", pc.GetDiscoveryAddress())
	key := identity.KeyKind{RSABits: env.integer("WORKLOAD_RSA_KEY_SIZE", 2048)}
	switch alg := env.vars["ECC_SIGNATURE_ALGORITHM"]; alg {
	case "":
	case "ECDSA":
		key.ECDSA = true
		switch curve := env.text("ECC_CURVE", "P256"); curve {
		case "P256":
		case "P384":
			key.P384 = true
		default:
			env.rep.add(true, "env ECC_CURVE", curve, "is not known (P256, P384); P256 is used")
		}
	default:
		env.rep.add(true, "env ECC_SIGNATURE_ALGORITHM", alg, "is not known (ECDSA); an RSA key is used")
	}
	b.Identity = identity.SourceConfig{
		Root: b.Root, FileMounted: env.boolean("FILE_MOUNTED_CERTS", false),
		SDSSocket: env.vars["WORKLOAD_IDENTITY_SOCKET_FILE"], OutputDir: env.vars["OUTPUT_CERTS"],
		CSR: identity.CSRConfig{
			Address: caAddress, ServerName: serverName(caAddress, env.vars["ISTIOD_SAN"]), RootCA: env.vars["CA_ROOT_CA"],
			TokenFile: token, ClusterID: clusterID, Headers: env.prefixed("CA_HEADER_"),
			CertSigner:  env.vars["ISTIO_META_CERT_SIGNER"],
			TrustDomain: env.text("TRUST_DOMAIN", "cluster.local"), Namespace: env.vars["POD_NAMESPACE"],
			ServiceAccount: env.text("SERVICE_ACCOUNT", env.vars["ISTIO_META_SERVICE_ACCOUNT"]),
			Key:            key, TTL: env.duration("SECRET_TTL", 24*time.Hour),
			GraceRatio:  env.number("SECRET_GRACE_PERIOD_RATIO", 0.5),
			GraceJitter: env.number("SECRET_GRACE_PERIOD_RATIO_JITTER", 0.01),
		},
	}
	return nil
}

// tokenFile returns an absolute path, so that a relative root cannot be applied twice.
func tokenFile(root, policy string) (string, error) {
	file := ""
	switch policy {
	case "third-party-jwt":
		file = thirdPartyToken
	case "first-party-jwt":
		file = firstPartyToken
	default:
		return "", fmt.Errorf("JWT_POLICY is %q: want third-party-jwt or first-party-jwt; istiod authenticates this pod by its token", policy)
	}
	return filepath.Abs(filepath.Join(root, file))
}

// serverName is the name that istiod's certificate must carry: override, else the host of address.
func serverName(address, override string) string {
	if override != "" {
		return override
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address // refused with a better message where the address is used
	}
	if host == "localhost" {
		return istiodHost
	}
	return host
}

// Stats says which of Envoy's statistics are kept and how they are shaped (contract P9).
type Stats struct {
	Prefixes, Suffixes, Regexps []string // a statistic is kept if any matches
	ExtraTags                   []string
	Buckets                     map[string][]float64 // histogram name prefix → bucket bounds
	FlushInterval               time.Duration        // 5 s
	EvictionInterval            time.Duration        // 0: never
	LocalhostOnly               bool                 // METRICS_LOCALHOST_ACCESS_ONLY: 15090 on loopback
}

// newStats merges ProxyConfig.proxyStatsMatcher, or the annotations in its place, with what Istio always
// keeps. "{pod_ip}" in a pattern stands for each address of the pod.
func newStats(pc *meshv1.ProxyConfig, annotations map[string]string, exitOnZero bool, ips []netip.Addr, rep *reports) Stats {
	pick := func(annotation string, configured []string, always ...string) []string {
		list := slices.Clone(configured)
		if v := annotations["sidecar.istio.io/"+annotation]; v != "" {
			list = strings.Split(v, ",") // instead of, not besides, ProxyConfig
		}
		var out []string
		for _, pattern := range append(list, always...) {
			if !strings.Contains(pattern, "{pod_ip}") {
				out = append(out, pattern)
				continue
			}
			for _, ip := range ips {
				out = append(out, strings.ReplaceAll(pattern, "{pod_ip}", ip.String()))
			}
		}
		return out
	}
	suffixes := []string{"rbac.allowed", "rbac.denied", "shadow_allowed", "shadow_denied"}
	if exitOnZero {
		suffixes = append(suffixes, "downstream_cx_active")
	}
	m := pc.GetProxyStatsMatcher()
	s := Stats{
		Prefixes: pick("statsInclusionPrefixes", m.GetInclusionPrefixes(), "reporter=", "cluster_manager", "listener_manager",
			"server", "cluster.xds-grpc", "wasm", "component", "istio", "workload_discovery"),
		Suffixes:      pick("statsInclusionSuffixes", m.GetInclusionSuffixes(), suffixes...),
		Regexps:       pick("statsInclusionRegexps", m.GetInclusionRegexps(), `vhost\.*\.route\.*`),
		FlushInterval: 5 * time.Second,
		LocalhostOnly: pc.GetProxyMetadata()["METRICS_LOCALHOST_ACCESS_ONLY"] == "true",
	}
	for _, tag := range append(slices.Clone(pc.GetExtraStatTags()), strings.Split(annotations["sidecar.istio.io/extraStatTags"], ",")...) {
		if tag != "" && !slices.Contains(s.ExtraTags, tag) {
			s.ExtraTags = append(s.ExtraTags, tag)
		}
	}
	bad := func(annotation, why string) {
		name := "sidecar.istio.io/" + annotation
		rep.add(true, "annotation "+name, annotations[name], why)
	}
	if v := annotations["sidecar.istio.io/statsHistogramBuckets"]; v != "" {
		if err := json.Unmarshal([]byte(v), &s.Buckets); err != nil {
			bad("statsHistogramBuckets", "is not a JSON object of prefix to bounds; the default buckets are used")
		}
	}
	if annotations["sidecar.istio.io/statsHistogramBins"] != "" {
		bad("statsHistogramBins", "histograms have fixed bounds; use statsHistogramBuckets")
	}
	for name, d := range map[string]*time.Duration{"statsFlushInterval": &s.FlushInterval, "statsEvictionInterval": &s.EvictionInterval} {
		if v := annotations["sidecar.istio.io/"+name]; v != "" {
			if parsed, err := time.ParseDuration(v); err != nil || parsed <= 0 {
				bad(name, "is not a positive duration; the default is used")
			} else {
				*d = parsed
			}
		}
	}
	return s
}

// jsonStrings reads a JSON object's string members.
func jsonStrings(text string) map[string]string {
	var all map[string]any
	if json.Unmarshal([]byte(text), &all) != nil {
		return nil // reported with the metadata
	}
	out := map[string]string{}
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if s, ok := all[k].(string); ok {
			out[k] = s
		}
	}
	return out
}
