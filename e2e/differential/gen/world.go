package gen

import (
	"math/rand/v2"
)

// World makes random things over a small vocabulary, so that policies and requests meet.
type World struct{ *rand.Rand }

// New returns the world of a seed. Streams of one seed are independent of each other.
func New(seed, stream uint64) World { return World{rand.New(rand.NewPCG(seed, stream))} }

// oneIn is true once in n times.
func (w World) oneIn(n int) bool { return w.IntN(n) == 0 }

func pick[T any](w World, from []T) T { return from[w.IntN(len(from))] }

// some calls make between lo and hi times.
func some[T any](w World, lo, hi int, element func() T) []T {
	all := make([]T, 0, hi)
	for range lo + w.IntN(hi-lo+1) {
		all = append(all, element())
	}
	return all
}

// kind is the kind of a text: what it stands for in a request.
type kind uint8

const (
	headerValue kind = iota
	method
	host
	path
	principal
	serverName
	claim
	subject
	kinds
)

// words are what the policies of the world talk about.
var words = [kinds][]string{
	headerValue: {"a", "b", "ab", "admin", "Admin", "guest", "guest,admin", "a,b", "", "1", "2", "10", "-1", "+3", "a b", "é", "x=1; y=2", "*", "[a]", "a.b"},
	method:      {"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "get", "Post", "PURGE", "G"},
	host: {"example.com", "shop.example.com", "example.com:8080", "EXAMPLE.com", "example.com.", "localhost", "10.0.0.1", "10.0.0.1:80",
		"[2001:db8::1]", "[2001:db8::1]:80", "shop.ns.svc.cluster.local", "shop", "xn--bcher-kva.example", "a_b.example:0080"},
	path: {"/", "/admin", "/Admin", "/admin/", "/admin/users", "/public", "/public/index.html", "/api/v1/items/1", "/api/v1", "/a/b/c", "/x.html",
		"/%61dmin", "/a%2fb", "/a b", "/a=b", "/é", "*", "/api/v1/", "/files/a.b/c~d", "/a//b", "/%2e%2e"},
	principal: {"spiffe://cluster.local/ns/shop/sa/web", "spiffe://cluster.local/ns/shop/sa/api", "spiffe://cluster.local/ns/default/sa/web",
		"spiffe://td.example/ns/shop/sa/web", "spiffe://clusterXlocal/ns/shop/sa/web", "spiffe://td.example/r/eu/ns/shop/x/sa/web/y",
		"spiffe://cluster.local/ns/shop-2/sa/web.v2", "spiffe://cluster.local", "cluster.local/ns/shop/sa/web", "spiffe://é/ns/a b/sa/c"},
	serverName: {"example.com", "shop.example.com", "EXAMPLE.com", "a.b", "xn--bcher-kva.example"},
	claim:      {"https://issuer.example", "issuer", "subject", "a", "b", "admin", "https://issuer.example/x", "read write", "", "é"},
	subject:    {"CN=web,O=shop", "CN=api", "web.example.com", "spiffe://cluster.local/ns/shop/sa/web", "O=shop"},
}

// HeaderNames that policies ask for. Of the latter half, Envoy joins repeated lines into one, or answers with a pseudo-header.
var headerNames = []string{
	"x-a", "x-b", "X-Role", "x-a", "x-b", "x_role", "cookie", "x-envoy-like",
	"user-agent", "accept", "Authorization", "origin", ":authority", ":path", ":method", ":scheme", "host",
}

// word is a constant for a policy: a word, or a piece of one.
func (w World) word(k kind) string {
	s := pick(w, words[k])
	if w.oneIn(4) && len(s) > 1 {
		from := w.IntN(len(s))
		s = valid(s[from : from+1+w.IntN(len(s)-from)])
	}
	return s
}

// nonEmpty is a word that is not empty: some fields of the API must not be.
func (w World) nonEmpty(k kind) string {
	for {
		if s := w.word(k); s != "" {
			return s
		}
	}
}
