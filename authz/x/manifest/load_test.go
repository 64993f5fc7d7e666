package manifest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

const onePolicy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: %}\n"

// tree writes files; a name that ends in -> is a symbolic link to what its text names.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		link, isLink := strings.CutSuffix(name, "->")
		path := filepath.Join(dir, link)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		var err error
		if isLink {
			err = os.Symlink(text, path)
		} else {
			err = os.WriteFile(path, []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func named(name string) string { return strings.ReplaceAll(onePolicy, "%", name) }

// A directory is read with its subdirectories, by name; hidden files and directories are not, and links are followed, as those
// of a mounted ConfigMap need it, but not round in circles.
func TestDirectory(t *testing.T) {
	dir := tree(t, map[string]string{
		"b.yaml": named("b"), "a/z.yml": named("z"), "a/b/y.json": `{"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {"name": "y"}}`,
		".hidden.yaml": "nonsense: [", ".git/x.yaml": "nonsense: [", "notes.txt": "nonsense: [", "kustomization.yaml": "resources: []",
		"..data/m.yaml": named("m"), "m.yaml->": "..data/m.yaml", "a/loop->": "..", "cases.yaml": "cases:\n- name: x\n",
	})
	set, err := Load([]string{dir}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range set.Policies {
		names = append(names, p.Name)
	}
	if got := strings.Join(names, " "); got != "y z b m" {
		t.Errorf("read %s", got)
	}
	if len(set.Ignored) != 3 { // notes.txt, kustomization.yaml, cases.yaml
		t.Errorf("ignored: %v", set.Ignored)
	}
	if p := set.Policies[1].At("metadata.name"); p.Line != 3 || !strings.HasSuffix(p.File, "a/z.yml") {
		t.Errorf("at %s", p)
	}
}

// Several paths, standard input among them; and everything that is wrong is told at once.
func TestPaths(t *testing.T) {
	dir := tree(t, map[string]string{"one.yaml": named("one"), "bad.json": "{\n \"kind\": 1,\n}", "empty/x.txt": ""})
	set, err := Load([]string{filepath.Join(dir, "one.yaml"), "-"}, Options{Stdin: strings.NewReader(named("two")), Namespace: "shop"})
	if err != nil || len(set.Policies) != 2 || set.Policies[1].Namespace != "shop" {
		t.Fatalf("%+v %v", set, err)
	}
	_, err = Load([]string{filepath.Join(dir, "bad.json"), filepath.Join(dir, "empty"), filepath.Join(dir, "none.yaml"), "-"},
		Options{Stdin: iotest.ErrReader(errors.New("broken pipe"))})
	var all Errors
	if !errors.As(err, &all) || len(all) != 4 {
		t.Fatalf("got %v", err)
	}
	for i, want := range []string{"bad.json:3: document 1: not JSON", "empty: no manifests there", "none.yaml: no such file", "standard input: broken pipe"} {
		if !strings.Contains(all[i].Error(), want) {
			t.Errorf("%d: %s, want %s", i, all[i], want)
		}
	}
	if _, err := Load([]string{"-"}, Options{}); err == nil {
		t.Error("no standard input, and no error")
	}
}

// Aliases are expanded, though not without bounds.
func TestAliases(t *testing.T) {
	bomb := "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c < 'j'; c++ {
		bomb += string(c) + ": &" + string(c) + " [" + strings.TrimSuffix(strings.Repeat("*"+string(c-1)+", ", 10), ", ") + "]\n"
	}
	for text, want := range map[string]string{
		bomb:                              "too large",
		"a: &a {b: *a}\n":                 "*a stands inside of what it refers to",
		"a: !!binary aGVsbG8=\n":          "values tagged !!binary are not understood",
		"{yes: 1}\n":                      "key yes is a boolean",
		"? [a]\n: b\n":                    "a key has to be a string",
		"a: .inf\n":                       ".inf is no number in JSON",
		"a: &x 1\n<<: *x\n":               "wants an object to merge",
		"a: b\na: c\n":                    `key "a" stands twice`,
		"- a\n":                           "a list; a manifest is an object",
		"just text\n":                     "a string; a manifest is an object",
		"a: b\n":                          "neither a Kubernetes object",
		"\tx: y\n":                        "not YAML",
		"kind: List\nitems: [1]\n":        "a number (1) where an object belongs",
		"kind: List\nitems: x\n":          `a string ("x") where a list belongs`,
		"[{\"kind\": 1}, {\"a\": 1}] x\n": "not YAML",
	} {
		_, err := Read([]Source{{"x.yaml", []byte(text)}}, Options{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text[:min(len(text), 60)], err, want)
		}
	}
	merged := "status: {x: &x {name: p}}\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {<<: *x, namespace: ns}\n"
	_, err := Read([]Source{{"x.yaml", []byte(merged)}}, Options{})
	if err != nil {
		t.Errorf("merge keys: %v", err)
	}
}

// Whatever the bytes are, reading them ends, and ends with a set or with errors that have a text.
func FuzzRead(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, section := range strings.Split(string(raw), "\n-- ") {
			_, text, _ := strings.Cut(section, " --\n")
			f.Add([]byte(text))
		}
	}
	f.Add([]byte(`{"configs": [{"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump", "dynamic_listeners": [{"active_state": {"listener": {"filter_chains": [{}]}}}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := Read([]Source{{"x", data}}, Options{})
		if (set == nil) == (err == nil) || err != nil && err.Error() == "" {
			t.Errorf("%v %v", set, err)
		}
		if set == nil {
			return
		}
		for i := range set.Chains {
			_, _ = set.Chains[i].Compile()
		}
		_, _ = set.Target(Choice{})
	})
}
