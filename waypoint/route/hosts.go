package route

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// hostTable finds a virtual host by authority: exact domain, then the longest suffix wildcard ("*.a"), then the longest prefix
// wildcard ("a.*"), then "*". A wildcard stands for at least one character.
type hostTable struct {
	exact  map[string]*VirtualHost
	suffix []wildcards // by length, longest first
	prefix []wildcards
	any    *VirtualHost
	// ignorePort is ignore_port_in_host_matching: else "a:80" is another host than "a".
	ignorePort bool
	// header is vhost_header: it is looked at instead of the authority.
	header string
}

// wildcards are the domains whose fixed part has one length.
type wildcards struct {
	length int
	hosts  map[string]*VirtualHost
}

// add enters a domain.
func (t *hostTable) add(domain string, v *VirtualHost) error {
	d := strings.ToLower(domain)
	ok := true
	switch {
	case d == "*":
		if t.any != nil {
			return fmt.Errorf(`domains: a second "*"; the first is of virtual host %q`, t.any.Name)
		}
		t.any = v
	case strings.HasPrefix(d, "*"):
		t.suffix, ok = addWildcard(t.suffix, d[1:], v)
	case strings.HasSuffix(d, "*"):
		t.prefix, ok = addWildcard(t.prefix, d[:len(d)-1], v)
	default:
		if t.exact == nil {
			t.exact = map[string]*VirtualHost{}
		}
		if ok = t.exact[d] == nil; ok {
			t.exact[d] = v
		}
	}
	if !ok {
		return fmt.Errorf("domains: %q is there twice; domains must be unique in a route configuration", domain)
	}
	return nil
}

func addWildcard(list []wildcards, fixed string, v *VirtualHost) ([]wildcards, bool) {
	longestFirst := func(w wildcards, length int) int { return cmp.Compare(length, w.length) }
	i, ok := slices.BinarySearchFunc(list, len(fixed), longestFirst)
	if !ok {
		list = slices.Insert(list, i, wildcards{len(fixed), map[string]*VirtualHost{}})
	}
	if list[i].hosts[fixed] != nil {
		return list, false
	}
	list[i].hosts[fixed] = v
	return list, true
}

// find looks a request's virtual host up; nil: no domain matches.
func (t *hostTable) find(h *message.Head) *VirtualHost {
	if len(t.exact) == 0 && len(t.suffix) == 0 && len(t.prefix) == 0 {
		return t.any // all that istiod sends to waypoints
	}
	name := h.Authority
	if t.header != "" {
		var ok bool
		if name, ok = h.Get(t.header); !ok {
			return nil // not even "*": Envoy wants that field
		}
	}
	if t.ignorePort {
		name = withoutPort(name)
	}
	// A host name has at most 253 characters (RFC 1035), and a port has 5; more than that is put on the heap.
	var memory [264]byte
	host := memory[:0]
	for i := 0; i < len(name); i++ {
		host = append(host, lower(name[i]))
	}
	if v := t.exact[string(host)]; v != nil {
		return v
	}
	for _, w := range t.suffix {
		if w.length < len(host) {
			if v := w.hosts[string(host[len(host)-w.length:])]; v != nil {
				return v
			}
		}
	}
	for _, w := range t.prefix {
		if w.length < len(host) {
			if v := w.hosts[string(host[:w.length])]; v != nil {
				return v
			}
		}
	}
	return t.any
}

// portStart is the index of the colon before the port, or -1. An IPv6 address has brackets around its own colons.
func portStart(host string) int {
	i := strings.LastIndexByte(host, ':')
	if i >= 0 && strings.LastIndexByte(host, ']') < i {
		return i
	}
	return -1
}

func withoutPort(host string) string {
	if i := portStart(host); i >= 0 {
		return host[:i]
	}
	return host
}
