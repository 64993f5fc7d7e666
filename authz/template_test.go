package authz

import (
	"regexp"
	"strings"
	"testing"
)

func TestTemplate(t *testing.T) {
	for _, c := range []struct {
		template string
		yes, no  []string
	}{
		{"/", []string{"/"}, []string{"", "/a"}},
		{"/a/b", []string{"/a/b"}, []string{"/a", "/a/b/", "/a/bc"}},
		{"/a/", []string{"/a/"}, []string{"/a", "/a/b"}},
		{"/*", []string{"/a", "/%20", "/a.b~c", "/a=b", "/a*"}, []string{"/", "/a/b", "/a|b", "/é", "/a b"}},
		{"/a/*/c", []string{"/a/b/c"}, []string{"/a//c", "/a/b/b/c", "/a/b/cd"}},
		{"/a/**", []string{"/a/", "/a/b", "/a/b//c/", "/a/b=c"}, []string{"/a", "/ab", "/a/b|c"}},
		{"/**/z", []string{"//z", "/a/z", "/a/b/z"}, []string{"/z", "/a/zz"}},
		{"/*/x/**/z", []string{"/a/x//z", "/a/x/b/c/z"}, []string{"/a/b/x/c/z", "/a/x/z"}},
		{"/*.html", []string{"/a.html", "/a.html.html"}, []string{"/.html", "/a/b.html"}},
		{"/**.html", []string{"/.html", "/a/b.html"}, []string{"/a.htm"}},
		{"/a=b/c*d", []string{"/a=b/c*d"}, []string{"/a=b/cxd"}},
		{"/{a}/{b=*}/{c=x/**}", []string{"/1/2/x/3/4"}, []string{"/1/2/y/3"}},
	} {
		tmpl, err := ParseTemplate(c.template)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, path := range c.yes {
			if !tmpl.Match(path) {
				t.Errorf("%s does not match %q", c.template, path)
			}
		}
		for _, path := range c.no {
			if tmpl.Match(path) {
				t.Errorf("%s matches %q", c.template, path)
			}
		}
	}
}

func TestTemplateErrors(t *testing.T) {
	for _, text := range []string{
		"", "a", "/a//b", "/***", "/**/*", "/**/**", "/**/{a}", "/{a", "/{}", "/{1a}", "/{a=}", "/{a=*/}", "/{a=*b}",
		"/{a}/{a}", "/{abcdefghijklmnopq}", "/{a}/{b}/{c}/{d}/{e}/{f}", "/*a/b", "/a b", "/é", "/a?b", "/{a}{b}",
	} {
		if tmpl, err := ParseTemplate(text); err == nil {
			t.Errorf("%q parses as %+v", text, tmpl)
		}
	}
}

// FuzzTemplate holds the matcher against the regular expression that Envoy's documentation gives for each wildcard.
func FuzzTemplate(f *testing.F) {
	for _, text := range []string{"/", "/a/*/c", "/a/**", "/**/z", "/*/x/**/z.html", "/*.html", "/**.html", "/*/*/", "/a/"} {
		for _, path := range []string{"/", "/a/b/c", "/a/", "//z", "/q/x//z.html", "/a.html", "/a/b/", "/a=b", "/a/.html"} {
			f.Add(text, path)
		}
	}
	const class = `a-zA-Z0-9\-._~%!$&'()*+,;:@=`
	wildcards := strings.NewReplacer(`/\*\*`, "/["+class+"/]*", `/\*`, "/["+class+"]+") // elsewhere "*" is a literal
	f.Fuzz(func(t *testing.T, text, path string) {
		tmpl, err := ParseTemplate(text)
		if err != nil || strings.Contains(text, "{") {
			return
		}
		want := regexp.MustCompile(`\A` + wildcards.Replace(regexp.QuoteMeta(text)) + `\z`).MatchString(path)
		if got := tmpl.Match(path); got != want {
			t.Errorf("%q on %q: %v, want %v", text, path, got, want)
		}
	})
}
