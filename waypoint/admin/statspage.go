package admin

import (
	"net/http"
	"regexp"
)

// statsPage answers /stats. usedonly changes nothing: a stat is made when it is first used. Istio's metrics have labels and appear
// in the Prometheus format only.
func (s *Server) statsPage(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("format") == "prometheus" {
		s.filtered(s.src.Registry.ProxyHandler()).ServeHTTP(w, r)
		return
	}
	var keep func(string) bool
	if f := q.Get("filter"); f != "" {
		re, err := regexp.Compile(f)
		if err != nil {
			http.Error(w, "filter: "+err.Error(), http.StatusBadRequest)
			return
		}
		keep = re.MatchString
	}
	write := s.src.Registry.Stats.WriteText
	contentType := plainText
	switch format := q.Get("format"); format {
	case "", "text":
	case "json":
		write, contentType = s.src.Registry.Stats.WriteJSON, jsonText
	default:
		http.Error(w, "format "+format+" is not known; usage: /stats?format=(text|json|prometheus)", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", contentType)
	_ = write(w, keep) // fails only if the client has gone
}
