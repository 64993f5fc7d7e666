package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/gowaypoint/gowaypoint/e2e/lab/runner"
)

// Images that pods of the lab can name. The waypoint's holds a slash because
// istiod ignores a proxyImage annotation without one.
const (
	WaypointImage = "gowaypoint.lab/waypoint:test"
	HelloV1Image  = "gowaypoint.lab/helloworld:v1"
	HelloV2Image  = "gowaypoint.lab/helloworld:v2"
)

// Lab is a running control plane with one node.
type Lab struct {
	Kube   *clientset.Clientset // as system:masters
	Runner *runner.Runner

	kubernetes *kubernetes
	istiod     *process
	manifests  *manifests
	config     *rest.Config
	logf       func(string, ...any)
	stop       context.CancelFunc
	background sync.WaitGroup // the pod runner
	ztunnels   ztunnels
}

// Start brings everything up: about 20 seconds on two cores. It has to be
// called inside [Main], once per process. After an error nothing runs.
func Start(ctx context.Context, logf func(format string, args ...any)) (lab *Lab, err error) {
	tools := os.Getenv(envTools)
	if tools == "" {
		return nil, errors.New("lab.Start has to run inside lab.Main")
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	l := &Lab{logf: logf, stop: stop, kubernetes: &kubernetes{tools: tools}}
	defer func() {
		if err != nil {
			l.Stop()
		}
	}()
	network, err := runner.NewNetwork(subnet)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	step := func(what string) { logf("%5.1fs %s", time.Since(began).Seconds(), what) }

	if err := l.kubernetes.start(); err != nil {
		return nil, err
	}
	step("Kubernetes is up")
	config, err := clientcmd.BuildConfigFromFlags("", adminKubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = 500, 500 // the API server is ours alone
	l.config = config
	l.Kube, err = clientset.NewForConfig(config)
	if err == nil {
		l.manifests, err = newManifests(config)
	}
	if err != nil {
		return nil, err
	}

	l.Runner = &runner.Runner{
		Client: l.Kube, Node: node, Network: network, Dir: filepath.Join(state, "node"), Logf: logf,
		Images: images(), Hosts: hosts(), Attach: l.attach,
	}
	l.background.Go(func() {
		if err := l.Runner.Run(running); err != nil {
			logf("pod runner: %v", err)
		}
	})
	if err := l.installIstio(ctx); err != nil {
		return nil, err
	}
	step("Istio's manifests are applied")
	if err := l.StartIstiod(ctx); err != nil {
		return nil, err
	}
	step("istiod is up")
	return l, nil
}

// Stop ends everything and saves the logs if asked to by
// GOWAYPOINT_LAB_ARTIFACTS.
func (l *Lab) Stop() {
	l.stop()
	l.background.Wait()
	if l.istiod != nil {
		l.istiod.stop()
	}
	l.kubernetes.stop()
	if to := os.Getenv(envArtifacts); to != "" {
		for name, from := range map[string]string{"control-plane": logs, "pods": filepath.Join(state, "node", "logs")} {
			if err := copyFiles(from, filepath.Join(to, name), 0o644); err != nil {
				l.logf("saving logs: %v", err)
			}
		}
	}
}

// Apply makes objects be as the YAML says (server-side apply).
func (l *Lab) Apply(ctx context.Context, yaml string) error {
	objects, err := parse([]byte(yaml))
	if err != nil {
		return err
	}
	return l.manifests.apply(ctx, objects...)
}

// Delete takes the objects of the YAML away and waits until they are gone.
func (l *Lab) Delete(ctx context.Context, yaml string) error {
	objects, err := parse([]byte(yaml))
	if err != nil {
		return err
	}
	return l.manifests.delete(ctx, objects...)
}

// IstiodLog returns the end of what istiod has printed.
func (l *Lab) IstiodLog() string { return l.istiod.tail() }

// PodLog returns what a pod has printed; also of one that is gone.
func (l *Lab) PodLog(namespace, name string) (string, error) {
	data, err := os.ReadFile(l.Runner.Log(namespace, name))
	return string(data), err
}

func images() map[string]runner.Image {
	hello := func(version string) runner.Image {
		return runner.Image{
			Files:      map[string]string{"/helloworld": filepath.Join(programs, "helloworld")},
			Entrypoint: []string{"/helloworld"}, Env: []string{"SERVICE_VERSION=" + version},
		}
	}
	agent := "/usr/local/bin/pilot-agent" // the name is part of the contract
	return map[string]runner.Image{
		HelloV1Image: hello("v1"), HelloV2Image: hello("v2"),
		WaypointImage: {
			Files:      map[string]string{agent: filepath.Join(programs, "waypoint")},
			Entrypoint: []string{agent},
		},
	}
}

// hosts stands in for DNS: istiod is the only name that pods look up.
func hosts() string {
	return fmt.Sprintf("%s istiod.istio-system.svc istiod.istio-system.svc.cluster.local istiod.istio-system\n", nodeIP)
}

// copyFiles copies the files, not the folders, of one folder to another.
func copyFiles(from, to string, mode os.FileMode) error {
	files, err := filepath.Glob(filepath.Join(from, "*"))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	var errs []error
	for _, file := range files {
		in, err := os.Open(file)
		if err != nil {
			return err
		}
		out, err := os.OpenFile(filepath.Join(to, filepath.Base(file)), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
		if err == nil {
			_, err = io.Copy(out, in)
			err = errors.Join(err, out.Close())
		}
		errs = append(errs, err, in.Close())
	}
	return errors.Join(errs...)
}
