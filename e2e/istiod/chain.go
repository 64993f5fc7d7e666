package istiod

import (
	"fmt"
	"strings"

	"github.com/google/go-cmp/cmp"
	"github.com/gowaypoint/gowaypoint/e2e/istiod/builder"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"
)

// messages unpacks the filters of a chain.
func messages(filters []builder.Filter) ([]proto.Message, error) {
	var out []proto.Message
	for _, f := range filters {
		var packed anypb.Any
		if err := proto.Unmarshal(f.Config, &packed); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		m, err := packed.UnmarshalNew()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		if unknown := m.ProtoReflect().GetUnknown(); len(unknown) > 0 {
			return nil, fmt.Errorf("%s: fields that this version of Envoy's API does not have", f.Name)
		}
		out = append(out, m)
	}
	return out, nil
}

// difference describes how two chains differ, "" if they do not.
func difference(want, got []proto.Message) string {
	equal := len(want) == len(got)
	for i := 0; equal && i < len(want); i++ {
		equal = proto.Equal(want[i], got[i])
	}
	if equal {
		return ""
	}
	var b strings.Builder
	b.WriteString(" -" + list(want) + "\n +" + list(got) + "\n")
	b.WriteString(cmp.Diff(want, got, protocmp.Transform()))
	return b.String()
}

func list(chain []proto.Message) string {
	var names []string
	for _, m := range chain {
		names = append(names, string(m.ProtoReflect().Descriptor().FullName()))
	}
	return "[" + strings.Join(names, " ") + "]"
}
