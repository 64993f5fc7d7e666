package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// manifests applies and deletes YAML, as kubectl does.
type manifests struct {
	client dynamic.Interface
	mapper *restmapper.DeferredDiscoveryRESTMapper
}

func newManifests(config *rest.Config) (*manifests, error) {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	plain, err := clientset.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &manifests{client, restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(plain.Discovery()))}, nil
}

// parse splits a YAML stream into objects; empty documents are left out.
func parse(text []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		o := &unstructured.Unstructured{}
		err := decoder.Decode(&o.Object)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		if len(o.Object) > 0 {
			objects = append(objects, o)
		}
	}
}

// resource finds the API of an object. A kind that has just been defined takes
// the API server a moment to serve.
func (m *manifests) resource(ctx context.Context, o *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	kind := o.GroupVersionKind()
	var mapping *meta.RESTMapping
	if err := poll(ctx, 15*time.Second, func() (err error) {
		if mapping, err = m.mapper.RESTMapping(kind.GroupKind(), kind.Version); meta.IsNoMatchError(err) {
			m.mapper.Reset()
		}
		return err
	}); err != nil {
		return nil, err
	}
	if mapping.Scope.Name() == meta.RESTScopeNameRoot {
		return m.client.Resource(mapping.Resource), nil
	}
	namespace := o.GetNamespace()
	if namespace == "" {
		namespace = "default"
	}
	return m.client.Resource(mapping.Resource).Namespace(namespace), nil
}

// apply makes the objects be as they are written (server-side apply).
func (m *manifests) apply(ctx context.Context, objects ...*unstructured.Unstructured) error {
	for _, o := range objects {
		resource, err := m.resource(ctx, o)
		if err == nil {
			err = poll(ctx, 10*time.Second, func() error {
				_, err := resource.Apply(ctx, o.GetName(), o, metav1.ApplyOptions{FieldManager: "lab", Force: true})
				return err
			})
		}
		if err != nil {
			return fmt.Errorf("applying %s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	return nil
}

// delete takes the objects away and waits until they are gone.
func (m *manifests) delete(ctx context.Context, objects ...*unstructured.Unstructured) error {
	for _, o := range objects {
		resource, err := m.resource(ctx, o)
		if err == nil {
			err = resource.Delete(ctx, o.GetName(), metav1.DeleteOptions{})
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("deleting %s %s: %w", o.GetKind(), o.GetName(), err)
		}
		if err := poll(ctx, time.Minute, func() error {
			if _, err := resource.Get(ctx, o.GetName(), metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				return fmt.Errorf("%s %s is still there: %w", o.GetKind(), o.GetName(), err)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// crds reads the definitions that build.sh has put beside the tools.
func crds(tools string) ([]*unstructured.Unstructured, error) {
	files, err := filepath.Glob(filepath.Join(tools, "crds", "*.yaml"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	var all []*unstructured.Unstructured
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		objects, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for _, o := range objects {
			// The same files hold an admission policy that guards
			// upgrades of the definitions.
			if o.GetKind() == "CustomResourceDefinition" {
				all = append(all, o)
			}
		}
	}
	return all, nil
}

// poll calls f until it succeeds, ctx ends or the time is over, and returns
// the last error.
func poll(ctx context.Context, limit time.Duration, f func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := f()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
