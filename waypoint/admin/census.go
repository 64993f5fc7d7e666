package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"text/tabwriter"

	"github.com/gowaypoint/gowaypoint/waypoint/config"
)

// censusPage answers /census: what is set in the configuration in force and not honoured, parts that serve nobody, remarks, and
// settings of the start that have no effect; with ?format=json as JSON.
func (s *Server) censusPage(w http.ResponseWriter, r *http.Request) {
	c := s.census()
	if r.URL.Query().Get("format") == "json" {
		b, err := json.MarshalIndent(c, "", indent)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", jsonText)
		_, _ = w.Write(append(b, '\n'))
		return
	}
	w.Header().Set("Content-Type", plainText)
	c.write(w)
}

// census is the page's content; its JSON names are an interface.
type census struct {
	Counts   map[string]int   `json:"counts"` // fields set, by class
	Fields   []censusField    `json:"fields"`
	Refusals []censusRefusal  `json:"refusals"`
	Notes    []censusNote     `json:"notes"`
	Settings []censusSettings `json:"settings"`
}

type censusField struct {
	Class    string `json:"class"`
	Path     string `json:"path"`
	Why      string `json:"why"`
	Count    int    `json:"count"`
	Resource string `json:"resource"`
	Example  string `json:"example"`
}

type censusRefusal struct {
	Resource string `json:"resource"`
	Reason   string `json:"reason"`
}

type censusNote struct {
	Resource string `json:"resource"`
	Text     string `json:"text"`
}

type censusSettings struct {
	Setting string `json:"setting"`
	Value   string `json:"value"`
	Why     string `json:"why"`
	Loud    bool   `json:"loud"` // traffic, policy or secrets are affected
}

func (s *Server) census() *census {
	rep := s.src.Report()
	c := &census{
		Counts: map[string]int{}, Fields: []censusField{}, Refusals: []censusRefusal{}, Notes: []censusNote{}, Settings: []censusSettings{},
	}
	for class, n := range rep.Counts {
		c.Counts[config.Class(class).String()] = n //nolint:gosec // an index of a short array
	}
	for _, e := range rep.Entries {
		c.Fields = append(c.Fields, censusField{e.Class.String(), e.Path, e.Why, e.Count, e.Resource, e.Example})
	}
	for _, r := range rep.Refusals {
		c.Refusals = append(c.Refusals, censusRefusal(r))
	}
	for _, n := range rep.Notes {
		c.Notes = append(c.Notes, censusNote(n))
	}
	for _, r := range s.src.Settings {
		c.Settings = append(c.Settings, censusSettings{r.Field, r.Value, r.Why, r.Loud})
	}
	return c
}

func (c *census) write(w http.ResponseWriter) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(t, format+"\n", args...) }
	line("fields set in the configuration in force:")
	for class := config.Honoured; class <= config.Refused; class++ {
		line("  %s\t%d", class, c.Counts[class.String()])
	}
	line("\nfields not honoured: %d", len(c.Fields))
	if len(c.Fields) > 0 {
		line("  CLASS\tCOUNT\tFIELD\tWHY\tRESOURCE\tEXAMPLE")
	}
	for _, f := range c.Fields {
		line("  %s\t%d\t%s\t%s\t%s\t%s", f.Class, f.Count, f.Path, f.Why, f.Resource, f.Example)
	}
	line("\nparts that serve nobody: %d", len(c.Refusals))
	for _, r := range c.Refusals {
		line("  %s\t%s", r.Resource, r.Reason)
	}
	line("\nnotes: %d", len(c.Notes))
	for _, n := range c.Notes {
		line("  %s\t%s", n.Resource, n.Text)
	}
	line("\nsettings without their effect: %d", len(c.Settings))
	for _, s := range c.Settings {
		line("  %s\t%s\t%s", s.Setting, s.Value, s.Why)
	}
	_ = t.Flush() // fails only if the client has gone
}
