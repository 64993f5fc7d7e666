package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"github.com/gowaypoint/gowaypoint/cmd/waypoint/internal/demo/ca"
	"github.com/gowaypoint/gowaypoint/cmd/waypoint/internal/demo/manifests"
	"github.com/gowaypoint/gowaypoint/waypoint/h2"
	"github.com/gowaypoint/gowaypoint/waypoint/hbone"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

const hbonePort = 15008

// Destination is the destination node: it terminates HBONE for each pod, with the pod's certificate, as ztunnel does, and runs
// the program of the pod.
type Destination struct {
	ca      *ca.CA
	network *Network
	log     *slog.Logger

	mu   sync.Mutex
	pods map[netip.Addr]*running
}

// running is a pod at work.
type running struct {
	pod    *manifests.Pod
	app    *app
	tunnel *hbone.Acceptor
	stop   context.CancelFunc
}

// NewDestination makes a destination node without pods.
func NewDestination(authority *ca.CA, network *Network, log *slog.Logger) *Destination {
	return &Destination{ca: authority, network: network, log: log, pods: map[netip.Addr]*running{}}
}

// Sync starts and stops pods until those of the list run.
func (d *Destination) Sync(pods []*manifests.Pod) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	wanted := map[netip.Addr]bool{}
	for _, p := range pods {
		wanted[p.IP] = true
		if r := d.pods[p.IP]; r != nil {
			if r.pod.Account == p.Account && r.pod.HBONE == p.HBONE && r.app.is(p) {
				continue
			}
			d.end(r)
		}
		r, err := d.start(p)
		if err != nil {
			return fmt.Errorf("pod %s/%s: %w", p.Namespace, p.Name, err)
		}
		d.pods[p.IP] = r
	}
	for ip, r := range d.pods {
		if !wanted[ip] {
			d.end(r)
			delete(d.pods, ip)
		}
	}
	return nil
}

// Close stops all pods.
func (d *Destination) Close() {
	_ = d.Sync(nil) // stopping does not fail
}

func (d *Destination) start(p *manifests.Pod) (*running, error) {
	a, err := newApp(p)
	if err != nil {
		return nil, err
	}
	r := &running{pod: p, app: a, stop: func() {}}
	if !p.HBONE {
		d.network.Route(netip.AddrPortFrom(p.IP, 0), a.addr())
		return r, nil
	}
	cert, err := d.ca.Issue(p.Account.Principal())
	if err != nil {
		a.close()
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		a.close()
		return nil, err
	}
	conf := &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: d.ca.Pool(),
		NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13,
	}
	r.tunnel = &hbone.Acceptor{
		TLS: func() (*tls.Config, error) { return conf, nil }, H2: func() h2.Options { return h2.Options{} }, Logger: d.log,
		Handler: func(s *h2.Stream, _ *hbone.Conn) { r.serve(s) },
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	go func() {
		if err := r.tunnel.Serve(ctx, l); err != nil && ctx.Err() == nil {
			d.log.Error("destination node", "pod", p.Name, "error", err)
		}
	}()
	d.network.Route(netip.AddrPortFrom(p.IP, hbonePort), l.Addr().String())
	return r, nil
}

func (d *Destination) end(r *running) {
	d.network.Route(netip.AddrPortFrom(r.pod.IP, 0), "")
	d.network.Route(netip.AddrPortFrom(r.pod.IP, hbonePort), "")
	r.stop()
	if r.tunnel != nil {
		r.tunnel.Close()
	}
	r.app.close()
}

// serve answers one stream of an HBONE connection, with ztunnel's statuses: 400 for what is not a CONNECT to this pod, 503 when
// the program does not answer, 200.
func (r *running) serve(s *h2.Stream) {
	var h message.Head
	if _, err := s.ReadHead(&h); err != nil {
		return
	}
	answer := func(status int, end bool) bool {
		return s.WriteHead(&message.Head{Status: status}, end) == nil && s.Flush() == nil
	}
	target, err := netip.ParseAddrPort(h.Authority)
	if h.Method != "CONNECT" || err != nil || target.Addr() != r.pod.IP {
		answer(400, true)
		return
	}
	c, err := net.Dial("tcp", r.app.addr())
	if err != nil {
		answer(503, true)
		return
	}
	if !answer(200, false) {
		_ = c.Close()
		return
	}
	bridge(s.Tunnel(), c.(*net.TCPConn))
}

// bridge copies in both directions, half-closes included, until both are done.
func bridge(t message.Conn, c *net.TCPConn) {
	t.OnReset(func(*message.ResetError) {
		_ = c.SetLinger(0) // the program sees a reset too
		_ = c.Close()
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := io.Copy(c, t); err == nil {
			_ = c.CloseWrite()
		}
	}()
	if _, err := io.Copy(t, c); err != nil {
		t.Reset(message.Cancel)
	} else {
		_ = t.CloseWrite()
	}
	<-done
	_ = c.Close()
}
