package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	authnv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// contents are the files of a volume by relative path.
type contents map[string][]byte

// volumeSource reads what the volumes of a pod hold out of the API.
type volumeSource struct {
	client kubernetes.Interface
	facts  facts
	// tokens remembers what TokenRequest answered: a volume is refreshed
	// every few seconds, a token lives for hours.
	tokens map[string][]byte
}

// read returns the files of v, or nil for an emptyDir.
func (s *volumeSource) read(ctx context.Context, v corev1.VolumeSource) (contents, error) {
	switch {
	case v.EmptyDir != nil, v == corev1.VolumeSource{}: // the API's default
		return nil, nil
	case v.ConfigMap != nil:
		return s.configMap(ctx, v.ConfigMap.LocalObjectReference, v.ConfigMap.Items, v.ConfigMap.Optional)
	case v.Secret != nil:
		name := corev1.LocalObjectReference{Name: v.Secret.SecretName}
		return s.secret(ctx, name, v.Secret.Items, v.Secret.Optional)
	case v.DownwardAPI != nil:
		return s.downward(v.DownwardAPI.Items)
	case v.Projected != nil:
		all := contents{}
		for _, source := range v.Projected.Sources {
			part, err := s.projection(ctx, source)
			if err != nil {
				return nil, err
			}
			for path, data := range part {
				all[path] = data
			}
		}
		return all, nil
	}
	return nil, errors.New("this kind of volume is not known to the pod runner")
}

func (s *volumeSource) projection(ctx context.Context, p corev1.VolumeProjection) (contents, error) {
	switch {
	case p.ServiceAccountToken != nil:
		token, err := s.token(ctx, p.ServiceAccountToken)
		return contents{p.ServiceAccountToken.Path: token}, err
	case p.ConfigMap != nil:
		return s.configMap(ctx, p.ConfigMap.LocalObjectReference, p.ConfigMap.Items, p.ConfigMap.Optional)
	case p.Secret != nil:
		return s.secret(ctx, p.Secret.LocalObjectReference, p.Secret.Items, p.Secret.Optional)
	case p.DownwardAPI != nil:
		return s.downward(p.DownwardAPI.Items)
	}
	return nil, errors.New("this kind of projected volume is not known to the pod runner")
}

func (s *volumeSource) configMap(ctx context.Context, ref corev1.LocalObjectReference, items []corev1.KeyToPath, optional *bool) (contents, error) {
	all := contents{}
	object, err := s.client.CoreV1().ConfigMaps(s.facts.pod.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	if err != nil {
		return all, unlessOptional(err, optional)
	}
	for key, value := range object.Data {
		all[key] = []byte(value)
	}
	for key, value := range object.BinaryData {
		all[key] = value
	}
	return pick(all, items, "ConfigMap "+ref.Name, optional)
}

func (s *volumeSource) secret(ctx context.Context, ref corev1.LocalObjectReference, items []corev1.KeyToPath, optional *bool) (contents, error) {
	object, err := s.client.CoreV1().Secrets(s.facts.pod.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	if err != nil {
		return contents{}, unlessOptional(err, optional)
	}
	return pick(object.Data, items, "Secret "+ref.Name, optional)
}

func unlessOptional(err error, optional *bool) error {
	if optional != nil && *optional && apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// pick keeps the listed keys under their listed paths, or all keys if none is listed.
func pick(all contents, items []corev1.KeyToPath, what string, optional *bool) (contents, error) {
	if len(items) == 0 {
		return all, nil
	}
	picked := contents{}
	for _, item := range items {
		data, ok := all[item.Key]
		if !ok && (optional == nil || !*optional) {
			return nil, fmt.Errorf("%s has no key %q", what, item.Key)
		}
		picked[item.Path] = data
	}
	return picked, nil
}

func (s *volumeSource) downward(items []corev1.DownwardAPIVolumeFile) (contents, error) {
	all := contents{}
	for _, item := range items {
		if item.FieldRef == nil {
			return nil, fmt.Errorf("downward API file %q: resourceFieldRef is not known to the pod runner", item.Path)
		}
		value, err := s.facts.field(item.FieldRef.FieldPath)
		if err != nil {
			return nil, err
		}
		all[item.Path] = []byte(value)
	}
	return all, nil
}

// token asks the API server for a token bound to the pod, once per audience. A
// kubelet would renew it at 80 % of its life; the 12 hours that a waypoint asks
// for are longer than any test.
func (s *volumeSource) token(ctx context.Context, p *corev1.ServiceAccountTokenProjection) ([]byte, error) {
	if t, ok := s.tokens[p.Audience]; ok {
		return t, nil
	}
	request := &authnv1.TokenRequest{Spec: authnv1.TokenRequestSpec{
		ExpirationSeconds: p.ExpirationSeconds,
		BoundObjectRef: &authnv1.BoundObjectReference{
			Kind: "Pod", APIVersion: "v1", Name: s.facts.pod.Name, UID: s.facts.pod.UID,
		},
	}}
	if p.Audience != "" {
		request.Spec.Audiences = []string{p.Audience}
	}
	answer, err := s.client.CoreV1().ServiceAccounts(s.facts.pod.Namespace).
		CreateToken(ctx, s.facts.pod.Spec.ServiceAccountName, request, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("token for audience %q: %w", p.Audience, err)
	}
	s.tokens[p.Audience] = []byte(answer.Status.Token)
	return s.tokens[p.Audience], nil
}

// dataLink is the link that makes an update of all files of a volume one
// rename: every file is a link into it.
const dataLink = "..data"

// publish makes files the content of the volume at dir, all at once, in the
// layout that a kubelet uses, because programs that watch such files have to
// cope with it: name -> ..data/name, ..data -> ..N. Nothing is touched if
// nothing changed.
func publish(dir string, files contents, generation int) error {
	if same(dir, files) {
		return nil
	}
	version := ".." + strconv.Itoa(generation)
	for path, data := range files {
		name := filepath.Join(dir, version, path)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, data, 0o644); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, version), 0o755); err != nil {
		return err
	}
	old, _ := os.Readlink(filepath.Join(dir, dataLink)) // none yet: nothing to remove
	next := filepath.Join(dir, dataLink+"_tmp")
	if err := os.Symlink(version, next); err != nil {
		return err
	}
	if err := os.Rename(next, filepath.Join(dir, dataLink)); err != nil {
		return err
	}
	for path := range files {
		link := filepath.Join(dir, path)
		target, err := filepath.Rel(filepath.Dir(link), filepath.Join(dir, dataLink, path))
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(target, link); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	if old != "" {
		return os.RemoveAll(filepath.Join(dir, old))
	}
	return nil
}

// same tells whether the volume at dir holds these files already. A file that
// has gone from files is not noticed: no source here takes a file away.
func same(dir string, files contents) bool {
	for path, data := range files {
		held, err := os.ReadFile(filepath.Join(dir, dataLink, path))
		if err != nil || !bytes.Equal(held, data) {
			return false
		}
	}
	return true
}
