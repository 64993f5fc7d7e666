package wds

import "net/netip"

// Type is the kind of the controller that owns a workload.
type Type int32

// The values of istio.workload.WorkloadType.
const (
	Deployment Type = 0
	CronJob    Type = 1
	Pod        Type = 2
	Job        Type = 3
)

// String returns the name that Istio's telemetry uses: deployment, cronjob, pod or job; unknown for any other value.
func (t Type) String() string {
	switch t {
	case Deployment:
		return "deployment"
	case CronJob:
		return "cronjob"
	case Pod:
		return "pod"
	case Job:
		return "job"
	}
	return "unknown"
}

// A Workload is one pod, VM or external endpoint. It is immutable; its strings share one allocation.
type Workload struct {
	UID       string // <cluster>/<group>/<kind>/<namespace>/<name>; the key
	Name      string
	Namespace string // "default" if elided

	TrustDomain    string // "cluster.local" if elided
	ServiceAccount string // "default" if elided

	// Addresses are the workload's own; IPv4 ones are never in IPv6 form.
	Addresses []netip.Addr
	Network   string
	ClusterID string
	Node      string

	WorkloadName      string // of the owner: a Deployment's name, not the ReplicaSet's
	WorkloadType      Type
	CanonicalName     string
	CanonicalRevision string

	Region, Zone, Subzone string

	Healthy bool
	// HostNetwork says that Addresses are the node's, shared with others, so that an address does not tell which workload it is.
	HostNetwork bool
}

// Identity returns the SPIFFE ID under which the workload authenticates.
func (w *Workload) Identity() string {
	return "spiffe://" + w.TrustDomain + "/ns/" + w.Namespace + "/sa/" + w.ServiceAccount
}
