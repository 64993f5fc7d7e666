package istiod

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/gowaypoint/gowaypoint/e2e/istiod/builder"
)

// What istiod and we make of the corpus, on each line:
//
//   - each object alone, in meshes of other trust domains and providers, and where attachment matters in other places;
//   - what istiod's webhook refuses: an error of ours, too, and otherwise what istiod makes of it without its webhook;
//   - some thousand handfuls of objects together.
//
// Where one side takes an object and the other does not, that is listed in testdata/differences.
func TestParity(t *testing.T) {
	entries := corpus(t)
	for _, line := range Lines {
		t.Run(line.Name, func(t *testing.T) {
			t.Parallel()
			all := &questionnaire{corpus: entries, questions: alone(t, entries)}
			raw := &questionnaire{corpus: entries, questions: notValid(t, entries), unvalidated: true}
			mix := &questionnaire{corpus: entries, questions: together(t, entries, line, 3000)}
			responses, err := line.Ask(t.Context(), all.request(), raw.request(), mix.request())
			if err != nil {
				t.Fatal(err)
			}
			listed := newDifferences(line)
			t.Run("refused", func(t *testing.T) { refusals(t, line, all, responses[0], listed) })
			t.Run("alone", func(t *testing.T) { compare(t, line, all, responses[0], listed) })
			t.Run("not validated", func(t *testing.T) { compare(t, line, raw, responses[1], listed) })
			t.Run("together", func(t *testing.T) { compare(t, line, mix, responses[2], nil) })
			listed.check(t)
		})
	}
}

// alone asks about every object on its own: in each mesh, if that matters to it, and in each place, if attachment does.
func alone(t testing.TB, entries []*Entry) []Question {
	t.Helper()
	all := meshes(t)
	var out []Question
	for i, e := range entries {
		in, at := all[:1], places[:1]
		if slices.ContainsFunc([]string{"principals", "principal", "domains", "domain", "custom", "names", "lines", "targets", "structure", "invalid"},
			func(s string) bool { return e.File == s || strings.HasSuffix(e.File, "-"+s) }) {
			in = all
		}
		if strings.HasSuffix(e.File, "targets") {
			at = places
		}
		for _, m := range in {
			for _, p := range at {
				out = append(out, Question{Entries: []int{i}, Mesh: m, Place: p})
			}
		}
	}
	return out
}

// isInvalid tells whether an object is one that no istiod takes.
func isInvalid(e *Entry) bool { return strings.HasSuffix(e.File, "invalid") }

// notValid asks about the objects that at least one line refuses.
func notValid(t testing.TB, entries []*Entry) []Question {
	m := meshes(t)[0]
	var out []Question
	for i, e := range entries {
		if isInvalid(e) || e.File == "lines" {
			out = append(out, Question{Entries: []int{i}, Mesh: m, Place: places[0]})
		}
	}
	return out
}

// together asks about n random handfuls of the objects that we take for this line.
func together(t testing.TB, entries []*Entry, line Line, n int) []Question {
	all := meshes(t)
	random := rand.New(rand.NewPCG(1, uint64(line.Version)))
	var policies, custom, tokens []int
	one := &questionnaire{corpus: entries}
	for i, e := range entries {
		if isInvalid(e) {
			continue
		}
		if slices.ContainsFunc(all, func(m *Mesh) bool {
			_, err := one.ours(&Question{Entries: []int{i}, Mesh: m, Place: places[0]}, line.Version)
			return err != nil
		}) {
			continue
		}
		switch {
		case e.Kind == "RequestAuthentication":
			tokens = append(tokens, i)
		case e.File == "custom":
			custom = append(custom, i)
		default:
			policies = append(policies, i)
		}
	}
	var out []Question
	for range n {
		chosen := map[int]bool{}
		for count := 2 + random.IntN(5); len(chosen) < count; {
			from := policies
			switch random.IntN(8) { // the corpus has few with CUSTOM and few about tokens, and several of them have to meet
			case 0, 1:
				from = custom
			case 2:
				from = tokens
			}
			chosen[from[random.IntN(len(from))]] = true
		}
		q := Question{Mesh: all[random.IntN(len(all))], Place: places[0], MultipleProviders: random.IntN(2) == 0}
		if random.IntN(4) == 0 {
			q.Place = places[random.IntN(len(places))]
		}
		for i := range chosen {
			q.Entries = append(q.Entries, i)
		}
		slices.Sort(q.Entries)
		out = append(out, q)
	}
	return out
}

// refusals looks at what the line's istiod does not take.
func refusals(t *testing.T, line Line, q *questionnaire, response *builder.Response, listed *differences) {
	t.Helper()
	taken := 0
	for i, e := range q.corpus {
		why, refused := response.Refused[i]
		switch {
		case !refused && isInvalid(e):
			t.Errorf("%s is taken by istiod, and should not be", e)
		case !refused && e.Kind == "AuthorizationPolicy":
			taken++
		case refused && !isInvalid(e) && e.File != "lines" && (line.modfile == "" || !isNewer(e)):
			t.Errorf("%s is refused by istiod, and should not be: %s", e, why)
		}
		if !refused {
			continue
		}
		if _, err := q.ours(&Question{Entries: []int{i}, Mesh: meshes(t)[0], Place: places[0]}, line.Version); err == nil {
			listed.add("taken by us, though istiod refuses it", e.String(), why)
		}
	}
	t.Logf("istiod takes %d policies of %d objects", taken, len(q.corpus))
	if taken < 300 {
		t.Error("that is too few to say anything")
	}
}

// newer are signs of what older lines do not take: fields and conditions, a target, a token without an issuer.
var newer = []string{"erviceAccount", "rustDomain", "spaceDelimitedClaims", "kind: GatewayClass", "jwtRules: [{jwksUri:"}

func isNewer(e *Entry) bool {
	return slices.ContainsFunc(newer, func(sign string) bool { return strings.Contains(e.Text, sign) })
}

// compare looks at the questions about objects that istiod takes. Where we answer with an error, that has to be listed, if
// there is a list.
func compare(t *testing.T, line Line, q *questionnaire, response *builder.Response, listed *differences) {
	t.Helper()
	compared, filters, found := 0, 0, 0
	for i := range q.questions {
		c := &q.questions[i]
		if slices.ContainsFunc(c.Entries, func(e int) bool { return response.Refused[e] != "" }) {
			continue
		}
		if died := response.Chains[i].Panic; died != "" && q.unvalidated {
			listed.add("istiod dies of it, if it gets past its validation", strings.Join(q.names(c), ", "), died)
			continue
		} else if died != "" {
			t.Errorf("istiod dies: %s: %s", died, q.describe(c))
			continue
		}
		ours, err := q.ours(c, line.Version)
		if err != nil && listed != nil {
			listed.add("an error of ours, though istiod takes it", strings.Join(q.names(c), ", "), err.Error())
			continue
		} else if err != nil {
			t.Errorf("%s: %v", q.describe(c), err)
			continue
		}
		compared++
		for _, chain := range []struct {
			name         string
			istiod, ours []builder.Filter
		}{{"HTTP", response.Chains[i].HTTP, ours.HTTP}, {"TCP", response.Chains[i].TCP, ours.TCP}} {
			filters += len(chain.istiod)
			diff, err := difference(chain.istiod, chain.ours)
			if err != nil {
				t.Fatalf("%s: %v", q.describe(c), err)
			}
			if diff == "" {
				continue
			}
			if found++; found <= 10 {
				t.Errorf("istiod %s, %s chain, %s\n%s", line.Name, chain.name, q.describe(c), diff)
			}
		}
	}
	if found > 10 {
		t.Errorf("%d differences in all", found)
	}
	t.Logf("%d of %d questions compared, with %d filters of istiod's", compared, len(q.questions), filters)
	if filters < compared/2 {
		t.Error("most chains are empty: the questions are wrong")
	}
}
