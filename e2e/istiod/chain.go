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

// difference describes how our chain differs from istiod's, "" if it does not. Filters are compared by name and, since the
// order of a map's keys on the wire is no difference, as messages.
func difference(istiod, ours []builder.Filter) (string, error) {
	want, err := messages(istiod)
	if err != nil {
		return "", fmt.Errorf("istiod's: %w", err)
	}
	got, err := messages(ours)
	if err != nil {
		return "", fmt.Errorf("ours: %w", err)
	}
	equal := len(want) == len(got)
	for i := 0; equal && i < len(want); i++ {
		equal = istiod[i].Name == ours[i].Name && proto.Equal(want[i], got[i])
	}
	if equal {
		return "", nil
	}
	return fmt.Sprintf("- istiod: %s\n+ ours:   %s\n%s", list(istiod), list(ours), cmp.Diff(want, got, protocmp.Transform())), nil
}

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
		out = append(out, m)
	}
	return out, nil
}

func list(filters []builder.Filter) string {
	var names []string
	for _, f := range filters {
		names = append(names, f.Name)
	}
	return "[" + strings.Join(names, " ") + "]"
}
