package config

import (
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

// However the resources came to be what they are, with what is said to have changed or without, the outcome is that of a first
// Compile of them.
func TestHistoryDoesNotMatter(t *testing.T) {
	base := samples(t)
	r := rand.New(rand.NewPCG(1, 2))
	res := Resources{Listeners: maps.Clone(base.Listeners), Clusters: maps.Clone(base.Clusters), Endpoints: maps.Clone(base.Endpoints)}
	told, untold := New(doubles()), New(doubles())
	told.Compile(res)
	untold.Compile(res)
	for step := range 300 {
		typeURL := []string{TypeListener, TypeCluster, TypeEndpoint}[r.IntN(3)]
		set, full := res.Of(typeURL, false), base.Of(typeURL, false)
		names := slices.Sorted(maps.Keys(full))
		name := names[r.IntN(len(names))]
		switch r.IntN(3) {
		case 0:
			delete(set, name)
		case 1:
			set[name] = full[name]
		case 2:
			set[name] = Resource{Raw: full[name].Raw[:r.IntN(len(full[name].Raw))]}
		}
		a, ra := told.CompileChanged(res, Changes{typeURL: {name}})
		b, rb := untold.Compile(res)
		c, rc := New(doubles()).Compile(res)
		if dump(a) != dump(c) || dump(b) != dump(c) {
			t.Fatalf("step %d, %s %s: the program differs:\n%s\n%s", step, typeURL, name, firstDifference(dump(c), dump(a)), firstDifference(dump(c), dump(b)))
		}
		for _, x := range []*Report{ra, rb} {
			if x.Counts != rc.Counts || !reflect.DeepEqual(x.Entries, rc.Entries) || !reflect.DeepEqual(x.Refusals, rc.Refusals) || !reflect.DeepEqual(x.Notes, rc.Notes) {
				t.Fatalf("step %d, %s %s: the report differs:\n%s", step, typeURL, name, firstDifference(dumpReport(rc), dumpReport(x)))
			}
		}
		if !slices.Equal(told.EDSNames(), untold.EDSNames()) || !slices.Equal(told.SecretNames(), untold.SecretNames()) {
			t.Fatalf("step %d: names differ", step)
		}
	}
}
