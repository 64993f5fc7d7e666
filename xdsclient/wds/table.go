package wds

import (
	"net/netip"
	"slices"
	"sync"

	"github.com/gowaypoint/gowaypoint/xdsclient"
)

// A Table finds workloads by address and by uid. Reading takes no lock and allocates nothing, so that each request may do it; a change
// is seen by readers soon after, though not of all workloads at the same instant.
type Table struct {
	network string
	mu      sync.Mutex // held by whoever changes the table
	byUID   shards[string, *Workload]
	byAddr  shards[netip.Addr, []*Workload] // in the order of arrival
}

// NewTable returns an empty table. network is the network that the proxy is in (ISTIO_META_NETWORK); it matters only where two
// networks use the same address.
func NewTable(network string) *Table {
	t := &Table{network: network}
	t.byUID.init()
	t.byAddr.init()
	return t
}

// ByUID returns the workload of that uid, or nil.
func (t *Table) ByUID(uid string) *Workload {
	w, _ := t.byUID.get(uid)
	return w
}

// ByAddr returns the workload that has the address, or nil if none does, or if it cannot be told which:
//
//   - of workloads in several networks, those of the proxy's own network count, if there are any;
//   - a workload with an address of its own goes before those that use their node's (HOST_NETWORK), and if there are several, the one
//     that came last: the address of a pod that is gone may be given to a new one before its removal arrives;
//   - of several workloads on one node's address, none is returned.
func (t *Table) ByAddr(addr netip.Addr) *Workload {
	all, _ := t.byAddr.get(addr.Unmap())
	if len(all) == 1 {
		return all[0]
	}
	return t.choose(all)
}

func (t *Table) choose(all []*Workload) *Workload {
	local := slices.ContainsFunc(all, func(w *Workload) bool { return w.Network == t.network })
	var own, host *Workload
	hosts := 0
	for _, w := range all {
		switch {
		case local && w.Network != t.network:
		case w.HostNetwork:
			host = w
			hosts++
		default:
			own = w
		}
	}
	switch {
	case own != nil:
		return own
	case hosts == 1:
		return host
	}
	return nil
}

// Len returns the number of workloads.
func (t *Table) Len() int { return t.byUID.len() }

// Apply puts an update of xdsclient.TypeWorkload in force. It rejects workloads that cannot be decoded, or whose uid is not
// the name of their resource.
func (t *Table) Apply(u *xdsclient.Update) []xdsclient.Rejection {
	var rejected []xdsclient.Rejection
	changed := make([]*Workload, 0, len(u.Changed))
	for _, r := range u.Changed {
		w, err := Decode(r.Value)
		switch {
		case err != nil:
			rejected = append(rejected, r.Reject("", err.Error()))
		case w.UID != r.Name:
			rejected = append(rejected, r.Reject("uid", "is \""+w.UID+"\", not the resource's name"))
		default:
			changed = append(changed, w)
		}
	}
	t.Update(changed, u.Removed)
	return rejected
}

// Update adds or replaces workloads, by uid, and removes others.
func (t *Table) Update(changed []*Workload, removed []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	uids, addrs := t.byUID.edit(), t.byAddr.edit()
	forget := func(uid string) {
		old, ok := uids.get(uid)
		if !ok {
			return
		}
		uids.remove(uid)
		for _, a := range old.Addresses {
			// A new slice, since readers may have the old one.
			all, _ := addrs.get(a)
			rest := make([]*Workload, 0, len(all))
			for _, w := range all {
				if w != old {
					rest = append(rest, w)
				}
			}
			if len(rest) == 0 {
				addrs.remove(a)
			} else {
				addrs.set(a, rest)
			}
		}
	}
	for _, w := range changed {
		forget(w.UID)
		uids.set(w.UID, w)
		for _, a := range w.Addresses {
			all, _ := addrs.get(a)
			addrs.set(a, append(slices.Clip(all), w)) // Clip: append copies
		}
	}
	for _, uid := range removed {
		forget(uid)
	}
	// Addresses first: what is found by address can then be found by uid a moment later, and nobody looks the other way round.
	addrs.commit()
	uids.commit()
}
