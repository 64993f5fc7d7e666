package runner

import (
	"context"
	"encoding/json"
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// report writes the pod's status whenever it has changed, until ctx ends.
func (p *pod) report(ctx context.Context) {
	var written corev1.PodStatus
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.changed:
		}
		status := p.status(written)
		if reflect.DeepEqual(status, written) {
			continue
		}
		if err := p.write(ctx, status); err != nil {
			if ctx.Err() == nil && !apierrors.IsNotFound(err) {
				p.r.Logf("status of pod %s/%s: %v", p.namespace, p.name, err)
				sleep(ctx, 200*time.Millisecond)
				p.notify()
			}
			continue
		}
		written = status
	}
}

func (p *pod) write(ctx context.Context, status corev1.PodStatus) error {
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": p.uid}, // not another pod of that name
		"status":   status,
	})
	if err != nil {
		return err
	}
	_, err = p.r.Client.CoreV1().Pods(p.namespace).
		Patch(ctx, p.name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

// remove takes the pod out of the API, after which its name is free again.
func (p *pod) remove(ctx context.Context) {
	var now int64
	uid := p.uid
	err := p.r.Client.CoreV1().Pods(p.namespace).Delete(ctx, p.name, metav1.DeleteOptions{
		GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &uid},
	})
	if err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		p.r.Logf("deleting pod %s/%s: %v", p.namespace, p.name, err)
	}
}

// status describes the pod as it is. Times of conditions that did not turn
// are taken from before.
func (p *pod) status(before corev1.PodStatus) corev1.PodStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	node := p.r.Network.Node().String()
	s := corev1.PodStatus{
		Phase:   corev1.PodPending,
		HostIP:  node,
		HostIPs: []corev1.HostIP{{IP: node}},
	}
	addr := ""
	if p.isMirror {
		addr = node
	} else if p.sandbox != nil {
		addr = p.sandbox.IP.String()
	}
	if addr != "" {
		s.PodIP, s.PodIPs = addr, []corev1.PodIP{{IP: addr}}
	}

	ready, running, done, failed := true, 0, 0, 0
	for _, c := range p.containers {
		status := c.status(p.object)
		s.ContainerStatuses = append(s.ContainerStatuses, status)
		ready = ready && status.Ready
		switch {
		case status.State.Running != nil || status.State.Waiting != nil && c.last != nil:
			running++
		case status.State.Terminated != nil && status.State.Terminated.ExitCode == 0:
			done++
		case status.State.Terminated != nil:
			failed++
		}
	}
	switch n := len(p.containers); {
	case done == n:
		s.Phase = corev1.PodSucceeded
	case done+failed == n:
		s.Phase = corev1.PodFailed
	case done+failed+running == n:
		s.Phase = corev1.PodRunning
	}
	message := ""
	if p.problem != nil {
		message = p.problem.Error()
		s.Message = message
	}
	for _, c := range []struct {
		kind corev1.PodConditionType
		met  bool
	}{
		{corev1.PodScheduled, true},
		{corev1.PodReadyToStartContainers, addr != ""},
		{corev1.PodInitialized, true},
		{corev1.ContainersReady, ready},
		{corev1.PodReady, ready},
	} {
		s.Conditions = append(s.Conditions, condition(c.kind, c.met, message, before.Conditions))
	}
	return s
}

func condition(kind corev1.PodConditionType, met bool, message string, before []corev1.PodCondition) corev1.PodCondition {
	c := corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}
	if !met {
		c.Status, c.Message = corev1.ConditionFalse, message
	}
	for _, b := range before {
		if b.Type == kind && b.Status == c.Status {
			c.LastTransitionTime = b.LastTransitionTime
		}
	}
	return c
}

// status describes the container; the pod's lock is held.
func (c *container) status(object *corev1.Pod) corev1.ContainerStatus {
	s := corev1.ContainerStatus{
		Name: c.spec.Name, Image: c.spec.Image, ImageID: c.spec.Image,
		RestartCount: c.restarts, Ready: c.ready, Started: &c.started,
		ContainerID: "process://" + string(object.UID) + "/" + c.spec.Name,
	}
	started := c.started
	s.Started = &started
	switch {
	case c.pod.isMirror:
		always := true
		s.Ready, s.Started = true, &always
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: object.CreationTimestamp}
	case c.process != nil:
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(c.since)}
	case c.failure != "":
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: "RunContainerError", Message: c.failure}
	case c.last == nil:
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
	case c.pod.stopping || object.Spec.RestartPolicy == corev1.RestartPolicyNever,
		object.Spec.RestartPolicy == corev1.RestartPolicyOnFailure && c.last.ExitCode == 0:
		s.State.Terminated = c.last
	default:
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}
	}
	if s.State.Terminated == nil && c.last != nil {
		s.LastTerminationState.Terminated = c.last
	}
	return s
}
