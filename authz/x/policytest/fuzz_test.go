package policytest_test

import (
	"testing"

	"github.com/gowaypoint/gowaypoint/authz/x/policytest"
)

// Whatever stands in a file, reading it ends with cases or with errors that name the file.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"cases: [{name: a, from: [x/y], to: GET /, expect: allow}]", "cases: [{name: a, <<: &a {expect: deny}, from: *a}]",
		"a: &a [*a]", "defaults: {jwt: {a: [1, null]}, headers: {x: [1]}}\ncases: []", "cases: [{name: a, expect: {x/y: [deny]}, to: [TCP]}]", "- 1", "", "{[",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		cases, err := policytest.Parse("f", []byte(text))
		if (err == nil) != (len(cases) > 0) {
			t.Errorf("%d cases, %v", len(cases), err)
		}
	})
}
