package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
	securityv1 "istio.io/api/security/v1alpha1"
)

const (
	// caTries and caBackoff are Istio's: five attempts, from 100 ms doubling with 10 % jitter.
	caTries   = 5
	caBackoff = 100 * time.Millisecond
	caJitter  = 0.1
	// caTimeout bounds one attempt. istiod answers in milliseconds, but with an external signer it waits
	// for a Kubernetes CertificateSigningRequest to be approved.
	caTimeout = 30 * time.Second
	// plaintextPort is istiod's port without TLS; only an explicit CA_ADDR leads there.
	plaintextPort = "15010"
)

// retriable are the codes on which Istio's CA client tries again at once. Others, a refused token for
// one, wait for the slower outer loop.
var retriable = []codes.Code{
	codes.Canceled, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Aborted, codes.Internal, codes.Unavailable,
}

// issued is what the CA returned.
type issued struct {
	chain, root []byte // PEM
}

// sign sends one certificate request, with quick retries. Each call dials anew: renewals are hours
// apart, istiod closes idle connections, and so the root file and the token are read when they are used.
func (c *csrSource) sign(ctx context.Context, csr []byte) (*issued, error) {
	creds, err := c.transport()
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient("passthrough:///"+c.Address, grpc.WithTransportCredentials(creds))
	if err != nil {
		return nil, fmt.Errorf("CA address %q: %w", c.Address, err)
	}
	defer func() { _ = conn.Close() }() // nothing is lost by a failing close
	client := securityv1.NewIstioCertificateServiceClient(conn)
	req := &securityv1.IstioCertificateRequest{Csr: string(csr), ValidityDuration: int64(c.TTL / time.Second)}
	if c.CertSigner != "" {
		req.Metadata = &structpb.Struct{Fields: map[string]*structpb.Value{"CertSigner": structpb.NewStringValue(c.CertSigner)}}
	}
	for try := 1; ; try++ {
		resp, err := c.call(ctx, client, req)
		if err == nil {
			return splitChain(resp.GetCertChain())
		}
		if try == caTries || !slices.Contains(retriable, status.Code(err)) || ctx.Err() != nil {
			return nil, fmt.Errorf("CA %s: %w", c.Address, err)
		}
		if err := sleep(ctx, jitter(caBackoff<<(try-1), caJitter)); err != nil {
			return nil, err
		}
	}
}

func (c *csrSource) call(ctx context.Context, client securityv1.IstioCertificateServiceClient, req *securityv1.IstioCertificateRequest) (*securityv1.IstioCertificateResponse, error) {
	md := metadata.New(nil)
	for k, v := range c.Headers {
		md.Set(k, v)
	}
	if c.ClusterID != "" {
		md.Set("clusterid", c.ClusterID)
	}
	token, err := os.ReadFile(c.tokenPath)
	if err != nil {
		// The kubelet writes the token; until it has, this is no reason to give up. Unavailable retries.
		return nil, status.Errorf(codes.Unavailable, "reading the service account token: %v", err)
	}
	md.Set("authorization", "Bearer "+strings.TrimSpace(string(token)))
	ctx, cancel := context.WithTimeout(metadata.NewOutgoingContext(ctx, md), caTimeout)
	defer cancel()
	start := time.Now()
	resp, err := client.CreateCertificate(ctx, req)
	if c.Observe != nil {
		c.Observe(time.Since(start), err)
	}
	return resp, err
}

// splitChain reads the CA's answer: leaf, intermediates…, and as the last element the root bundle.
func splitChain(chain []string) (*issued, error) {
	if len(chain) < 2 {
		return nil, fmt.Errorf("the CA's answer has %d element(s); want the certificate chain and, last, the root", len(chain))
	}
	var leaf strings.Builder
	for _, c := range chain[:len(chain)-1] {
		leaf.WriteString(strings.TrimRight(c, "\n"))
		leaf.WriteByte('\n')
	}
	return &issued{chain: []byte(leaf.String()), root: []byte(chain[len(chain)-1])}, nil
}

// transport returns TLS towards the CA, verified against the root file, or plaintext on port 15010.
func (c *csrSource) transport() (credentials.TransportCredentials, error) {
	host, port, err := net.SplitHostPort(c.Address)
	if err != nil {
		return nil, fmt.Errorf("CA_ADDR %q: %w", c.Address, err)
	}
	if port == plaintextPort {
		c.log.Warn("the CA is asked in plaintext: the token can be read on the way; use port 15012", "address", c.Address)
		return insecure.NewCredentials(), nil
	}
	name := c.ServerName
	if name == "" {
		name = host
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: name}
	if c.RootCA != systemRootsValue {
		path, err := c.rootFile()
		if err != nil {
			return nil, err
		}
		pem, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("root certificate of the CA: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("root certificate of the CA: %s: %w", path, errNoCertificates)
		}
	}
	return credentials.NewTLS(cfg), nil
}

// rootFile picks the root to verify the CA with: CA_ROOT_CA, ./etc/certs/root-cert.pem, then the mounted
// ./var/run/secrets/istio/root-cert.pem.
func (c *csrSource) rootFile() (string, error) {
	if c.RootCA != "" {
		return underRoot(c.root, c.RootCA), nil
	}
	var tried []string
	for _, f := range []string{provRootFile, istiodRootFile} {
		path := underRoot(c.root, f)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		tried = append(tried, path)
	}
	return "", fmt.Errorf("no root certificate to verify the CA with: none of %s exists; mount the ConfigMap istio-ca-root-cert or set CA_ROOT_CA", strings.Join(tried, ", "))
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// jitter spreads d by ± the given part.
func jitter(d time.Duration, part float64) time.Duration {
	return time.Duration(float64(d) * (1 + part*(2*rand.Float64()-1))) //nolint:gosec // spreading load, not a secret
}

// backoff is the pause before outer attempt n (from 0): 500 ms doubling to 30 s, each jittered down to
// half. These are the bounds with which Envoy reconnects to its SDS server; a mesh's worth of proxies
// must not return to a restarted istiod at one instant.
func backoff(n int) time.Duration {
	const base, most = 500 * time.Millisecond, 30 * time.Second
	d := most
	if n < 6 {
		d = min(most, time.Duration(float64(base)*math.Pow(2, float64(n))))
	}
	return jitter(d*3/4, 1.0/3)
}
