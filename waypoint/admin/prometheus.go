package admin

import (
	"bufio"
	"bytes"
	"net/http"
	"regexp"
	"strings"
)

// prometheusHandler answers on 15090: the proxy's metrics and nothing else.
func (s *Server) prometheusHandler() http.Handler {
	h := s.filtered(s.src.Registry.ProxyHandler())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if squeeze(r.URL.Path) != "/stats/prometheus" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// filtered adds the parameter filter, a regular expression that a series has to match somewhere in "name{labels}". (Envoy matches
// its own dotted names, which Istio's metrics do not have here.) The other parameters change nothing: every series here has been
// used, and there are no text readouts.
func (s *Server) filtered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text := r.URL.Query().Get("filter")
		if text == "" {
			next.ServeHTTP(w, r)
			return
		}
		re, err := regexp.Compile(text)
		if err != nil {
			http.Error(w, "filter: "+err.Error(), http.StatusBadRequest)
			return
		}
		plain := r.Clone(r.Context())
		plain.Header.Del("Accept-Encoding") // filtered first, and then too small to be worth it
		c := &capture{header: w.Header()}
		next.ServeHTTP(c, plain)
		_, _ = w.Write(filterSeries(c.body.Bytes(), re))
	})
}

// filterSeries keeps the series that match, and the "# TYPE" lines of families that have any left.
func filterSeries(text []byte, re *regexp.Regexp) []byte {
	var out bytes.Buffer
	var comments []string
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, len(text)+1) // a line is never longer than all
	after := false                 // the last line was a series
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "#") {
			if after {
				comments = nil
			}
			comments, after = append(comments, line), false
			continue
		}
		after = true
		series := line[:max(strings.LastIndexByte(line, ' '), 0)]
		if !re.MatchString(series) {
			continue
		}
		for _, c := range comments {
			out.WriteString(c + "\n")
		}
		comments = nil
		out.WriteString(line + "\n")
	}
	return out.Bytes()
}

// capture keeps a handler's answer.
type capture struct {
	header http.Header
	body   bytes.Buffer
}

func (c *capture) Header() http.Header         { return c.header }
func (c *capture) Write(b []byte) (int, error) { return c.body.Write(b) }
func (c *capture) WriteHeader(int)             {} // the metrics handlers answer 200
