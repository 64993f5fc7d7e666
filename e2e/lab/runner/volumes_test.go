package runner

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// A reader that holds a volume open sees the old or the new files, and the
// files keep their names: that is what the links are for.
func TestPublish(t *testing.T) {
	dir := t.TempDir()
	read := func(name string) string {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	if err := publish(dir, contents{"root.pem": []byte("one"), "sub/token": []byte("t")}, 1); err != nil {
		t.Fatal(err)
	}
	if got := read("root.pem") + read("sub/token"); got != "onet" {
		t.Errorf("first files: %q", got)
	}
	link, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil || link != "..1" {
		t.Errorf("..data -> %q, %v", link, err)
	}

	// The same again changes nothing; other content changes the version.
	if err := publish(dir, contents{"root.pem": []byte("one"), "sub/token": []byte("t")}, 2); err != nil {
		t.Fatal(err)
	}
	if link, _ := os.Readlink(filepath.Join(dir, dataLink)); link != "..1" {
		t.Errorf("an update without change made version %s", link)
	}
	if err := publish(dir, contents{"root.pem": []byte("two"), "sub/token": []byte("t")}, 3); err != nil {
		t.Fatal(err)
	}
	if got := read("root.pem"); got != "two" {
		t.Errorf("after the update: %q", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "..1")); !os.IsNotExist(err) {
		t.Errorf("the old version is still there: %v", err)
	}
}

func TestVolumeContents(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", Labels: map[string]string{"app": "x"}}}
	source := volumeSource{
		client: fake.NewClientset(&corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: "root", Namespace: "ns"},
			Data:       map[string]string{"root-cert.pem": "PEM", "other": "o"},
		}),
		facts: facts{pod: pod},
	}
	configMap := func(name string, optional bool, items ...corev1.KeyToPath) corev1.VolumeSource {
		return corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: name}, Items: items, Optional: &optional,
		}}
	}
	ctx := context.Background()

	got, err := source.read(ctx, configMap("root", false))
	if err != nil || string(got["root-cert.pem"]) != "PEM" || len(got) != 2 {
		t.Errorf("whole ConfigMap: %v, %v", got, err)
	}
	got, err = source.read(ctx, configMap("root", false, corev1.KeyToPath{Key: "other", Path: "a/b"}))
	if err != nil || string(got["a/b"]) != "o" || len(got) != 1 {
		t.Errorf("picked key: %v, %v", got, err)
	}
	if _, err = source.read(ctx, configMap("root", false, corev1.KeyToPath{Key: "none", Path: "x"})); err == nil {
		t.Error("a key that is not there was picked")
	}
	if _, err = source.read(ctx, configMap("gone", false)); err == nil {
		t.Error("a ConfigMap that is not there was read")
	}
	if got, err = source.read(ctx, configMap("gone", true)); err != nil || len(got) != 0 {
		t.Errorf("optional ConfigMap: %v, %v", got, err)
	}
	if got, err = source.read(ctx, corev1.VolumeSource{}); err != nil || got != nil {
		t.Errorf("empty volume: %v, %v", got, err)
	}
	if _, err = source.read(ctx, corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{}}); err == nil {
		t.Error("a hostPath was taken for something known")
	}
}
