package telemetry

import "testing"

// The order of being set is the order of printing; setting twice changes nothing.
func TestFlagsKeepOrder(t *testing.T) {
	s := FlagsOf(FlagUpstreamConnectionFailure, FlagUpstreamRetryLimitExceeded, FlagUpstreamConnectionFailure)
	if got, want := s.String(), "UF,URX"; got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
	if got, want := FlagsOf(FlagUpstreamRetryLimitExceeded, FlagUpstreamConnectionFailure).String(), "URX,UF"; got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
	if got, want := string(s.AppendLong(nil)), "UpstreamConnectionFailure,UpstreamRetryLimitExceeded"; got != want {
		t.Errorf("AppendLong = %q, want %q", got, want)
	}
	if got := Flags(0).String(); got != "-" {
		t.Errorf("empty set prints %q, want -", got)
	}
	if !s.Has(FlagUpstreamRetryLimitExceeded) || s.Has(FlagNoRouteFound) || s.Has(FlagNone) {
		t.Errorf("Has is wrong for %v", s)
	}
}

// Every flag has two names, and its short name parses back to it.
func TestFlagNames(t *testing.T) {
	for f := FlagNone + 1; f < flagEnd; f++ {
		if f.String() == "" || f.Long() == "" {
			t.Errorf("flag %d has no name", f)
		}
		if got, err := ParseFlag(f.String()); err != nil || got != f {
			t.Errorf("ParseFlag(%q) = %v, %v", f, got, err)
		}
	}
	if _, err := ParseFlag("XX"); err == nil {
		t.Error("ParseFlag accepts XX")
	}
}

// A full set keeps its first eight and does not corrupt them.
func TestFlagsFull(t *testing.T) {
	var s Flags
	for f := FlagNone + 1; f <= 10; f++ {
		s.Set(f)
	}
	if !s.Has(1) || !s.Has(8) || s.Has(9) {
		t.Errorf("full set is %v", s)
	}
}

func TestPeerText(t *testing.T) {
	p := &Peer{Workload: "reviews-v1", Type: "deployment", Namespace: "default", Identity: "spiffe://x"}
	if got, want := string(p.AppendText(nil)), "type=deployment,workload=reviews-v1,namespace=default"; got != want {
		t.Errorf("AppendText = %q, want %q", got, want)
	}
	get, ok := PeerFieldGetter("identity")
	if !ok || get(p) != "spiffe://x" {
		t.Error("field identity")
	}
	if _, ok := PeerFieldGetter("nonsense"); ok {
		t.Error("field nonsense exists")
	}
	if got := len(p.Struct().Fields); got != 4 {
		t.Errorf("Struct has %d fields, want 4", got)
	}
}
