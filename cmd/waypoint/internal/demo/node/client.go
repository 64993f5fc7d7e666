package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/gowaypoint/gowaypoint/cmd/waypoint/internal/demo/ca"
	"github.com/gowaypoint/gowaypoint/cmd/waypoint/internal/demo/manifests"
	"github.com/gowaypoint/gowaypoint/waypoint/h2"
	"github.com/gowaypoint/gowaypoint/waypoint/hbone"
	"github.com/gowaypoint/gowaypoint/waypoint/header"
)

// Client is the client node: it opens tunnels through the waypoint with the certificate of the pod that calls, as ztunnel
// does. Each pod has connections of its own. It is safe for concurrent use.
type Client struct {
	ca      *ca.CA
	network *Network

	mu    sync.Mutex
	conns map[key]*h2.Conn
}

type key struct {
	source   manifests.Account
	ip       netip.Addr
	waypoint netip.AddrPort
}

// NewClient makes a client node.
func NewClient(authority *ca.CA, network *Network) *Client {
	return &Client{ca: authority, network: network, conns: map[key]*h2.Conn{}}
}

// Tunnel opens a CONNECT from a pod to a target (VIP:port) through the waypoint at an address, which has to prove an identity.
func (c *Client) Tunnel(ctx context.Context, from *manifests.Pod, waypoint netip.AddrPort, identity, target string) (net.Conn, error) {
	k := key{from.Account, from.IP, waypoint}
	for try := 0; ; try++ {
		conn, err := c.conn(ctx, k, identity)
		if err != nil {
			return nil, fmt.Errorf("connection to the waypoint: %w", err)
		}
		stream, err := conn.Open()
		if err != nil { // it ended, or has all the streams that it may have
			c.forget(k, conn)
			if try == 0 {
				continue
			}
			return nil, err
		}
		headers := []header.Field{{Name: "forwarded", Value: fmt.Sprintf("for=%q", netip.AddrPortFrom(from.IP, 0))}}
		t, err := hbone.Connect(ctx, stream, target, headers, false)
		if err != nil {
			return nil, err
		}
		return hbone.NetConn(t), nil
	}
}

func (c *Client) conn(ctx context.Context, k key, identity string) (*h2.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn := c.conns[k]; conn != nil && conn.CanOpen() {
		return conn, nil
	}
	cert, err := c.ca.Issue(k.source.Principal())
	if err != nil {
		return nil, err
	}
	raw, err := c.network.DialFrom(ctx, k.ip, k.waypoint.String())
	if err != nil {
		return nil, err
	}
	t := tls.Client(raw, &tls.Config{
		Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13,
		// No host name to verify: a mesh peer is known by its SPIFFE identity, which VerifyConnection looks at.
		InsecureSkipVerify: true, VerifyConnection: verify(c.ca.Pool(), identity), //nolint:gosec // see above
	})
	if err := t.HandshakeContext(ctx); err != nil {
		_ = raw.Close() // the handshake's error is the one to tell
		return nil, err
	}
	conn := h2.NewClient(t, h2.Options{})
	go func() { _ = conn.Serve() }() // its end shows at the next Open
	c.conns[k] = conn
	return conn, nil
}

func (c *Client) forget(k key, conn *h2.Conn) {
	c.mu.Lock()
	if c.conns[k] == conn {
		delete(c.conns, k)
	}
	c.mu.Unlock()
}

// Close ends all connections.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		conn.Close(nil)
	}
	clear(c.conns)
}

// verify checks the chain and that the certificate is for the identity.
func verify(roots *x509.CertPool, identity string) func(tls.ConnectionState) error {
	return func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 {
			return errors.New("the peer shows no certificate")
		}
		leaf := s.PeerCertificates[0]
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
			return err
		}
		var names []string
		for _, u := range leaf.URIs {
			names = append(names, u.String())
		}
		if !slices.Contains(names, identity) {
			return fmt.Errorf("the peer is %v and not %s", names, identity)
		}
		return nil
	}
}
