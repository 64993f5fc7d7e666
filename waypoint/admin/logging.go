package admin

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// loggingPage answers POST /logging (contract A5): shows the levels after what the parameter changes.
func (s *Server) loggingPage(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", plainText)
	changes, err := logChanges(r.URL.Query())
	if err == nil {
		err = s.loggers.set(changes)
	}
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprintf(w, "error: %v\n\n", err)
		_, _ = fmt.Fprint(w, "usage: /logging?<name>=<level> (change single level)\n",
			"usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\n",
			"usage: /logging?level=<level> (change all levels)\n",
			"usage: /logging (show current levels)\n")
		return
	}
	if len(changes) > 0 {
		s.log.Info("log levels changed", "by", r.URL.RawQuery)
	}
	_, _ = fmt.Fprint(w, s.loggers.String())
}

// logChanges reads the one parameter.
func logChanges(q url.Values) ([]setting, error) {
	if len(q) > 1 {
		return nil, errors.New("only one parameter is allowed")
	}
	for key, values := range q {
		value := values[len(values)-1]
		switch key {
		case "level":
			return []setting{{"", value}}, nil
		case "paths":
			var out []setting
			for item := range strings.SplitSeq(value, ",") {
				name, level, ok := strings.Cut(item, ":")
				if !ok || name == "" {
					return nil, fmt.Errorf("%q is not name:level", item)
				}
				out = append(out, setting{name, level})
			}
			return out, nil
		case "":
			return nil, errors.New("a logger without a name")
		default:
			return []setting{{key, value}}, nil
		}
	}
	return nil, nil
}
