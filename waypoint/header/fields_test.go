package header

import (
	"strings"
	"testing"
)

func TestEveryNameHasItsID(t *testing.T) {
	for id := Other + 1; id < idCount; id++ {
		name := id.String()
		if name == "" || name != strings.ToLower(name) || len(name) > maxNameLen {
			t.Errorf("ID %d: bad name %q", id, name)
		}
		if got := Lookup(name); got != id {
			t.Errorf("Lookup(%q) = %d, want %d", name, got, id)
		}
	}
	if Lookup("x-unheard-of") != Other || Lookup("") != Other || Lookup(strings.Repeat("a", 100)) != Other {
		t.Error("a name that nobody listed must be Other")
	}
}

func TestRepeatedLinesStayApart(t *testing.T) {
	var f Fields
	f.Append("cookie", "a=1")
	f.Append("x-own", "one")
	f.Append("cookie", "b=2")
	f.Append("x-own", "two")
	if v, _ := f.Nth("cookie", 1); v != "b=2" || f.Count(Cookie) != 2 {
		t.Errorf("second cookie = %q, count %d", v, f.Count(Cookie))
	}
	if v, ok := f.Nth("x-own", 1); v != "two" || !ok {
		t.Errorf("second x-own = %q", v)
	}
	if _, ok := f.Nth("x-own", 2); ok {
		t.Error("there is no third x-own")
	}

	f.Set(Cookie, "c=3")
	f.SetName("x-own", "three")
	if f.Len() != 2 || f.At(0).Value != "c=3" || f.At(1).Value != "three" {
		t.Errorf("Set keeps the first place and drops the rest: %v", f.All())
	}
	f.DelName("x-own")
	f.Del(Cookie)
	if f.Len() != 0 {
		t.Errorf("left over: %v", f.All())
	}
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	var f Fields
	if n := testing.AllocsPerRun(100, func() {
		f.Reset()
		f.Append("host", "a")
		f.Append("x-own", "b")
		f.Set(XRequestID, "c")
		f.SetName("x-own", "d")
		f.DelName("x-own")
		if f.Value(Host) != "a" {
			t.Fatal("host lost")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
