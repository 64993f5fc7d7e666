package demo

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gowaypoint/gowaypoint/cmd/waypoint/internal/demo/manifests"
	"github.com/gowaypoint/gowaypoint/cmd/waypoint/internal/demo/node"
)

// Headers by which a request says who calls and what; they go no further.
const (
	asHeader = "X-Demo-As" // a service account: name or namespace/name
	toHeader = "X-Demo-To" // a service: name, name.namespace, with or without :port
)

// defaultListen is the way in that the documentation shows.
const defaultListen = "127.0.0.1:8080"

// entry is the way in: an HTTP server that sends what it gets through the waypoint, as a pod of the mesh would.
type entry struct {
	stack    *stack
	listener net.Listener
	server   *http.Server

	mu         sync.Mutex
	transports map[netip.Addr]*http.Transport // by the pod that calls
}

func newEntry(s *stack) (*entry, error) {
	address := cmp.Or(s.o.Listen, s.pickPort(defaultListen))
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("the way in: %w", err)
	}
	e := &entry{stack: s, listener: l, transports: map[netip.Addr]*http.Transport{}}
	e.server = &http.Server{Handler: e, ReadHeaderTimeout: time.Minute}
	go func() { _ = e.server.Serve(l) }() // ends with close
	return e, nil
}

func (e *entry) addr() string { return e.listener.Addr().String() }

func (e *entry) close() {
	_ = e.server.Close()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, t := range e.transports {
		t.CloseIdleConnections()
	}
}

// ServeHTTP sends a request through the waypoint.
func (e *entry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	mesh := e.stack.mesh.Load()
	as, err := caller(mesh, r.Header.Get(asHeader))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	service, port, err := destination(mesh, cmp.Or(r.Header.Get(toHeader), meshHost(r.Host)))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.Header.Del(asHeader)
	r.Header.Del(toHeader)
	if r.Header.Get("X-Request-Id") == "" {
		r.Header.Set("X-Request-Id", newID())
	}
	x := &exchange{
		at: time.Now(), as: as, service: service, port: port, method: r.Method, uri: r.URL.RequestURI(), header: r.Header.Clone(),
		id: r.Header.Get("X-Request-Id"), host: fmt.Sprintf("%s:%d", service.Name, port),
	}
	if h := meshHost(r.Host); h != "" {
		x.host = r.Host
	}
	proxy := &httputil.ReverseProxy{
		Transport: e.transport(as),
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme = "http"
			p.Out.URL.Host = netip.AddrPortFrom(service.VIP, port).String()
			p.Out.Host = x.host
		},
		ModifyResponse: func(resp *http.Response) error {
			x.status, x.instance = resp.StatusCode, resp.Header.Get(node.InstanceHeader)
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			x.err = err
			http.Error(w, err.Error(), http.StatusBadGateway)
		},
	}
	proxy.ServeHTTP(w, r)
	x.latency = time.Since(x.at)
	e.stack.lines.add(x)
}

// transport is the network of a pod: each connection is a tunnel.
func (e *entry) transport(as *manifests.Pod) *http.Transport {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.transports[as.IP]
	if t == nil {
		s := e.stack
		waypoint := manifests.Account(s.mesh.Load().Waypoint).Principal()
		t = &http.Transport{
			DisableCompression: true, // what comes is what the pod sent
			IdleConnTimeout:    time.Minute,
			DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
				return s.client.Tunnel(ctx, as, netip.AddrPortFrom(s.address, 15008), waypoint, address)
			},
		}
		e.transports[as.IP] = t
	}
	return t
}

// defaultCaller is who calls when nobody says otherwise, if there is such a service account.
const defaultCaller = "curl"

// caller finds the pod of a service account. Without a name it is curl, or the first account that no service's pod has.
func caller(m *manifests.Mesh, name string) (*manifests.Pod, error) {
	ns, account, ok := strings.Cut(name, "/")
	if !ok {
		ns, account = "", name
	}
	serves := map[manifests.Account]bool{}
	for _, s := range m.Services {
		for _, p := range m.Endpoints(s) {
			serves[p.Account] = true
		}
	}
	var first *manifests.Pod
	for _, p := range m.Pods {
		switch {
		case name != "" && p.Account.Name == account && (ns == "" || p.Account.Namespace == ns):
			return p, nil
		case name == "" && p.Account.Name == defaultCaller:
			return p, nil
		case first == nil && !serves[p.Account]:
			first = p
		}
	}
	if name == "" && first == nil && len(m.Pods) > 0 {
		first = m.Pods[0]
	}
	if name == "" && first != nil {
		return first, nil
	}
	return nil, fmt.Errorf("%s: there is no service account %q; there are %v", asHeader, name, m.Accounts)
}

// meshHost is a Host that may name a service: not the way in itself.
func meshHost(host string) string {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	if name == "localhost" || net.ParseIP(strings.Trim(name, "[]")) != nil {
		return ""
	}
	return host
}

// destination finds a service that goes through the waypoint; the first one when nothing is named. Without a port it is the
// first of the service.
func destination(m *manifests.Mesh, to string) (*manifests.Service, uint16, error) {
	name, port := to, uint16(0)
	if host, text, err := net.SplitHostPort(to); err == nil {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return nil, 0, fmt.Errorf("%s: bad port %q", toHeader, text)
		}
		name, port = host, uint16(n)
	}
	i := slices.IndexFunc(m.Services, func(s *manifests.Service) bool {
		fqdn := s.Host()
		return name == "" || name == s.Name || name == fqdn || strings.HasPrefix(name, s.Name+"."+s.Namespace) && strings.HasPrefix(fqdn+".", name+".")
	})
	if i < 0 {
		var names []string
		for _, s := range m.Services {
			names = append(names, s.Name+"."+s.Namespace)
		}
		return nil, 0, fmt.Errorf("%s: there is no service %q behind the waypoint; there are %v", toHeader, to, names)
	}
	s := m.Services[i]
	if port == 0 && len(s.Ports) > 0 {
		port = s.Ports[0].Number
	}
	return s, port, nil
}

// newID makes an x-request-id.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand does not fail
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
