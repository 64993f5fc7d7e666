package authzbench

import "testing"

// A comparison says nothing unless all engines answer the same.
func TestEnginesAgree(t *testing.T) {
	for name, make := range Engines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, n := range []int{1, 300} {
				engine, err := make(Rules(n))
				if err != nil {
					t.Fatal(err)
				}
				for r, want := range Sample(n) {
					if got, err := engine.Decide(r); err != nil || got != want {
						t.Errorf("%d policies, %+v: allowed %v, %v; want %v", n, r, got, err, want)
					}
				}
			}
		})
	}
}

// The policy that allows Match is the last that Envoy tries.
func TestMatchIsTheLast(t *testing.T) {
	o, err := newOurs(Rules(300))
	if err != nil {
		t.Fatal(err)
	}
	engine := o.(*ours)
	if allowed, _ := engine.Decide(Match); !allowed {
		t.Fatal("denied")
	}
	if x := engine.set.Explain(&engine.request); !x.Policies[len(x.Policies)-1].Matched {
		t.Error("another policy matched")
	}
}
