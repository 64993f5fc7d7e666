package admin

import (
	"bufio"
	"net/http"
	"regexp"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// configDumpPage answers /config_dump. Its parameters are Envoy's:
//
//	mask=a,b        only these fields; sections that do not have all of them are left out
//	resource=field  the elements of this repeated field, instead of sections; mask then applies to each of them
//	include_eds     (its mere presence) the endpoints as well
//	name_regex=re   only resources whose name matches as a whole
func (s *Server) configDumpPage(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	names, err := nameFilter(q.Get("name_regex"))
	if err != nil {
		http.Error(w, "Error while parsing name_regex: "+err.Error(), http.StatusBadRequest)
		return
	}
	var configs []proto.Message
	var fail *dumpError
	switch sections := s.sections(names, q.Has("include_eds")); {
	case q.Get("resource") != "":
		configs, fail = elements(sections, q.Get("resource"), q.Get("mask"))
	case q.Get("mask") != "":
		configs, fail = masked(sections, q.Get("mask"))
	default:
		for _, sec := range sections {
			configs = append(configs, sec.build())
		}
	}
	if fail != nil {
		http.Error(w, fail.text, fail.status)
		return
	}
	w.Header().Set("Content-Type", jsonText)
	b := bufio.NewWriter(w)
	if err := writeDump(b, configs); err != nil {
		s.log.Error("config_dump is incomplete", "error", err)
	}
	_ = b.Flush() // fails only if the client has gone
}

// nameFilter compiles name_regex, which has to match the whole name; nil keeps all.
func nameFilter(re string) (func(name string) bool, error) {
	if re == "" {
		return func(string) bool { return true }, nil
	}
	compiled, err := regexp.Compile(`^(?:` + re + `)$`)
	if err != nil {
		return nil, err
	}
	return compiled.MatchString, nil
}

// dumpError is an answer other than 200.
type dumpError struct {
	status int
	text   string
}

// masked keeps the sections that have every path of the mask, and of these what the mask names.
func masked(sections []section, text string) ([]proto.Message, *dumpError) {
	m := parseMask(text)
	var kept []proto.Message
	for _, sec := range sections {
		if m.fits(sec.kind) {
			c := sec.build()
			m.trim(c.ProtoReflect())
			kept = append(kept, c)
		}
	}
	if len(kept) == 0 {
		return nil, &dumpError{http.StatusBadRequest, "FieldMask " + text + " could not be successfully applied to any configs."}
	}
	return kept, nil
}

// elements returns the elements of the repeated field, from the first section that has it.
func elements(sections []section, field, mask string) ([]proto.Message, *dumpError) {
	has := func(sec section) bool { return sec.kind.Fields().ByName(protoreflect.Name(field)) != nil }
	i := slices.IndexFunc(sections, has)
	if i < 0 {
		return nil, &dumpError{http.StatusNotFound, field + " not found in config dump"}
	}
	fd := sections[i].kind.Fields().ByName(protoreflect.Name(field))
	if !fd.IsList() || fd.Message() == nil {
		return nil, &dumpError{http.StatusBadRequest, field + " is not a repeated field. Use ?mask=" + field + " to get only this field"}
	}
	list := sections[i].build().ProtoReflect().Get(fd).List()
	out := make([]proto.Message, list.Len())
	for i := range out {
		e := list.Get(i).Message()
		if mask != "" && !parseMask(mask).trimResource(e) {
			return nil, &dumpError{http.StatusBadRequest, "FieldMask " + mask + " could not be successfully used."}
		}
		out[i] = e.Interface()
	}
	return out, nil
}
