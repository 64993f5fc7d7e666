package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"time"
)

// CSRConfig says how to request a certificate from Istio's CA (gRPC
// istio.v1.auth.IstioCertificateService/CreateCertificate).
type CSRConfig struct {
	// Address of the CA, host:port (CA_ADDR). Port 15010 is plaintext, the token included; all others TLS.
	Address string
	// ServerName that the CA's certificate must carry; "" means the host of Address.
	ServerName string
	// RootCA (CA_ROOT_CA) is the file with the CA server's root, or "SYSTEM"; "" looks at
	// ./etc/certs/root-cert.pem and ./var/run/secrets/istio/root-cert.pem.
	RootCA string
	// TokenFile holds the bearer token and is read for every call; "" means
	// ./var/run/secrets/tokens/istio-token. The kubelet replaces it at 80 % of its life.
	TokenFile string
	// ClusterID is sent as metadata `clusterid`, by which istiod finds the API server that checks the token.
	ClusterID string
	// Headers are further metadata (CA_HEADER_*).
	Headers map[string]string
	// CertSigner (ISTIO_META_CERT_SIGNER) picks a Kubernetes signer; "" leaves the choice to istiod.
	CertSigner string

	// TrustDomain, Namespace and ServiceAccount form the identity in the request. istiod issues the
	// identity of the token whatever the request says.
	TrustDomain, Namespace, ServiceAccount string

	// Key kind; the zero value is RSA-2048.
	Key KeyKind
	// TTL asked for (SECRET_TTL); 0 means 24 h, Istio's default. The CA may shorten it.
	TTL time.Duration
	// GraceRatio (SECRET_GRACE_PERIOD_RATIO) is the part of the life that remains when the certificate is
	// renewed; 0 means 0.5. Half leaves 12 of 24 hours to survive an outage of the CA.
	GraceRatio float64
	// GraceJitter (SECRET_GRACE_PERIOD_RATIO_JITTER) spreads GraceRatio by ± this much; 0 means 0.01, so
	// that pods started together do not renew together.
	GraceJitter float64

	// Observe is called after each RPC, for num_outgoing_requests and outgoing_latency; may be nil.
	Observe func(latency time.Duration, err error)
}

// csrSource is the usual source: its own key, signed by istiod.
type csrSource struct {
	CSRConfig
	root      string
	tokenPath string
	outputDir string
	id        *url.URL
	log       *slog.Logger
}

func newCSRSource(c SourceConfig) (*csrSource, error) {
	s := &csrSource{CSRConfig: c.CSR, root: c.Root, log: c.Log, outputDir: outputDir(c)}
	if _, _, err := net.SplitHostPort(s.Address); err != nil {
		return nil, fmt.Errorf("CA_ADDR %q: want host:port: %w", s.Address, err)
	}
	for name, v := range map[string]string{"TRUST_DOMAIN": s.TrustDomain, "POD_NAMESPACE": s.Namespace, "SERVICE_ACCOUNT": s.ServiceAccount} {
		if v == "" || strings.ContainsAny(v, "/ \n") {
			return nil, fmt.Errorf("%s is %q: it is part of the identity in the certificate request", name, v)
		}
	}
	s.id = &url.URL{Scheme: "spiffe", Host: s.TrustDomain, Path: "/ns/" + s.Namespace + "/sa/" + s.ServiceAccount}
	if s.TTL == 0 {
		s.TTL = 24 * time.Hour
	}
	if s.GraceRatio == 0 {
		s.GraceRatio = 0.5
	}
	if s.GraceJitter == 0 {
		s.GraceJitter = 0.01
	}
	if s.GraceRatio < 0 || s.GraceRatio > 1 {
		return nil, fmt.Errorf("SECRET_GRACE_PERIOD_RATIO is %g: want a number from 0 to 1", s.GraceRatio)
	}
	if s.tokenPath = s.TokenFile; s.tokenPath == "" {
		s.tokenPath = tokenFile
	}
	s.tokenPath = underRoot(s.root, s.tokenPath)
	if _, err := s.Key.check(); err != nil {
		return nil, err
	}
	return s, nil
}

func (c *csrSource) String() string { return "CA " + c.Address + " for " + c.id.String() }

// Run requests a certificate, waits for the time to renew it, and begins again, with a new key each time.
// Failures are repeated for ever with growing pauses; the old certificate stays in the store meanwhile,
// also beyond its end: peers refuse it then, and istio_agent_cert_expiry_seconds shows it.
func (c *csrSource) Run(ctx context.Context, store *Store) error {
	watchCRL(c.root, c.log, store)
	for failures := 0; ; {
		wait, err := c.renew(ctx, store)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			wait = backoff(failures)
			failures++
			c.log.Warn("workload certificate not issued, trying again", "in", wait.Round(time.Millisecond),
				"failures", failures, "error", err)
		default:
			failures = 0
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// renew gets one certificate into the store and says how long to wait before the next.
func (c *csrSource) renew(ctx context.Context, store *Store) (time.Duration, error) {
	csr, key, err := newCSR(c.Key, c.id)
	if err != nil {
		return 0, err
	}
	out, err := c.sign(ctx, csr)
	if err != nil {
		return 0, err
	}
	pair, chain, err := parseKeyPair(out.chain, key)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errBadAnswer, err)
	}
	now := store.now()
	leaf := pair.Leaf
	if !now.Before(leaf.NotAfter) {
		return 0, fmt.Errorf("%w: the certificate expired at %s; are the clocks in agreement?", errBadAnswer, leaf.NotAfter.Format(time.RFC3339))
	}
	if got := identityOf(leaf); got != c.id.String() {
		// istiod issues whom the token authenticates. Istio's agent takes that silently; peers will see it.
		c.log.Warn("the CA issued another identity than requested", "requested", c.id.String(), "issued", got)
	}
	// Roots first: for an instant between the two, a certificate of a new root with the old bundle would
	// be shown by us and accepted by nobody, while an additional root harms nothing.
	if err := store.SetAnchors(out.root); err != nil {
		return 0, fmt.Errorf("%w: root: %w", errBadAnswer, err)
	}
	if err := store.SetWorkload(out.chain, key); err != nil {
		return 0, fmt.Errorf("%w: %w", errBadAnswer, err)
	}
	if c.outputDir != "" {
		if err := writeCertificates(c.outputDir, out.chain, key, out.root); err != nil {
			c.log.Error("OUTPUT_CERTS not written", "dir", c.outputDir, "error", err)
		}
	}
	wait := c.rotateAfter(now, leaf.NotAfter)
	c.log.Info("workload certificate issued", "identity", identityOf(leaf), "serial", fmt.Sprintf("%x", leaf.SerialNumber),
		"chain", len(chain), "notAfter", leaf.NotAfter, "renewIn", wait.Round(time.Second))
	return wait, nil
}

var errBadAnswer = errors.New("the CA's answer is not usable")

// minRotation keeps a CA that issues very short-lived certificates from being asked in a tight loop.
const minRotation = 500 * time.Millisecond

// rotateAfter is NotAfter − (ratio ± jitter) × lifetime, counted from now. The lifetime begins when the
// certificate arrived: istiod dates NotBefore back by two minutes against clock differences.
func (c *csrSource) rotateAfter(now, notAfter time.Time) time.Duration {
	life := notAfter.Sub(now)
	ratio := c.GraceRatio + c.GraceJitter*(2*rand.Float64()-1) //nolint:gosec // spreading load, not a secret
	return max(minRotation, life-time.Duration(float64(life)*min(1, max(0, ratio))))
}
