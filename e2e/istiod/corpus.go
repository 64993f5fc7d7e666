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
	"google.golang.org/protobuf/proto"
	securityv1beta1 "istio.io/api/security/v1beta1"
	"sigs.k8s.io/yaml"
)

// Entry is an object of the corpus: an AuthorizationPolicy or a RequestAuthentication.
type Entry struct {
	// File is the file's name without extension: the theme.
	File string
	// Text is the object in YAML.
	Text string

	Kind, Namespace, Name string
	Annotations           map[string]string
	// Spec is nil if Err says why it cannot be read.
	Spec proto.Message
	Err  error
}

func (e *Entry) String() string { return e.Namespace + "/" + e.Name }

// Corpus reads all files of a folder, in the order of their names. Each replacement is a text and what stands for it.
func Corpus(dir string, replacements ...string) ([]*Entry, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, err
	}
	replace := strings.NewReplacer(replacements...)
	var out []*Entry
	seen := map[string]string{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		// What comes before the first separator is the file's comment.
		_, documents, _ := strings.Cut(string(raw), "---\n")
		for text := range strings.SplitSeq(documents, "\n---\n") {
			e := &Entry{File: strings.TrimSuffix(filepath.Base(file), ".yaml"), Text: replace.Replace(text)}
			if err := e.read(); err != nil {
				return nil, fmt.Errorf("%s: %w\n%s", file, err, text)
			}
			if first, twice := seen[e.Kind+e.String()]; twice {
				return nil, fmt.Errorf("%s is in %s and in %s", e, first, file)
			}
			seen[e.Kind+e.String()] = file
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
	if object.APIVersion != "security.istio.io/v1" && object.APIVersion != "security.istio.io/v1beta1" {
		return errors.New(object.APIVersion)
	}
	e.Kind, e.Namespace, e.Name, e.Annotations = object.Kind, object.Metadata.Namespace, object.Metadata.Name, object.Metadata.Annotations
	if e.Name == "" || e.Namespace == "" {
		return errors.New("no name or no namespace")
	}
	specs := map[string]proto.Message{
		"AuthorizationPolicy": &securityv1beta1.AuthorizationPolicy{}, "RequestAuthentication": &securityv1beta1.RequestAuthentication{},
	}
	spec := specs[e.Kind]
	if spec == nil {
		return errors.New(e.Kind)
	}
	if len(object.Spec) > 0 {
		e.Err = protojson.Unmarshal(object.Spec, spec)
	}
	if e.Err == nil {
		e.Spec = spec
	}
	return nil
}

func (e *Entry) policy() istio.Policy {
	return istio.Policy{Namespace: e.Namespace, Name: e.Name, Annotations: e.Annotations, Spec: e.Spec.(*securityv1beta1.AuthorizationPolicy)}
}

func (e *Entry) authentication() istio.RequestAuthentication {
	return istio.RequestAuthentication{Namespace: e.Namespace, Name: e.Name, Spec: e.Spec.(*securityv1beta1.RequestAuthentication)}
}
