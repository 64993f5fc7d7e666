package fake

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/net/http2"
)

// StatusError is an answer to CONNECT other than 200.
type StatusError int

func (e StatusError) Error() string { return fmt.Sprintf("CONNECT answered with status %d", int(e)) }

// Client returns the pod of that name as one that sends.
func (m *Mesh) Client(name string) *Pod {
	m.T.Helper()
	p := m.Pods[name]
	if p == nil {
		m.T.Fatalf("no pod %s", name)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.client != nil {
		return p
	}
	id, err := m.ca.Issue(p.Namespace, p.Account)
	must(m.T, err)
	cfg := id.TLS("spiffe://cluster.local/ns/default/sa/waypoint")
	p.client = &http2.Transport{DialTLSContext: func(ctx context.Context, network, _ string, _ *tls.Config) (net.Conn, error) {
		d := tls.Dialer{NetDialer: &net.Dialer{LocalAddr: loopback(p.IP)}, Config: cfg}
		return d.DialContext(ctx, "tcp", *m.addr.Load())
	}, DisableCompression: true}
	m.T.Cleanup(p.client.CloseIdleConnections)
	return p
}

// Tunnel opens a CONNECT to an address of the mesh, on the pod's one HBONE connection.
func (p *Pod) Tunnel(ctx context.Context, authority string) (net.Conn, error) {
	r, w := io.Pipe()
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	req := (&http.Request{Method: http.MethodConnect, URL: &url.URL{Scheme: "https", Host: "waypoint:15008"}, Host: authority,
		Header: http.Header{}, Body: r, ContentLength: -1}).WithContext(ctx)
	resp, err := p.client.RoundTrip(req) //nolint:bodyclose // the tunnel closes it
	if err == nil && resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		err = StatusError(resp.StatusCode)
	}
	if err != nil {
		cancel(err)
		return nil, err
	}
	return &tunnel{PipeWriter: w, in: resp.Body, cancel: cancel}, nil
}

// tunnel is the inside of a CONNECT.
type tunnel struct {
	*io.PipeWriter
	in     io.ReadCloser
	cancel context.CancelCauseFunc
}

func (t *tunnel) Read(b []byte) (int, error) { return t.in.Read(b) }

// CloseWrite ends the stream in our direction.
func (t *tunnel) CloseWrite() error { return t.PipeWriter.Close() }

// Close resets the stream unless both directions have ended.
func (t *tunnel) Close() error {
	err := t.PipeWriter.Close()
	_ = t.in.Close()
	t.cancel(net.ErrClosed)
	return err
}

func (t *tunnel) LocalAddr() net.Addr  { return &net.TCPAddr{} }
func (t *tunnel) RemoteAddr() net.Addr { return &net.TCPAddr{} }

// SetDeadline ends the tunnel when the time comes; setting none has no effect, as nobody here takes one back.
func (t *tunnel) SetDeadline(at time.Time) error {
	if !at.IsZero() {
		time.AfterFunc(time.Until(at), func() { t.cancel(context.DeadlineExceeded) })
	}
	return nil
}
func (t *tunnel) SetReadDeadline(time.Time) error  { return nil }
func (t *tunnel) SetWriteDeadline(time.Time) error { return nil }

// HTTP returns a client whose connections are tunnels to authority. h2 is prior knowledge.
func (p *Pod) HTTP(authority string, h2 bool) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!h2)
	protocols.SetUnencryptedHTTP2(h2)
	tr := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return p.Tunnel(ctx, authority) },
		Protocols:   protocols, DisableCompression: true,
	}
	p.m.T.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}
