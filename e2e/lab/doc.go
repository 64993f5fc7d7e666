// Package lab runs a real Istio control plane and real waypoint pods on one
// machine, without containers and without a cluster, and walks them through
// the scenarios of lab_test.go.
//
//	sudo make lab        or        cd e2e && go test -tags lab ./lab/... -count=1 -v
//
// What is real: etcd, kube-apiserver, kube-controller-manager, istiod and
// istioctl, built by build.sh from the modules pinned in tools/; every manifest
// istioctl would install, but for workloads and webhooks; the Deployment that
// istiod makes of a Gateway; our binary, run from that Deployment.
//
// What stands in: package runner for kubelet, scheduler and container runtime,
// package ztun for ztunnel, an /etc/hosts for DNS, and the annotation that
// Istio's CNI would put on ambient pods.
//
// # Isolation
//
// [Main] runs the test binary a second time inside network, mount and process
// namespaces of its own, with a private /run that holds all state. So ports
// are fixed, several labs can run side by side, and when the first process
// ends for whatever reason the kernel takes away everything else: processes,
// interfaces, mounts and files. It needs root (CAP_SYS_ADMIN, CAP_NET_ADMIN),
// and no program of the machine but Go and those that every Debian has.
//
//	lab's network namespace                       10.244.0.1 = node
//	  etcd, kube-apiserver :6443, kube-controller-manager,
//	  istiod :15010 :15012, pod runner, ztun
//	  bridge mesh0 ── eth0 of pod 10.244.0.2 (helloworld)   :5000, ztun :15008
//	               ├─ eth0 of pod 10.244.0.3 (waypoint)     :15008 :15021 …
//	               └─ …
//
// # Variables
//
//	GOWAYPOINT_LAB_CACHE      where build.sh keeps the control plane (~/.cache/gowaypoint-lab)
//	GOWAYPOINT_LAB_WAYPOINT   a static waypoint binary to be tried instead of cmd/waypoint
//	GOWAYPOINT_LAB_ARTIFACTS  a folder that gets all logs
//
// Building the control plane the first time takes 9 minutes on two cores and
// needs the Go module proxy; starting it takes 10 seconds, all steps of
// [TestWaypoint] a little over two minutes.
package lab
