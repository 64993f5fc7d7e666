// Command nethttp is the yardstick of Go's standard library: an HBONE proxy made of net/http, x/net/http2 and ReverseProxy, with a
// policy of "GET by this client". It shows what a data path of one's own is worth. It is not for use.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/net/http2"
)

func main() {
	listen := flag.String("listen", "", "address of the HBONE port")
	pod := flag.String("pod", "", "address of the pod, ip:port; HBONE is spoken to port 15008")
	certs := flag.String("certs", "", "directory with cert-chain.pem, key.pem and root-cert.pem")
	principal := flag.String("principal", "", "the only client that is let in; empty: any")
	flag.Parse()
	if err := run(*listen, *pod, *certs, *principal); err != nil {
		log.Fatal(err)
	}
}

func run(listen, pod, certs, principal string) error {
	tlsConfig, err := loadTLS(certs)
	if err != nil {
		return err
	}
	upstream, err := newUpstream(pod, tlsConfig)
	if err != nil {
		return err
	}
	inner := &inside{conns: make(chan net.Conn)}
	go func() {
		s := &http.Server{Handler: policy(principal, upstream), ConnContext: withPrincipal, ReadHeaderTimeout: 0}
		log.Fatal(s.Serve(inner))
	}()
	outer := &http.Server{Addr: listen, TLSConfig: tlsConfig, Handler: inner, ReadHeaderTimeout: 10 * time.Second}
	if err := http2.ConfigureServer(outer, &http2.Server{MaxConcurrentStreams: 100}); err != nil {
		return err
	}
	return outer.ListenAndServeTLS("", "")
}

func loadTLS(dir string) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert-chain.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		return nil, err
	}
	root, err := os.ReadFile(filepath.Join(dir, "root-cert.pem")) //nolint:gosec // the caller's
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(root) {
		return nil, errors.New("root-cert.pem holds no certificate")
	}
	return &tls.Config{
		Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
		InsecureSkipVerify: true, //nolint:gosec // of the host name; the chain is checked below
		VerifyConnection: func(s tls.ConnectionState) error {
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
			return err
		},
	}, nil
}

// newUpstream is a ReverseProxy whose connections are tunnels to the pod.
func newUpstream(pod string, config *tls.Config) (http.Handler, error) {
	ip, _, err := net.SplitHostPort(pod)
	if err != nil {
		return nil, err
	}
	hbone := &http2.Transport{TLSClientConfig: config}
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", pod, r.In.Host
		},
		FlushInterval: -1,
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 10_000, DisableCompression: true,
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				r, w := io.Pipe()
				req, err := http.NewRequest(http.MethodConnect, "https://"+net.JoinHostPort(ip, "15008"), r) //nolint:noctx // a connection outlives the request that made it
				if err != nil {
					return nil, err
				}
				req.Host = pod
				resp, err := hbone.RoundTrip(req) //nolint:bodyclose // the tunnel's Close closes it
				if err != nil {
					return nil, err
				}
				if resp.StatusCode != http.StatusOK {
					return nil, fmt.Errorf("CONNECT %s: %s", pod, resp.Status)
				}
				return &upstreamConn{ReadCloser: resp.Body, w: w}, nil
			},
		},
	}, nil
}

type principalKey struct{}

func withPrincipal(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, principalKey{}, c.(*clientConn).principal)
}

// policy lets GET pass.
func policy(principal string, next http.Handler) http.Handler {
	denied := []byte("RBAC: access denied")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && (principal == "" || r.Context().Value(principalKey{}) == principal) {
			next.ServeHTTP(w, r)
			return
		}
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write(denied) // the client may have gone
	})
}
