package pathnorm

import (
	"fmt"
	"testing"
)

// What Envoy answers for these was observed on a real one (stock build, istiod's config).
func TestNormalize(t *testing.T) {
	for _, c := range []struct {
		mode     Options
		in, want string
	}{
		{Base, "/a", "/a"},
		{Base, "/", "/"},
		{Base, "/a/./b", "/a/b"},
		{Base, "/a/../b", "/b"},
		{Base, "/a/..", "/"},
		{Base, "/a/b/..", "/a/"},
		{Base, "/..", "/"},
		{Base, "/../../a", "/a"},
		{Base, "/a/.", "/a/"},
		{Base, "/%2e%2E/a", "/a"},
		{Base, "/a%2e", "/a."},
		{Base, "/.hidden", "/.hidden"},
		{Base, "/...", "/..."},
		{Base, "/..a", "/..a"},
		{Base, `/a\b`, "/a/b"},
		{Base, `\a`, "/a"},
		{Base, "/%61%7e%2D", "/a~-"},
		{Base, "/%2fadmin", "/%2fadmin"},
		{Base, "/%5cadmin", "/%5cadmin"},
		{Base, "/x/..%2fadmin", "/x/..%2fadmin"},
		{Base, "/%2561dmin", "/%2561dmin"},
		{Base, "//admin", "//admin"},
		{Base, "/x//../admin", "/x/admin"},
		{Base, "/.//admin", "//admin"},
		{Base, "/%zz%", "/%zz%"},
		{Base, "/a|b", "/a%7Cb"},
		// What is decoded behind a stray "%" must not make an escape of it.
		{Base, "/%%34e", "/%254e"},
		{Base, "/%4%31", "/%2541"},
		{Base, "/%%4%39%32e", "/%%25492e"},
		{Base, "/%%49%32e", "/%I2e"},
		{Base, "/b%2", "/b%2"},
		{Base, "/%/../bc%41", "/bcA"},
		{Base, "/%/..%41", "/%/..A"},
		// A dot segment is one with its parameters too.
		{Base, "/a/..;/b", "/b"},
		{Base, "/a/..;x=1/b", "/b"},
		{Base, "/.;a", "/"},
		{Base, "/a/b/..;x?q", "/a/?q"},
		{Base, "/..;/..;/b", "/b"},
		{Base, `/a/..;\b`, "/"},
		{Base, "/a/..;%2fb/c", "/c"},
		{Base, "/a/%2e%2E;y/b", "/a/..;y/b"},
		{Base, "/a/..%3bx", "/a/..%3bx"},
		{Base, "/a/...;x/;a/b;", "/a/...;x/;a/b;"},
		{None, "/a/..;/b", "/a/..;/b"},
		{DecodeAndMergeSlashes, "/a/..;%2fb/c", "/b/c"},
		{DecodeAndMergeSlashes, "/a/%2e%2e;/b", "/a/..;/b"},
		{Base, "/a?b/../c#%61", "/a?b/../c#%61"},
		{Base, "*", "*"},
		{MergeSlashes, "//a///b?c//d", "/a/b?c//d"},
		{MergeSlashes, "/a//../b", "/a/b"},
		{MergeSlashes, "///", "//"}, // odd, but Envoy's
		{DecodeAndMergeSlashes, "/%2f", "//"},
		{DecodeAndMergeSlashes, "/a%2F%2fb%5Cc", "/a/b/c"},
		{DecodeAndMergeSlashes, "/x/..%2fadmin", "/admin"},
		{None, "/a/../b//c", "/a/../b//c"},
	} {
		got, _, ok := Normalize(c.in, c.mode)
		if !ok || got != c.want {
			t.Errorf("%+v %q: got %q %v, want %q", c.mode, c.in, got, ok, c.want)
		}
	}
	for _, in := range []string{"/a%00", "/a\x00"} {
		if _, _, ok := Normalize(in, Base); ok {
			t.Errorf("%q must be refused", in)
		}
	}
}

func TestEscapedBytes(t *testing.T) {
	for c := 1; c < 256; c++ {
		in := fmt.Sprintf("/x%%%02Xy", c)
		want := in
		if classes[c] == decode || classes[c] == special {
			want = "/x" + string(rune(c)) + "y"
		}
		if got, _, ok := Normalize(in, Base); !ok || got != want {
			t.Errorf("%q: got %q %v, want %q", in, got, ok, want)
		}
	}
}

// A second pass changes nothing, unless the first made an escape out of a stray percent sign.
func FuzzNormalizeTwice(f *testing.F) {
	for _, s := range []string{"/a/../b", "/%2e/%2e", `\\..\`, "/a%00", "/..%2f", "/%%32%65"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		for _, mode := range []Options{Base, MergeSlashes, DecodeAndMergeSlashes} {
			got, _, ok := Normalize(in, mode)
			if ok && in != "" && in != "*" && got[0] != '/' && in[0] != '?' {
				t.Errorf("%q became %q, which is no path", in, got)
			}
		}
	})
}

func TestNothingToDoAllocatesNothing(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() {
		if p, _, _ := Normalize("/api/v1/things?id=1", DecodeAndMergeSlashes); p == "" {
			t.Fatal("lost")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
