package rbac

import (
	"strings"
	"sync"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/telemetry/metrics"
)

// counters count the decisions of one set, under Envoy's names.
type counters struct {
	stats  *metrics.Stats
	prefix string // up to and with its last dot
	shadow string // "shadow_", or "" for what is enforced

	allowed, denied *metrics.Counter

	mu        sync.RWMutex
	perPolicy [2]map[string]*metrics.Counter // denied and allowed, by the policy's name; made when first counted, as in Envoy
}

// braces make tags in the names of stats; a prefix or a policy has none.
var braces = strings.NewReplacer("{", "_", "}", "_")

// newCounters makes the counters of a set. A prefix of its own gets a dot if it has none at its end.
func newCounters(stats *metrics.Stats, base, prefix, shadow string) *counters {
	if prefix != "" && !strings.HasSuffix(prefix, ".") {
		prefix += "."
	}
	c := &counters{stats: stats, prefix: base + braces.Replace(prefix), shadow: shadow}
	c.allowed, c.denied = stats.Counter(c.prefix+shadow+"allowed"), stats.Counter(c.prefix+shadow+"denied")
	c.perPolicy = [2]map[string]*metrics.Counter{{}, {}}
	return c
}

func (c *counters) count(d *authz.Decision, perPolicy bool) {
	if d.Allowed {
		c.allowed.Inc()
	} else {
		c.denied.Inc()
	}
	if perPolicy && d.Policy != "" {
		c.ofPolicy(d).Inc()
	}
}

// ofPolicy finds a policy's counter, or makes it.
func (c *counters) ofPolicy(d *authz.Decision) *metrics.Counter {
	by := c.perPolicy[index(d.Allowed)]
	c.mu.RLock()
	counter := by[d.Policy]
	c.mu.RUnlock()
	if counter != nil {
		return counter
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if by[d.Policy] == nil {
		result := [2]string{"denied", "allowed"}[index(d.Allowed)]
		by[d.Policy] = c.stats.Counter(c.prefix + "policy." + braces.Replace(d.Policy) + "." + c.shadow + result)
	}
	return by[d.Policy]
}
