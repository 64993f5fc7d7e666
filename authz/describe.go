package authz

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"
)

// describe says what a leaf wants and what there is.
func (e *evaluation) describe(c Clause) Reason {
	switch c := c.(type) {
	case Always:
		return Reason{Attribute: "any", Wanted: "anything", Got: "a request"}
	case *Header:
		return Reason{Attribute: "header " + c.Name, Wanted: c.wanted(), Got: e.headerValues(c.Name)}
	case *Path:
		return Reason{Attribute: "path", Wanted: c.Pattern.String(), Got: quoteIf(e.urlPath())}
	case *URITemplate:
		return Reason{Attribute: "path", Wanted: "template " + c.Template.String(), Got: quoteIf(e.urlPath())}
	case *IP:
		return Reason{Attribute: c.Of.String() + " address", Wanted: c.Range.String(), Got: e.addressGot(c.Of)}
	case *DestinationPort:
		wanted := strconv.FormatUint(uint64(c.From), 10)
		if c.To != c.From+1 {
			wanted = fmt.Sprintf("from %d to below %d", c.From, c.To)
		}
		return Reason{Attribute: "destination port", Wanted: wanted, Got: e.portGot()}
	case *AddressText:
		if c.Port {
			return Reason{Attribute: "destination port", Wanted: c.Pattern.String(), Got: e.portGot()}
		}
		return Reason{Attribute: c.Of.String() + " address", Wanted: c.Pattern.String(), Got: e.addressGot(c.Of)}
	case *ServerName:
		return Reason{Attribute: "server name", Wanted: c.Pattern.String(), Got: strconv.Quote(e.request.ServerName)}
	case *Authenticated:
		return e.describePeer(c)
	case *Certificate:
		return e.describeCertificate(c)
	case *FilterStateIs:
		v, ok := e.filterState(c.Key)
		return Reason{Attribute: "filter state " + c.Key, Wanted: c.Pattern.String(), Got: quoteIf(v, ok)}
	case *FilterStateIP:
		v, ok := e.filterState(c.Key)
		wanted := fmt.Sprint("in ", c.Ranges)
		if c.Invert {
			wanted = "not " + wanted
		}
		return Reason{Attribute: "filter state " + c.Key, Wanted: wanted, Got: quoteIf(v, ok)}
	case *MetadataIs:
		wanted := wantedValue(c.Value)
		if c.Invert {
			wanted = "not " + wanted
		}
		return Reason{Attribute: "metadata " + c.Filter + " " + strings.Join(c.Path, "."), Wanted: wanted, Got: valueString(e.metadataValue(c))}
	}
	return Reason{Attribute: fmt.Sprintf("%T", c), Wanted: "a known clause", Got: "an unknown one"}
}

func (e *evaluation) describePeer(c *Authenticated) Reason {
	f := Reason{Attribute: "TLS peer", Wanted: "any certificate", Got: "none"}
	if c.Pattern != nil {
		f.Wanted = c.Pattern.String()
	}
	if peer := e.request.Peer; peer != nil {
		f.Got = fmt.Sprintf("%q", append(slices.Concat(peer.URISANs, peer.DNSSANs), peer.Subject))
	}
	return f
}

func (e *evaluation) addressGot(of Address) string {
	if addr := e.address(of); addr.IsValid() {
		return addr.String()
	}
	return "unknown"
}

func (e *evaluation) portGot() string {
	if e.request.Destination.Addr().IsValid() {
		return strconv.Itoa(int(e.request.Destination.Port()))
	}
	return "unknown"
}

func (e *evaluation) headerValues(name string) string {
	var all []string
	for i := 0; ; i++ {
		v, ok := e.request.header(name, i)
		if !ok {
			break
		}
		all = append(all, strconv.Quote(v))
	}
	if all == nil {
		return "absent"
	}
	return strings.Join(all, " and ")
}

func (h *Header) wanted() string {
	var s string
	switch h.Test {
	case HeaderPresent:
		if h.Present != h.Invert {
			return "present"
		}
		return "absent"
	case HeaderInRange:
		s = fmt.Sprintf("from %d to below %d", h.From, h.To)
	default:
		s = h.Pattern.String()
	}
	if h.Invert {
		s = "present and not " + s
	}
	return s
}

func wantedValue(t ValueTest) string {
	switch t := t.(type) {
	case *ValueString:
		return t.Pattern.String()
	case *ValueNumber:
		return fmt.Sprintf("from %v to below %v", t.From, t.To)
	case ValueNumberExact:
		return fmt.Sprint(float64(t))
	case ValueBool:
		return fmt.Sprint(bool(t))
	case ValueNull:
		return "null"
	case ValuePresent:
		return "present"
	case *ValueListHas:
		return "a list with " + wantedValue(t.Element)
	case ValueAnyOf:
		var all []string
		for _, test := range t {
			all = append(all, wantedValue(test))
		}
		return strings.Join(all, " or ")
	}
	return "a known test"
}

// valueString renders a metadata value in one line of JSON-like text that does not change between runs, as protojson's
// spacing does.
func valueString(v *structpb.Value) string {
	if v.GetKind() == nil {
		return "absent"
	}
	if s, ok := v.GetKind().(*structpb.Value_StringValue); ok {
		return strconv.Quote(s.StringValue)
	}
	if _, ok := v.GetKind().(*structpb.Value_NullValue); ok {
		return "null"
	}
	return fmt.Sprint(v.AsInterface())
}

func quoteIf(s string, ok bool) string {
	if !ok {
		return "absent"
	}
	return strconv.Quote(s)
}
