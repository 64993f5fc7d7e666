package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// refreshEvery is how often volumes are compared with what the API holds. (A
// kubelet takes about a minute; tests do not want to wait for that.)
const refreshEvery = 2 * time.Second

// pod is one pod of the node from its binding to its removal.
type pod struct {
	r               *Runner
	namespace, name string
	uid             types.UID
	isMirror        bool
	dir             string
	containers      []*container
	changed         chan struct{} // capacity 1: the status has to be written

	mu       sync.Mutex
	object   *corev1.Pod // as last seen in the API
	sandbox  *Sandbox
	problem  error // why it cannot start
	stopping bool
	grace    time.Duration
	stopped  chan struct{} // closed when stopping turns true
}

func newPod(r *Runner, object *corev1.Pod) *pod {
	_, isMirror := object.Annotations[mirror]
	p := &pod{
		r: r, namespace: object.Namespace, name: object.Name, uid: object.UID, isMirror: isMirror, object: object,
		dir:     filepath.Join(r.Dir, "pods", string(object.UID)),
		changed: make(chan struct{}, 1),
		stopped: make(chan struct{}),
	}
	for i := range object.Spec.Containers {
		p.containers = append(p.containers, &container{pod: p, spec: &object.Spec.Containers[i]})
	}
	return p
}

// update takes over what the API says now.
func (p *pod) update(object *corev1.Pod) {
	p.mu.Lock()
	p.object = object
	p.mu.Unlock()
	if object.DeletionTimestamp != nil {
		grace := int64(corev1.DefaultTerminationGracePeriodSeconds)
		if object.DeletionGracePeriodSeconds != nil {
			grace = *object.DeletionGracePeriodSeconds
		}
		p.stop(time.Duration(grace) * time.Second)
	}
}

func (p *pod) stop(grace time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stopping {
		p.stopping, p.grace = true, grace
		close(p.stopped)
	}
}

// facts returns the pod as the downward API sees it now.
func (p *pod) facts() facts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return facts{pod: p.object, podIP: p.sandbox.IP, hostIP: p.r.Network.Node()}
}

func (p *pod) notify() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// run is the life of the pod. It returns when the pod is gone from the API, or
// when ctx ends; then processes are killed and the API is left alone.
func (p *pod) run(ctx context.Context) {
	reporting, stopReporting := context.WithCancel(ctx)
	var reports sync.WaitGroup
	reports.Go(func() { p.report(reporting) })

	if p.isMirror {
		p.notify()
		select {
		case <-ctx.Done():
		case <-p.stopped:
		}
	} else {
		p.runContainers(ctx)
	}
	stopReporting()
	reports.Wait()
	if ctx.Err() == nil {
		p.remove(ctx)
	}
}

// runContainers sets the pod up, runs its containers until it is to stop, and
// clears everything away.
func (p *pod) runContainers(ctx context.Context) {
	defer func() {
		if err := p.tearDown(); err != nil {
			p.r.Logf("removing pod %s/%s: %v", p.namespace, p.name, err)
		}
	}()

	// Things a pod needs may come later than the pod, such as a ConfigMap
	// that istiod writes into a new namespace: try until it works.
	working, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-p.stopped:
			cancel()
		case <-working.Done():
		}
	}()
	source := &volumeSource{client: p.r.Client, tokens: map[string][]byte{}}
	detach := func() {}
	defer func() { detach() }()
	for {
		err := p.setUp(working, source)
		if err == nil && p.r.Attach != nil {
			var undo func()
			if undo, err = p.r.Attach(working, p.facts().pod, p.sandbox); err == nil && undo != nil {
				detach = undo
			}
		}
		p.mu.Lock()
		p.problem = err
		p.mu.Unlock()
		p.notify()
		if err == nil {
			break
		}
		if !sleep(working, 500*time.Millisecond) {
			return
		}
	}
	go p.refresh(working, source)

	var running sync.WaitGroup
	for _, c := range p.containers {
		running.Go(func() { c.supervise(ctx) })
	}
	running.Wait()
}

// setUp makes the network and the volumes; it can be called again after an error.
func (p *pod) setUp(ctx context.Context, source *volumeSource) error {
	p.mu.Lock()
	object, sandbox := p.object, p.sandbox
	p.mu.Unlock()
	if len(object.Spec.InitContainers) > 0 || object.Spec.HostNetwork {
		return errors.New("init containers and hostNetwork are not known to the pod runner")
	}
	for _, c := range p.containers {
		if _, err := p.r.image(c.spec.Image); err != nil {
			return err
		}
		if c.spec.Lifecycle != nil {
			return errors.New("lifecycle hooks are not known to the pod runner")
		}
		for _, probe := range []*corev1.Probe{c.spec.StartupProbe, c.spec.ReadinessProbe, c.spec.LivenessProbe} {
			if err := checkProbe(probe); err != nil {
				return err
			}
		}
	}
	if sandbox == nil {
		var err error
		if sandbox, err = p.r.Network.Add(); err != nil {
			return err
		}
		p.mu.Lock()
		p.sandbox = sandbox
		p.mu.Unlock()
	}
	return p.fillVolumes(ctx, source, 0)
}

// fillVolumes writes every volume that is not up to date.
func (p *pod) fillVolumes(ctx context.Context, source *volumeSource, generation int) error {
	source.facts = p.facts()
	for _, v := range source.facts.pod.Spec.Volumes {
		dir := p.volume(v.Name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		files, err := source.read(ctx, v.VolumeSource)
		if err != nil {
			return fmt.Errorf("volume %q: %w", v.Name, err)
		}
		if files == nil { // an emptyDir: for whoever the container runs as
			err = os.Chmod(dir, 0o777)
		} else {
			err = publish(dir, files, generation)
		}
		if err != nil {
			return fmt.Errorf("volume %q: %w", v.Name, err)
		}
	}
	return nil
}

func (p *pod) volume(name string) string { return filepath.Join(p.dir, "volumes", name) }

// refresh keeps volumes like the API objects they are made from.
func (p *pod) refresh(ctx context.Context, source *volumeSource) {
	for generation := 1; sleep(ctx, refreshEvery); generation++ {
		if err := p.fillVolumes(ctx, source, generation); err != nil && ctx.Err() == nil {
			p.r.Logf("refreshing pod %s/%s: %v", p.namespace, p.name, err)
		}
	}
}

// tearDown removes what setUp and the containers made.
func (p *pod) tearDown() error {
	var errs []error
	for _, c := range p.containers {
		errs = append(errs, unmountRoot(c.root()))
	}
	p.mu.Lock()
	sandbox := p.sandbox
	p.mu.Unlock()
	if sandbox != nil {
		errs = append(errs, sandbox.Remove())
	}
	if err := errors.Join(errs...); err != nil {
		return err // something is still mounted: remove nothing below it
	}
	return os.RemoveAll(p.dir)
}
