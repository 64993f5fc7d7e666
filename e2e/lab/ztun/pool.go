package ztun

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// Pool opens tunnels with one identity through one next hop. It keeps a
// connection for as long as that takes new streams: after a GOAWAY the next
// tunnel gets a new connection, and those that are open go on. Safe for
// concurrent use.
type Pool struct {
	Identity *Identity
	// Peer is the only identity that the next hop may have; empty for any of
	// the mesh.
	Peer string
	// Address returns IP:15008 of the next hop; it is asked for every new
	// connection, since waypoints come and go.
	Address func(context.Context) (string, error)
	// Dial connects, from the pod's network.
	Dial func(ctx context.Context, address string) (net.Conn, error)

	mu      sync.Mutex
	current *connection
	all     []*connection
}

type connection struct {
	h2   *http2.ClientConn
	leaf *x509.Certificate
}

// StatusError says that the next hop has refused a tunnel.
type StatusError int

func (e StatusError) Error() string { return fmt.Sprintf("CONNECT was answered with %d", int(e)) }

// unusable is the text of the error, not exported by x/net, for a stream that
// was not even begun because a GOAWAY has come since the connection was picked.
const unusable = "http2: client connection not usable"

// Connect opens a tunnel to authority, an IP:port. The context governs the
// opening only. A CONNECT that a GOAWAY has turned away is not sent again:
// ztunnel does not do it either, so a good waypoint never lets that happen.
func (p *Pool) Connect(ctx context.Context, authority string) (net.Conn, error) {
	for {
		c, err := p.connection(ctx)
		if err != nil {
			return nil, err
		}
		conn, err := c.connect(ctx, authority)
		if err == nil || err.Error() != unusable {
			return conn, err
		}
	}
}

func (c *connection) connect(ctx context.Context, authority string) (net.Conn, error) {
	reader, writer := io.Pipe()
	streaming, cancel := context.WithCancel(context.WithoutCancel(ctx))
	opened := context.AfterFunc(ctx, cancel)
	answer, err := c.h2.RoundTrip((&http.Request{
		Method: http.MethodConnect, URL: &url.URL{Scheme: "https", Host: authority}, Host: authority,
		Header: http.Header{}, Body: reader, ContentLength: -1,
	}).WithContext(streaming))
	opened()
	if err == nil && answer.StatusCode != http.StatusOK {
		err = errors.Join(StatusError(answer.StatusCode), answer.Body.Close())
	}
	if err != nil {
		cancel()
		return nil, err
	}
	return &tunnel{body: answer.Body, writer: writer, cancel: cancel, remote: authority}, nil
}

// Certificate is what the next hop showed on the connection in use, nil
// without one.
func (p *Pool) Certificate() *x509.Certificate {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current == nil {
		return nil
	}
	return p.current.leaf
}

// Draining tells how many connections have been sent a GOAWAY and are still
// open or were closed later; and how many there have been in all.
func (p *Pool) Draining() (goneAway, all int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.all {
		if c.h2.State().Closing {
			goneAway++
		}
	}
	return goneAway, len(p.all)
}

// Reset drops the connection in use for new tunnels, so that the next one
// makes a handshake.
func (p *Pool) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.current = nil
}

// Close cuts everything.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.all {
		_ = c.h2.Close() // cuts
	}
	p.current, p.all = nil, nil
}

func (p *Pool) connection(ctx context.Context) (*connection, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != nil && p.current.h2.CanTakeNewRequest() {
		return p.current, nil
	}
	address, err := p.Address(ctx)
	if err != nil {
		return nil, err
	}
	raw, err := p.Dial(ctx, address)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, p.Identity.tlsConfig(p.Peer))
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("HBONE handshake with %s: %w", address, err), raw.Close())
	}
	h2, err := new(http2.Transport).NewClientConn(conn)
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	_, leaf := peerOf(conn)
	p.current = &connection{h2: h2, leaf: leaf}
	p.all = append(p.all, p.current)
	return p.current, nil
}

// HTTP returns a client whose every request goes through tunnels to authority,
// whatever host its URL names. With keep, a tunnel carries many requests;
// without, each has its own.
func (p *Pool) HTTP(authority string, keep bool) *http.Client {
	return &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: !keep,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return p.Connect(ctx, authority)
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// tunnel is one CONNECT stream as a connection.
type tunnel struct {
	body   io.ReadCloser
	writer *io.PipeWriter
	cancel context.CancelFunc
	remote string
}

func (t *tunnel) Read(p []byte) (int, error)  { return t.body.Read(p) }
func (t *tunnel) Write(p []byte) (int, error) { return t.writer.Write(p) }

// CloseWrite ends our direction.
func (t *tunnel) CloseWrite() error { return t.writer.Close() }

func (t *tunnel) Close() error {
	err := errors.Join(t.writer.Close(), t.body.Close())
	t.cancel()
	return err
}

func (t *tunnel) LocalAddr() net.Addr  { return address("tunnel") }
func (t *tunnel) RemoteAddr() net.Addr { return address(t.remote) }

// Deadlines are not kept: net/http's client has timers of its own.
func (t *tunnel) SetDeadline(time.Time) error      { return nil }
func (t *tunnel) SetReadDeadline(time.Time) error  { return nil }
func (t *tunnel) SetWriteDeadline(time.Time) error { return nil }

type address string

func (address) Network() string  { return "hbone" }
func (a address) String() string { return string(a) }
