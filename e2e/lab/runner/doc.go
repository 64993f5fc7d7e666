// Package runner is a very small kubelet: it runs the pods of one node as
// plain processes, so that a Deployment made by a real control plane is run
// the way its author meant, on a machine without containers.
//
// For every pod it makes a network namespace with an address of its own and a
// root folder, fills the volumes, expands arguments and environment, starts
// the containers' processes in a chroot as the user the pod asks for, probes
// them, restarts them, and reports the pod's status. Deleting a pod sends
// SIGTERM, waits the grace period, and sends SIGKILL. A small part of the
// kubelet's HTTPS API is served as well: logs, exec and port-forward, which is
// all that istioctl and kubectl need to look into a pod.
//
// An image is a table entry: see [Image]. Nothing is ever downloaded.
//
// What it does not know it refuses: a pod with a volume, field reference or
// probe that is not implemented stays Pending, and its status says why. There
// are no cgroups: limits are reported to the process (resourceFieldRef), not
// enforced.
//
// The caller must be root and own the network and mount namespaces it runs in,
// since bridge, mounts and routes are made there; nothing is undone beyond
// what [Runner.Run] undoes for each pod.
package runner
