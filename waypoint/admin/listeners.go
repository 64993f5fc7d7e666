package admin

import (
	"fmt"
	"net/http"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
)

// listenersPage answers /listeners: name::address lines, or envoy.admin.v3.Listeners with ?format=json. Besides the listeners that
// came by xDS it has the health and metrics ports, which are static listeners in Envoy.
func (s *Server) listenersPage(w http.ResponseWriter, r *http.Request) {
	type bound struct {
		name      string
		addresses []string
	}
	var all []bound
	for _, i := range []int{healthPort, prometheusPort} {
		if a := s.addr(i); a != nil {
			all = append(all, bound{portNames[i], []string{a.String()}})
		}
	}
	for _, l := range s.src.Listeners() {
		b := bound{name: l.Name}
		for _, a := range l.Addresses {
			b.addresses = append(b.addresses, a.String())
		}
		all = append(all, b)
	}
	if r.URL.Query().Get("format") != "json" {
		w.Header().Set("Content-Type", plainText)
		for _, l := range all {
			for _, a := range l.addresses {
				_, _ = fmt.Fprintf(w, "%s::%s\n", l.name, a)
			}
		}
		return
	}
	out := &adminv3.Listeners{}
	for _, l := range all {
		status := &adminv3.ListenerStatus{Name: l.name}
		for i, a := range l.addresses {
			if i == 0 {
				status.LocalAddress = parseAddress(a)
			} else {
				status.AdditionalLocalAddresses = append(status.AdditionalLocalAddresses, parseAddress(a))
			}
		}
		out.ListenerStatuses = append(out.ListenerStatuses, status)
	}
	s.writeJSON(w, out)
}
