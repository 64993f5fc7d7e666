package waypoint

import "testing"

func TestLowerName(t *testing.T) {
	for name, want := range map[string]string{"": "", "Shop.Example": "shop.example", "\u212aube": "\u212aube", "A\xff": "a\xff"} {
		if got := lowerName(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
