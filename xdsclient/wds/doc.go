// Package wds holds what a proxy needs to know of its peers: the workloads of the mesh, by address and by uid.
//
// istiod sends each workload as an istio.workload.Workload over the delta ADS stream. [Decode] reads the wire form of that message
// directly: the few fields that peer metadata needs become a [Workload], everything else is skipped. There is no
// generated Go type on purpose. It would have to carry Istio's full message name, and a program that links Istio's own type as
// well (our end-to-end tests do) would panic at start, since the protobuf registry of a process holds each name once.
//
// The wire form that is read, in the notation of protobuf (proto3, package istio.workload):
//
//	message Workload {
//	  string name = 1;                 string namespace = 2;
//	  repeated bytes addresses = 3;    // 4 or 16 bytes each
//	  string network = 4;              string trust_domain = 6;
//	  string service_account = 7;      string node = 9;
//	  string canonical_name = 10;      string canonical_revision = 11;
//	  WorkloadType workload_type = 12; // DEPLOYMENT 0, CRONJOB 1, POD 2, JOB 3
//	  string workload_name = 13;       WorkloadStatus status = 17; // HEALTHY 0, UNHEALTHY 1
//	  string cluster_id = 18;          string uid = 20;
//	  Locality locality = 24;          // region = 1, zone = 2, subzone = 3
//	  NetworkMode network_mode = 25;   // STANDARD 0, HOST_NETWORK 1
//	}
//
// A [Table] is filled by one stream and read by every request, without locks. It implements the part of an
// xdsclient.Handler that concerns workloads, see [Table.Apply].
package wds
