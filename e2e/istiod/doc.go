// Package istiod compares what authz/istio makes of policies with what istiod makes of them, for each line of Istio that
// authz/istio knows.
//
// Package builder asks istiod's code. The line of e2e's go.mod is asked in this process; an older line cannot be linked
// beside it, so builder/cmd is built with the requirements in istio-<line>.mod and asked over its standard input and output:
// the source is the same.
//
// testdata/corpus holds the policies, in files by theme. Each of them is compared alone, in several meshes and for both
// kinds of chain, and then thousands of times together with others.
//
// To move a line to another commit of Istio, or to add one:
//
//	go get -modfile=istiod/istio-1.27.mod istio.io/istio@COMMIT
//	go list -modfile=istiod/istio-1.27.mod -mod=mod -tags istio127 -deps ./istiod/builder/cmd
//
// in e2e, and nothing else: go mod tidy would see the rest of e2e. GONOSUMDB=istio.io/* may be needed then, not later.
package istiod
