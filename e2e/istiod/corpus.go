package istiod

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/gowaypoint/gowaypoint/authz/istio"
	"google.golang.org/protobuf/encoding/protojson"
	securityv1beta1 "istio.io/api/security/v1beta1"
	"sigs.k8s.io/yaml"
)

// Entry is an object of the corpus.
type Entry struct {
	// File is the file's name without extension: the theme.
	File string
	// Text is the object in YAML.
	Text string
	// Policy is the object; its Spec is nil if Err says why it cannot be read.
	Policy istio.Policy
	Err    error
}

func (e Entry) String() string { return e.Policy.Namespace + "/" + e.Policy.Name }

// Corpus reads all files of a folder, in the order of their names.
func Corpus(dir string) ([]Entry, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, err
	}
	var out []Entry
	seen := map[string]string{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		theme := strings.TrimSuffix(filepath.Base(file), ".yaml")
		// What comes before the first separator is the file's comment.
		_, documents, _ := strings.Cut(string(raw), "---\n")
		for text := range strings.SplitSeq(documents, "\n---\n") {
			e := Entry{File: theme, Text: text}
			if err := e.read(); err != nil {
				return nil, fmt.Errorf("%s: %w\n%s", file, err, text)
			}
			if first, twice := seen[e.String()]; twice {
				return nil, fmt.Errorf("%s is in %s and in %s", e, first, file)
			}
			seen[e.String()] = file
			out = append(out, e)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no corpus in " + dir)
	}
	return out, nil
}

// read reads the object as a user of package istio would. What is wrong inside its spec is kept in Err.
func (e *Entry) read() error {
	var object struct {
		APIVersion, Kind string
		Metadata         struct {
			Namespace, Name string
			Annotations     map[string]string
		}
		Spec json.RawMessage
	}
	if err := yaml.UnmarshalStrict([]byte(e.Text), &object); err != nil {
		return err
	}
	if object.Metadata.Name == "" || object.Metadata.Namespace == "" {
		return errors.New("no name or no namespace")
	}
	if object.Kind != "AuthorizationPolicy" || !strings.HasPrefix(object.APIVersion, "security.istio.io/v1") {
		return fmt.Errorf("%s of %s", object.Kind, object.APIVersion)
	}
	e.Policy = istio.Policy{Namespace: object.Metadata.Namespace, Name: object.Metadata.Name, Annotations: object.Metadata.Annotations}
	spec := &securityv1beta1.AuthorizationPolicy{}
	if len(object.Spec) > 0 {
		if e.Err = protojson.Unmarshal(object.Spec, spec); e.Err != nil {
			return nil
		}
	}
	e.Policy.Spec = spec
	return nil
}
