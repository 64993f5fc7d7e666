package oracle_test

import (
	"fmt"
	"testing"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/e2e/differential/gen"
	"github.com/gowaypoint/gowaypoint/e2e/differential/oracle"
	"github.com/gowaypoint/gowaypoint/e2e/differential/pair"
)

// With its exceptions the oracle is authz, which can be seen without an Envoy; and each exception changes something.
func TestOracleWithExceptionsIsAuthz(t *testing.T) {
	changed := map[oracle.Exception]int{}
	for i := range uint64(3000) {
		w := gen.New(11, i)
		network := i%7 == 0
		s := w.Raw(network)
		if i%2 == 0 {
			var err error
			if s, err = w.Istio(network); err != nil {
				t.Fatal(err)
			}
		}
		compiled, err := s.Compile()
		if err != nil {
			t.Fatal(err)
		}
		var c *pair.Conn
		if network {
			c = w.Conn(nil)
		} else {
			c = w.Conn(&pair.Listeners[w.IntN(len(pair.Listeners))])
		}
		for _, r := range w.Requests(s, 10) {
			view, ok := r.View(c, 8080)
			if !ok {
				continue
			}
			ours, err := compiled.Decide(view, false)
			if err != nil {
				t.Fatal(err)
			}
			all := oracle.Decide(s, view, oracle.All)
			if ours != all {
				t.Fatalf("stream %d: authz %+v, oracle %+v\n%s\n%v", i, ours, all, describe(view, c), s.Filters)
			}
			for e := range oracle.Exceptions {
				if oracle.Decide(s, view, oracle.All&^e) != all {
					changed[e]++
				}
			}
		}
	}
	for e, name := range oracle.Exceptions {
		if changed[e] == 0 {
			t.Errorf("no pair shows the exception: %s", name)
		}
	}
}

func describe(v *authz.Request, c *pair.Conn) string {
	return fmt.Sprintf("%s %s %q on %v", v.Method, v.Path, v.Authority, c)
}

// The table of headers is authz's: a copy that was made by asking Envoy, so that neither is taken from the other by mistake.
func TestOneLineIsTheSameTable(t *testing.T) {
	for _, name := range oracle.OneLine {
		if !authz.OneLine(name) {
			t.Errorf("authz does not know that %s is kept on one line", name)
		}
	}
	if authz.OneLine("cookie") || authz.OneLine("x-a") || !authz.OneLine("User-Agent") {
		t.Error("authz.OneLine is wrong")
	}
}
