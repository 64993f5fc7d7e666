// Package gen makes the pairs of the differential test from a seed: sets of policies by [Raw] (RBAC protobufs, every matcher)
// and by [Istio] (AuthorizationPolicy objects, as istiod would translate them), connections by [Conns], and by [Requests] the
// requests that are aimed at a set: the constants of its policies, and what is one step beside them.
//
// The same seed makes the same pairs.
package gen
