package runner

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Restarts wait longer and longer, as a kubelet's do, but in the time of a test.
const (
	firstBackoff = 500 * time.Millisecond
	maxBackoff   = 5 * time.Second
)

// container is one container of a pod. Its fields below spec are guarded by
// the pod's lock.
type container struct {
	pod  *pod
	spec *corev1.Container

	process  *process
	since    time.Time // of the process or, without one, of its end
	started  bool      // the startup probe has succeeded
	ready    bool
	restarts int32
	last     *corev1.ContainerStateTerminated
	failure  string // why it could not be started
}

func (c *container) root() string { return filepath.Join(c.pod.dir, "roots", c.spec.Name) }

// supervise runs the container, again and again as the pod's restart policy
// says, until the pod is to stop.
func (c *container) supervise(ctx context.Context) {
	for backoff := firstBackoff; ; backoff = min(2*backoff, maxBackoff) {
		code, err := c.runOnce(ctx)
		if err != nil {
			c.pod.r.Logf("pod %s/%s: container %s: %v", c.pod.namespace, c.pod.name, c.spec.Name, err)
		}
		policy := c.pod.facts().pod.Spec.RestartPolicy
		again := policy == corev1.RestartPolicyAlways || policy == corev1.RestartPolicyOnFailure && (code != 0 || err != nil)
		if !again {
			select {
			case <-ctx.Done():
			case <-c.pod.stopped:
			}
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-c.pod.stopped:
			return
		case <-time.After(backoff):
		}
		c.pod.mu.Lock()
		c.restarts++
		c.pod.mu.Unlock()
	}
}

// runOnce starts the container's process and returns when it has ended, by
// itself or because the pod stops or a probe has given it up.
func (c *container) runOnce(ctx context.Context) (code int, err error) {
	p, err := c.start()
	c.pod.mu.Lock()
	c.process, c.since, c.failure = p, time.Now(), ""
	if err != nil {
		c.failure = err.Error()
	}
	c.pod.mu.Unlock()
	c.pod.notify()
	if err != nil {
		return 0, err
	}

	probing, cancel := context.WithCancel(ctx)
	defer cancel()
	unhealthy := c.probe(probing)
	var exit Exit
	select {
	case <-p.done:
	case <-ctx.Done():
		p.kill()
	case err = <-unhealthy:
		c.pod.r.Logf("pod %s/%s: restarting container %s: %v", c.pod.namespace, c.pod.name, c.spec.Name, err)
		c.terminate(p, time.Duration(corev1.DefaultTerminationGracePeriodSeconds)*time.Second)
	case <-c.pod.stopped:
		began := time.Now()
		c.pod.mu.Lock()
		grace := c.pod.grace
		c.pod.mu.Unlock()
		c.terminate(p, grace)
		exit = Exit{Asked: began, Took: time.Since(began)}
	}
	<-p.done
	exit.Code = p.code
	c.ended(exit)
	return p.code, err
}

// terminate asks the process to end, and ends it when the grace period is over.
func (c *container) terminate(p *process, grace time.Duration) {
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(grace):
		p.kill()
	}
}

// ended records the end of the process.
func (c *container) ended(exit Exit) {
	now := time.Now()
	if c == c.pod.containers[0] {
		c.pod.r.mu.Lock()
		c.pod.r.past[c.pod.namespace+"/"+c.pod.name] = exit
		c.pod.r.mu.Unlock()
	}
	c.pod.mu.Lock()
	reason := "Completed"
	if exit.Code != 0 {
		reason = "Error"
	}
	c.last = &corev1.ContainerStateTerminated{
		ExitCode: int32(exit.Code), Reason: reason,
		StartedAt: metav1.NewTime(c.since), FinishedAt: metav1.NewTime(now),
	}
	c.process, c.since, c.started, c.ready = nil, now, false, false
	c.pod.mu.Unlock()
	c.pod.notify()
}

// probe runs the container's probes and keeps its readiness. The channel
// yields the reason when the container has to be restarted.
func (c *container) probe(ctx context.Context) <-chan error {
	restart := make(chan error, 1)
	giveUp := func(err error) {
		select {
		case restart <- err:
		default:
		}
	}
	ip := c.pod.facts().podIP.String()
	set := func(field *bool, value bool) {
		c.pod.mu.Lock()
		*field = value
		c.pod.mu.Unlock()
		c.pod.notify()
	}
	afterStart := func() {
		set(&c.started, true)
		if probe := c.spec.ReadinessProbe; probe != nil {
			go watchProbe(ctx, probe, ip, c.spec, func(healthy bool, _ error) { set(&c.ready, healthy) })
		} else {
			set(&c.ready, true)
		}
		if probe := c.spec.LivenessProbe; probe != nil {
			go watchProbe(ctx, probe, ip, c.spec, func(healthy bool, err error) {
				if !healthy {
					giveUp(fmt.Errorf("liveness probe failed: %w", err))
				}
			})
		}
	}
	if probe := c.spec.StartupProbe; probe != nil {
		starting, started := context.WithCancel(ctx)
		go watchProbe(starting, probe, ip, c.spec, func(healthy bool, err error) {
			started() // either way the probe has done its work
			if healthy {
				afterStart()
			} else {
				giveUp(fmt.Errorf("startup probe failed: %w", err))
			}
		})
	} else {
		afterStart()
	}
	return restart
}

// start builds the root folder anew and starts the process in it.
func (c *container) start() (*process, error) {
	spec, err := c.prepare()
	if err != nil {
		return nil, err
	}
	log, err := c.pod.r.openLog(c.pod.namespace, c.pod.name)
	if err != nil {
		return nil, err
	}
	p, err := spec.start(c.pod.sandbox, nil, log, log)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	go func() {
		<-p.done
		_ = log.Close() // all has been written by then
	}()
	return p, nil
}

// prepare works out what is to run, and mounts its root folder.
func (c *container) prepare() (spec, error) {
	image, err := c.pod.r.image(c.spec.Image)
	if err != nil {
		return spec{}, err
	}
	f := c.pod.facts()
	env, lookup, err := c.environment(f, image)
	if err != nil {
		return spec{}, err
	}
	s := spec{root: c.root(), env: env, dir: c.spec.WorkingDir}
	if s.dir == "" {
		s.dir = "/"
	}
	s.uid, s.gid = user(f.pod, c.spec)
	words := image.Entrypoint
	if len(c.spec.Command) > 0 {
		words = c.spec.Command
	}
	for _, word := range words {
		s.argv = append(s.argv, expand(word, lookup))
	}
	for _, word := range c.spec.Args {
		s.argv = append(s.argv, expand(word, lookup))
	}

	if err := unmountRoot(s.root); err != nil {
		return spec{}, err
	}
	volumes := map[string]string{}
	for _, v := range f.pod.Spec.Volumes {
		volumes[v.Name] = c.pod.volume(v.Name)
	}
	hosts := c.pod.r.Hosts + fmt.Sprintf("%s %s\n", f.podIP, f.pod.Name)
	return s, mountRoot(s.root, image, c.spec, volumes, hosts)
}

// environment resolves the container's variables in their order; later ones
// can use earlier ones.
func (c *container) environment(f facts, image Image) (env []string, lookup func(string) (string, bool), err error) {
	if len(c.spec.EnvFrom) > 0 {
		return nil, nil, errors.New("envFrom is not known to the pod runner")
	}
	values := map[string]string{}
	lookup = func(name string) (string, bool) { v, ok := values[name]; return v, ok }
	env = append([]string{defaultPath, "HOSTNAME=" + f.pod.Name, "HOME=/"}, image.Env...)
	for _, e := range c.spec.Env {
		value := expand(e.Value, lookup)
		if from := e.ValueFrom; from != nil {
			switch {
			case from.FieldRef != nil:
				value, err = f.field(from.FieldRef.FieldPath)
			case from.ResourceFieldRef != nil:
				value, err = f.resource(c.spec, from.ResourceFieldRef)
			default:
				err = errors.New("only fieldRef and resourceFieldRef are known to the pod runner")
			}
			if err != nil {
				return nil, nil, fmt.Errorf("env %s: %w", e.Name, err)
			}
		}
		values[e.Name] = value
		env = append(env, e.Name+"="+value)
	}
	// A process given a variable twice takes whichever it likes: keep the last.
	return dedupe(env), lookup, nil
}

func dedupe(env []string) []string {
	last := map[string]int{}
	for i, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		last[name] = i
	}
	kept := env[:0:0]
	for i, kv := range env {
		if name, _, _ := strings.Cut(kv, "="); last[name] == i {
			kept = append(kept, kv)
		}
	}
	return kept
}

func (c *container) killProcess() error {
	c.pod.mu.Lock()
	defer c.pod.mu.Unlock()
	if c.process == nil {
		return fmt.Errorf("container %s does not run", c.spec.Name)
	}
	c.process.kill()
	return nil
}
