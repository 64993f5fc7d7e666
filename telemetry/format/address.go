package format

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

type addressForm uint8

const (
	withPort addressForm = iota
	withoutPort
	onlyPort
)

func address(form addressForm, get func(*record) netip.AddrPort) operator {
	return func(dst []byte, r *record) ([]byte, kind) {
		a := get(r)
		switch {
		case !a.IsValid():
			return dst, absent
		case form == withoutPort:
			return a.Addr().AppendTo(dst), text
		case form == onlyPort:
			return strconv.AppendUint(dst, uint64(a.Port()), 10), literal
		}
		return a.AppendTo(dst), text
	}
}

// masked is an …_ADDRESS_WITHOUT_PORT operator: with an argument the address is cut to so many bits, "10.1.0.0/16". One that is
// no IP address prints as it is, or as nothing if it is to be cut.
func masked(get func(*record) netip.AddrPort, internal func(*record) string) func(part, Options) (operator, error) {
	return func(p part, _ Options) (operator, error) {
		bits := -1
		if p.hasArg {
			var err error
			if bits, err = strconv.Atoi(p.arg); err != nil || bits < 0 || bits > 128 {
				return nil, fmt.Errorf("argument %q: wanted the length of a prefix, 0 to 128", p.arg)
			}
		}
		plain := address(withoutPort, get)
		return func(dst []byte, r *record) ([]byte, kind) {
			if s := internal(r); s != "" {
				if bits < 0 {
					dst = append(dst, s...)
				}
				return dst, text
			}
			a := get(r)
			if bits < 0 || !a.IsValid() {
				return plain(dst, r)
			}
			prefix, err := a.Addr().Prefix(bits)
			if err != nil { // more bits than the address has
				return dst, absent
			}
			return prefix.AppendTo(dst), text
		}, nil
	}
}

func noInternal(*record) string { return "" }

func upstreamInternal(r *record) string {
	if r.UpstreamInternal() {
		return r.UpstreamHost
	}
	return ""
}

func upstreamRemote(r *record) netip.AddrPort { return r.UpstreamAddress }

func upstreamRemotePort(dst []byte, r *record) ([]byte, kind) {
	if r.UpstreamInternal() {
		return dst, absent
	}
	return address(onlyPort, upstreamRemote)(dst, r)
}

func upstreamLocal(r *record) netip.AddrPort { return r.UpstreamLocal }

func upstreamLocalInternal(r *record) string { return r.UpstreamLocalText }

func downstreamLocal(r *record) netip.AddrPort { return r.DownstreamLocal }

func downstreamRemote(r *record) netip.AddrPort { return r.DownstreamRemote }

func directRemote(r *record) netip.AddrPort {
	if r.DownstreamDirectRemote.IsValid() {
		return r.DownstreamDirectRemote
	}
	return r.DownstreamRemote
}

// endpointID is the part of an address inside of Envoy that names the endpoint: 10.1.2.3:8080 of
// envoy://connect_originate/10.1.2.3:8080. An IP address has none, which prints as empty text.
func endpointID(dst []byte, r *record) ([]byte, kind) {
	switch {
	case r.UpstreamHost == "":
		return dst, absent
	case r.UpstreamInternal():
		_, rest, _ := strings.Cut(r.UpstreamHost, "://")
		_, id, _ := strings.Cut(rest, "/")
		return append(dst, id...), text
	}
	return dst, text
}

// hostWithoutPort is the endpoint's name without its port.
func hostWithoutPort(dst []byte, r *record) ([]byte, kind) {
	if r.UpstreamHost == "" {
		return dst, absent
	}
	return append(dst, stripPort(r.UpstreamHost)...), text
}

// stripPort removes ":8080".
func stripPort(s string) string {
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		if _, err := strconv.ParseUint(s[i+1:], 10, 16); err == nil {
			return s[:i]
		}
	}
	return s
}

// attempted lists the endpoints of all attempts; ports may be left out of those that have an IP address.
func attempted(ports func(string) string) operator {
	return func(dst []byte, r *record) ([]byte, kind) {
		if r.UpstreamHost == "" {
			return dst, absent
		}
		for h := range strings.SplitSeq(r.EarlierHosts, ",") {
			if h != "" {
				dst = append(append(dst, ports(h)...), ',')
			}
		}
		return append(dst, ports(r.UpstreamHost)...), text
	}
}

func asIs(s string) string { return s }

// ipWithoutPort leaves addresses inside of Envoy as they are.
func ipWithoutPort(s string) string {
	if a, err := netip.ParseAddrPort(s); err == nil {
		return a.Addr().String()
	}
	return s
}
