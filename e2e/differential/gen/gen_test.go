package gen

import (
	"testing"
)

func TestGen(t *testing.T) {
	errs := map[string]int{}
	for i := range uint64(3000) {
		w := New(1, i)
		s := w.Raw(i%5 == 0)
		if i%2 == 0 {
			var err error
			if s, err = w.Istio(i%5 == 0); err != nil {
				errs[err.Error()]++
				continue
			}
		}
		if _, err := s.Compile(); err != nil {
			errs[err.Error()]++
			continue
		}
		w.Requests(s, 10)
	}
	for e, n := range errs {
		t.Log(n, e)
	}
}
