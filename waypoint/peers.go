package waypoint

import (
	"net/netip"
	"sync"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/xdsclient"
	"github.com/gowaypoint/gowaypoint/xdsclient/wds"
)

// peers finds the workload behind an address and says it in telemetry's words. A workload's *telemetry.Peer is made once and is
// the same pointer for as long as the workload does not change: metrics use it as a key.
type peers struct {
	table *wds.Table
	made  sync.Map // *wds.Workload -> *telemetry.Peer
}

func newPeers(t *wds.Table) *peers { return &peers{table: t} }

func (p *peers) byAddr(a netip.Addr) *telemetry.Peer {
	if !a.IsValid() {
		return nil
	}
	w := p.table.ByAddr(a)
	if w == nil {
		return nil
	}
	if peer, ok := p.made.Load(w); ok {
		return peer.(*telemetry.Peer)
	}
	peer, _ := p.made.LoadOrStore(w, &telemetry.Peer{
		Namespace: w.Namespace, Cluster: w.ClusterID,
		CanonicalService: w.CanonicalName, CanonicalRevision: w.CanonicalRevision,
		// Workload discovery knows no app and version labels; Istio takes the canonical ones (contract T1).
		App: w.CanonicalName, Version: w.CanonicalRevision,
		Workload: w.WorkloadName, Type: w.WorkloadType.String(), Name: w.Name,
		Identity: w.Identity(), Region: w.Region, Zone: w.Zone,
	})
	return peer.(*telemetry.Peer)
}

// Apply takes workloads from istiod. Peers of workloads that changed are forgotten, so that the cache follows the table.
func (p *peers) Apply(u *xdsclient.Update) []xdsclient.Rejection {
	rejected := p.table.Apply(u)
	p.made.Range(func(key, _ any) bool {
		w := key.(*wds.Workload)
		if p.table.ByUID(w.UID) != w {
			p.made.Delete(w)
		}
		return true
	})
	return rejected
}
