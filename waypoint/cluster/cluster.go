package cluster

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/program"
)

// Cluster is the runtime state of one cluster.
type Cluster struct {
	Name string

	m    *Manager
	view atomic.Pointer[view]

	mu    sync.Mutex
	hosts map[string]*Host // every host of the current view, by key
	dns   *resolution      // DNS clusters only
	// reviews runs while hosts are ejected.
	reviews *time.Timer
	queue   queue

	rr    atomic.Uint64 // round robin's place
	swrr  smooth        // weighted round robin's state
	Stats Stats
}

// Stats are counters that /clusters and /stats show. All are totals save the gauges named Active.
type Stats struct {
	RequestsTotal     atomic.Uint64
	RequestsActive    atomic.Int64
	RetriesActive     atomic.Int64
	PendingActive     atomic.Int64 // requests that wait for a connection because of max_connections
	ConnectionsTotal  atomic.Uint64
	ConnectionsActive atomic.Int64
	ConnectFailures   atomic.Uint64
	Overflows         atomic.Uint64
	NoneHealthy       atomic.Uint64
	// Ejections by outlier detection, and those that max_ejection_percent prevented.
	Ejections         atomic.Uint64
	EjectionsOverflow atomic.Uint64
}

// view is what picks read: the configuration and the hosts that go with it. It is replaced as a whole.
type view struct {
	cfg *program.Cluster
	// hosts in the order of the config; levels are the usable ones by priority.
	hosts  []*Host
	levels []level
	// original holds the hosts of an ORIGINAL_DST cluster, made as destinations are asked for.
	original *sync.Map
}

func newCluster(m *Manager, name string) *Cluster {
	c := &Cluster{Name: name, m: m, hosts: map[string]*Host{}}
	c.view.Store(&view{cfg: &program.Cluster{Name: name}})
	return c
}

// Config returns the configuration in force.
func (c *Cluster) Config() *program.Cluster { return c.view.Load().cfg }

// Hosts returns the endpoints in the order of the config.
func (c *Cluster) Hosts() []*Host { return c.view.Load().hosts }

func (c *Cluster) update(cfg *program.Cluster) {
	cur := c.view.Load()
	if cur.cfg == cfg {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	endpoints := cfg.Endpoints
	if cfg.DNS != nil {
		if c.dns == nil || !c.dns.same(cfg.DNS) {
			c.dns.stop()
			c.dns = startResolution(c, cfg.DNS)
		}
		endpoints = c.dns.endpoints()
	} else {
		c.dns.stop()
		c.dns = nil
	}
	c.setLocked(cfg, endpoints)
}

// setLocked makes a view of endpoints; hosts that were there keep their state, those that are gone close what is idle.
func (c *Cluster) setLocked(cfg *program.Cluster, endpoints []*program.Endpoint) {
	hosts := make(map[string]*Host, len(endpoints))
	v := &view{cfg: cfg, hosts: make([]*Host, 0, len(endpoints))}
	for _, ep := range endpoints {
		if hosts[ep.Key] != nil {
			continue // the same address twice in one assignment counts once, as in Envoy
		}
		h := c.hosts[ep.Key]
		if h == nil {
			h = &Host{cluster: c, Key: ep.Key, born: time.Now()}
		}
		h.setEndpoint(ep)
		hosts[ep.Key] = h
		v.hosts = append(v.hosts, h)
	}
	if cfg.Outlier == nil {
		c.pardonLocked(v.hosts)
	}
	v.levels = levels(v.hosts, &cfg.LB)
	if cfg.OriginalDst != nil {
		if cur := c.view.Load(); cur.original != nil && cur.cfg.OriginalDst == cfg.OriginalDst {
			v.original = cur.original
		} else {
			v.original = &sync.Map{}
		}
	}
	for key, h := range c.hosts {
		if hosts[key] != h {
			h.close()
		}
	}
	c.hosts = hosts
	prev := c.view.Swap(v)
	if prev.original != nil && prev.original != v.original {
		prev.original.Range(func(_, h any) bool { h.(*Host).close(); return true })
	}
}

func (c *Cluster) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dns.stop()
	c.dns = nil
	c.setLocked(&program.Cluster{Name: c.Name}, nil)
	if c.reviews != nil {
		c.reviews.Stop()
		c.reviews = nil
	}
}

func (c *Cluster) sweep(now time.Time) {
	v := c.view.Load()
	for _, h := range v.hosts {
		h.sweep(now)
	}
	if v.original != nil {
		v.original.Range(func(key, value any) bool {
			h := value.(*Host)
			h.sweep(now)
			if h.forgettable(now) {
				v.original.Delete(key)
				h.close()
			}
			return true
		})
	}
}
