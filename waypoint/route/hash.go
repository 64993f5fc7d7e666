package route

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/message"

	"github.com/cespare/xxhash/v2"
)

// Hash is the request's hash for RING_HASH and MAGLEV: of what the policies name, combined as Envoy combines them, so that two
// proxies pick the same endpoint. false: no policy found anything, and the balancer should pick as if there were none. A
// cookie that is missing counts as nothing here; see [Forward.HashWithCookie].
func (f *Forward) Hash(h *message.Head, source netip.Addr) (uint64, bool) {
	return f.HashWithCookie(h, source, nil)
}

// HashWithCookie is [Forward.Hash] that asks newCookie for the value of a cookie which the client does not have and the policy
// wants made. The caller sends it with the response, as [HashPolicy.SetCookie] writes it.
func (f *Forward) HashWithCookie(h *message.Head, source netip.Addr, newCookie func(*HashPolicy) string) (uint64, bool) {
	var hash uint64
	found := false
	for i := range f.HashPolicies {
		p := &f.HashPolicies[i]
		if v, ok := p.hash(h, source, newCookie); ok {
			// Turning the old value keeps two equal policies from cancelling each other out.
			hash = (hash<<1 | hash>>63) ^ v
			found = true
		}
		if p.Terminal && found {
			break
		}
	}
	return hash, found
}

// HashAddress is the hash of a source address: of its text, as in Envoy.
func HashAddress(a netip.Addr) uint64 { return xxhash.Sum64String(a.Unmap().WithZone("").String()) }

func (p *HashPolicy) hash(h *message.Head, source netip.Addr, newCookie func(*HashPolicy) string) (uint64, bool) {
	switch {
	case p.Header != "":
		return p.hashHeader(h)
	case p.Query != "":
		v, ok := queryParameter(h.Path, p.Query)
		return xxhash.Sum64String(v), ok
	case p.SourceIP:
		if !source.IsValid() {
			return 0, false
		}
		return HashAddress(source), true
	default:
		v, _ := cookie(h, p.Cookie)
		if v == "" && p.CookieTTL != nil && newCookie != nil {
			v = newCookie(p)
		}
		return xxhash.Sum64String(v), v != ""
	}
}

// hashHeader hashes the lines of a field in sorted order, each with the hash of those before it as its seed.
func (p *HashPolicy) hashHeader(h *message.Head) (uint64, bool) {
	var memory [4]string
	values := memory[:0]
	for i := 0; ; i++ {
		v, ok := h.Nth(p.Header, i)
		if !ok {
			break
		}
		if p.HeaderRewrite != nil {
			v = p.HeaderRewrite.replace(v)
		}
		values = append(values, v)
	}
	switch len(values) {
	case 0:
		return 0, false
	case 1:
		return xxhash.Sum64String(values[0]), true
	}
	slices.Sort(values)
	var hash uint64
	for _, v := range values {
		d := xxhash.NewWithSeed(hash)
		_, _ = d.WriteString(v) // a Digest never fails
		hash = d.Sum64()
	}
	return hash, true
}

// CookieValue is the value of a new affinity cookie. Like Envoy's it is the same for all requests of a connection, so that
// requests which race on it agree.
func CookieValue(remote, local netip.AddrPort) string {
	return fmt.Sprintf("%016x", xxhash.Sum64String(remote.String()+local.String()))
}

// SetCookie is the Set-Cookie field that gives the client a value for the policy's cookie.
func (p *HashPolicy) SetCookie(value string) string {
	var b strings.Builder
	b.WriteString(p.Cookie + `="` + value + `"`)
	if p.CookieTTL != nil && *p.CookieTTL >= time.Second {
		b.WriteString("; Max-Age=" + strconv.FormatInt(int64(*p.CookieTTL/time.Second), 10))
	}
	if p.CookiePath != "" {
		b.WriteString("; Path=" + p.CookiePath)
	}
	b.WriteString(p.CookieAttributes)
	b.WriteString("; HttpOnly")
	return b.String()
}
