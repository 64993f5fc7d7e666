package cluster

import (
	"context"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/program"
)

// Resolver looks names up; net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// defaultRefresh is Envoy's dns_refresh_rate. It is also the pause after a failure, when the last answer stays in force.
const defaultRefresh = 5 * time.Second

// lookupTimeout bounds one look-up; the C library's usual two tries of five seconds.
const lookupTimeout = 10 * time.Second

// resolution keeps the endpoints of a DNS cluster up to date. STRICT_DNS and LOGICAL_DNS differ in Envoy in how many of the
// addresses are used; ours uses all of them for both, which spreads load where Envoy's LOGICAL_DNS sends it to the first.
type resolution struct {
	cfg    *program.DNS
	cancel context.CancelFunc

	mu  sync.Mutex
	eps []*program.Endpoint
}

func startResolution(c *Cluster, cfg *program.DNS) *resolution {
	ctx, cancel := context.WithCancel(context.Background())
	r := &resolution{cfg: cfg, cancel: cancel}
	go r.run(ctx, c)
	return r
}

func (r *resolution) same(cfg *program.DNS) bool {
	return r.cfg == cfg || reflect.DeepEqual(r.cfg, cfg)
}

func (r *resolution) stop() {
	if r != nil {
		r.cancel()
	}
}

func (r *resolution) endpoints() []*program.Endpoint {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.eps
}

func (r *resolution) run(ctx context.Context, c *Cluster) {
	refresh := r.cfg.RefreshRate
	if refresh <= 0 {
		refresh = defaultRefresh
	}
	answers := make([][]*program.Endpoint, len(r.cfg.Names))
	for {
		for i := range r.cfg.Names {
			n := &r.cfg.Names[i]
			addrs, err := r.lookup(ctx, c.m.opts.Resolver, n.Host)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				c.m.opts.Logger.Warn("name not resolved; the last answer stays in force", "cluster", c.Name, "name", n.Host, "error", err)
				continue
			}
			answers[i] = resolved(n, addrs)
		}
		r.publish(c, slices.Concat(answers...))
		t := time.NewTimer(refresh)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

func (r *resolution) publish(c *Cluster, eps []*program.Endpoint) {
	r.mu.Lock()
	unchanged := slices.EqualFunc(r.eps, eps, func(a, b *program.Endpoint) bool { return a.Key == b.Key })
	r.eps = eps
	r.mu.Unlock()
	if unchanged {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dns == r {
		c.setLocked(c.view.Load().cfg, eps)
	}
}

func (r *resolution) lookup(ctx context.Context, res Resolver, host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	network := "ip"
	switch r.cfg.Family {
	case program.DNSV4Only:
		network = "ip4"
	case program.DNSV6Only:
		network = "ip6"
	}
	addrs, err := res.LookupNetIP(ctx, network, host)
	if err != nil {
		return nil, err
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	switch r.cfg.Family {
	case program.DNSV4Preferred, program.DNSAuto: // Envoy: AUTO prefers IPv6, V4_PREFERRED IPv4; the other family only if alone
		want4 := r.cfg.Family == program.DNSV4Preferred
		if some := filterFamily(addrs, want4); len(some) > 0 {
			addrs = some
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs), nil
}

func filterFamily(addrs []netip.Addr, v4 bool) []netip.Addr {
	var out []netip.Addr
	for _, a := range addrs {
		if a.Is4() == v4 {
			out = append(out, a)
		}
	}
	return out
}

func resolved(n *program.DNSName, addrs []netip.Addr) []*program.Endpoint {
	eps := make([]*program.Endpoint, 0, len(addrs))
	for _, a := range addrs {
		ep := n.Template
		ep.Address = netip.AddrPortFrom(a, n.Port)
		ep.Display = ep.Address.String()
		ep.Key = ep.Display
		ep.Hops = append([]program.Hop{dialAddress(a, n.Port)}, n.Template.Hops...)
		eps = append(eps, &ep)
	}
	return eps
}
