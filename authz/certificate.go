package authz

import (
	"fmt"
	"strconv"
	"strings"
	"unsafe"
)

// certificate tests the names of the peer's certificate. A peer of whom no name is known may have a certificate without
// names, or none: that there is one is then possible.
func (e *evaluation) certificate(c *Certificate, r reading) bool {
	peer := e.request.Peer
	if peer == nil {
		return false
	}
	if c.Names == AnyName {
		return r == possibly || len(peer.URISANs) > 0 || len(peer.DNSSANs) > 0 || peer.Subject != ""
	}
	var room [1]string
	names := peer.names(c.Names, &room)
	if c.Joined && len(names) > 1 {
		return e.text(func(b []byte) []byte {
			for i, name := range names {
				if i > 0 {
					b = append(b, ',')
				}
				b = append(b, name...)
			}
			return b
		}, &c.Pattern, r)
	}
	for _, name := range names {
		if c.Host != "" {
			if hostHasName(c.Host, name) {
				return true
			}
		} else if c.Pattern.match(name, r) {
			return true
		}
	}
	return false
}

// names returns those of one kind. An empty subject is none; room is where a subject is put, so that it is not allocated.
func (p *Peer) names(which CertificateNames, room *[1]string) []string {
	switch {
	case which == URINames:
		return p.URISANs
	case which == DNSNames:
		return p.DNSSANs
	case p.Subject != "":
		room[0] = p.Subject
		return room[:]
	}
	return nil
}

// hostHasName compares a host in lower case with a DNS name from a certificate, of which the first label may hold one "*".
// As in Envoy, letters are compared without case, and an A-label ("xn--…") holds no wildcard.
func hostHasName(host, name string) bool {
	if equalFold(name, host) {
		return true
	}
	label, domain, ok := strings.Cut(host, ".")
	pattern, of, wild := strings.Cut(name, ".")
	if !ok || !wild || !equalFold(of, domain) || len(pattern) >= 4 && equalFold(pattern[:4], "xn--") {
		return false
	}
	head, tail, ok := strings.Cut(pattern, "*")
	if !ok || strings.Contains(tail, "*") || len(head)+len(tail) > len(label) {
		return false
	}
	return equalFold(head, label[:len(head)]) && equalFold(tail, label[len(label)-len(tail):])
}

func equalFold(v, lower string) bool { return len(v) == len(lower) && equalFoldASCII(v, lower) }

// addressText tests the text of an address or of the destination's port. One that is not known possibly matches. An IPv4 address
// in IPv6 form is read as it is written, and possibly as IPv4: see within.
func (e *evaluation) addressText(c *AddressText, r reading) bool {
	addr := e.address(c.Of).WithZone("")
	if !addr.IsValid() {
		return r == possibly
	}
	if c.Port {
		port := e.request.Destination.Port()
		return e.text(func(b []byte) []byte { return strconv.AppendUint(b, uint64(port), 10) }, &c.Pattern, r)
	}
	return e.text(addr.AppendTo, &c.Pattern, r) ||
		r == possibly && addr.Is4In6() && e.text(addr.Unmap().AppendTo, &c.Pattern, r)
}

// text tests what appendText writes, without making a string of it.
func (e *evaluation) text(appendText func([]byte) []byte, p *Pattern, r reading) bool {
	buf := e.set.texts.Get().(*[]byte)
	defer e.set.texts.Put(buf)
	b := appendText((*buf)[:0])
	*buf = b
	// No copy: the test does not keep the string, and the buffer is not written until it goes back to the pool.
	return p.match(unsafe.String(unsafe.SliceData(b), len(b)), r)
}

func (e *evaluation) describeCertificate(c *Certificate) Reason {
	kind := [...]string{AnyName: "", URINames: " URI names", DNSNames: " DNS names", Subject: " subject"}[c.Names]
	x := Reason{Attribute: "TLS peer's certificate" + kind, Wanted: c.Pattern.String(), Got: "no TLS"}
	switch {
	case c.Names == AnyName:
		x.Wanted = "verified"
	case c.Host != "":
		x.Wanted = "a name of host " + strconv.Quote(c.Host)
	}
	peer := e.request.Peer
	if peer == nil {
		return x
	}
	if c.Names == AnyName {
		x.Got = e.describePeer(&Authenticated{}).Got
		return x
	}
	x.Got = "none"
	if names := peer.names(c.Names, &[1]string{}); len(names) > 0 {
		x.Got = fmt.Sprintf("%q", names)
	}
	return x
}

// String names the address in explanations.
func (a Address) String() string {
	return [...]string{SourceIP: "source", DirectRemoteIP: "direct remote", RemoteIP: "remote", DestinationIP: "destination"}[a]
}
