package admin

import (
	"net"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// parseAddress turns an address as it is displayed into a proto: "10.0.0.1:80", "[::1]:80", "envoy://listener/endpoint-id"; anything
// else is taken for the path of a pipe.
func parseAddress(display string) *corev3.Address {
	if internal, ok := strings.CutPrefix(display, "envoy://"); ok {
		listener, id, _ := strings.Cut(internal, "/")
		return &corev3.Address{Address: &corev3.Address_EnvoyInternalAddress{EnvoyInternalAddress: &corev3.EnvoyInternalAddress{
			AddressNameSpecifier: &corev3.EnvoyInternalAddress_ServerListenerName{ServerListenerName: listener}, EndpointId: id,
		}}}
	}
	host, port, err := net.SplitHostPort(display)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || perr != nil {
		return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: display}}}
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(n)},
	}}}
}
