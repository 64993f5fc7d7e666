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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// mirror marks a pod whose process the runner did not start and does not end:
// it is only represented, with the node's own address. (A kubelet shows its
// static pods this way.)
const mirror = corev1.MirrorPodAnnotationKey

// Runner is the kubelet of one node. Fill in the fields, then call Run once.
type Runner struct {
	Client  kubernetes.Interface
	Node    string // name of the node; every pod without a node is bound to it
	Network *Network
	// Dir is where root folders, volumes and logs are kept; it has to be
	// on a file system that can be bind-mounted.
	Dir string
	// Images by the exact text of the pod's image field.
	Images map[string]Image
	// Hosts are lines for the pods' /etc/hosts: there is no DNS.
	Hosts string
	// Attach, if set, is called when a pod has its network and before its
	// containers start, again and again until it succeeds; the function that
	// it returns with success is called when they have ended. What CNI plugin
	// and node proxy do belongs here.
	Attach func(context.Context, *corev1.Pod, *Sandbox) (detach func(), err error)
	Logf   func(format string, args ...any)

	mu   sync.Mutex
	pods map[types.UID]*pod
	past map[string]Exit // by namespace/name; the last exit of each pod's first container
	wg   sync.WaitGroup
}

// Exit tells how a container's process ended.
type Exit struct {
	Code  int           // 128+n for signal n
	Asked time.Time     // when it got SIGTERM because its pod was deleted; zero if it ended by itself
	Took  time.Duration // from then to the end
}

// Run serves until ctx ends, then kills what still runs. It registers the
// node first.
func (r *Runner) Run(ctx context.Context) error {
	r.mu.Lock()
	r.pods, r.past = map[types.UID]*pod{}, map[string]Exit{}
	r.mu.Unlock()
	defer r.wg.Wait()

	port, err := r.serveKubelet(ctx)
	if err != nil {
		return err
	}
	if err := r.register(ctx, port); err != nil {
		return fmt.Errorf("registering node %s: %w", r.Node, err)
	}
	factory := informers.NewSharedInformerFactory(r.Client, 0)
	informer := factory.Core().V1().Pods().Informer()
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { r.observe(ctx, o) },
		UpdateFunc: func(_, o any) { r.observe(ctx, o) },
		DeleteFunc: func(o any) { r.forget(o) },
	}); err != nil {
		return err
	}
	factory.Start(ctx.Done())
	<-ctx.Done()
	factory.Shutdown()
	return nil
}

// LastExit tells how the main process of a pod last ended; also of a pod that
// is gone.
func (r *Runner) LastExit(namespace, name string) (Exit, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.past[namespace+"/"+name]
	return e, ok
}

// Log returns the file with what the containers of a pod have printed; it
// outlives the pod.
func (r *Runner) Log(namespace, name string) string {
	return filepath.Join(r.Dir, "logs", namespace+"_"+name+".log")
}

// Sandbox returns the network of a running pod.
func (r *Runner) Sandbox(namespace, name string) (*Sandbox, error) {
	p := r.find(namespace, name)
	if p == nil {
		return nil, fmt.Errorf("pod %s/%s does not run here", namespace, name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sandbox == nil {
		return nil, fmt.Errorf("pod %s/%s has no network yet", namespace, name)
	}
	return p.sandbox, nil
}

// Kill ends, as an accident would, the main process of a pod's first
// container; it is then restarted like any that ended.
func (r *Runner) Kill(namespace, name string) error {
	p := r.find(namespace, name)
	if p == nil {
		return fmt.Errorf("pod %s/%s does not run here", namespace, name)
	}
	return p.containers[0].killProcess()
}

func (r *Runner) find(namespace, name string) *pod {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.pods {
		if p.namespace == namespace && p.name == name {
			return p
		}
	}
	return nil
}

func (r *Runner) register(ctx context.Context, kubeletPort int) error {
	node, err := r.Client.CoreV1().Nodes().Create(ctx, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: r.Node, Labels: map[string]string{corev1.LabelHostname: r.Node}},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	node.Status = corev1.NodeStatus{
		Capacity: allocatable, Allocatable: allocatable,
		Conditions: []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady",
			LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now(),
		}},
		Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: r.Network.Node().String()},
			{Type: corev1.NodeHostName, Address: r.Node},
		},
		DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: int32(kubeletPort)}},
	}
	_, err = r.Client.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{})
	return err
}

// observe is told of every pod, new or changed.
func (r *Runner) observe(ctx context.Context, object any) {
	seen, ok := object.(*corev1.Pod)
	if !ok || ctx.Err() != nil {
		return
	}
	if seen.Spec.NodeName == "" {
		r.wg.Go(func() { r.bind(ctx, seen) })
		return
	}
	if seen.Spec.NodeName != r.Node {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.pods[seen.UID]; p != nil {
		p.update(seen)
		return
	}
	if seen.Status.Phase == corev1.PodSucceeded || seen.Status.Phase == corev1.PodFailed {
		return
	}
	p := newPod(r, seen)
	p.update(seen) // it may be on its way out already
	r.pods[seen.UID] = p
	r.wg.Go(func() {
		p.run(ctx)
		r.mu.Lock()
		delete(r.pods, seen.UID)
		r.mu.Unlock()
	})
}

// forget is told of pods that are gone from the API, which for a running one
// means that it was deleted by force.
func (r *Runner) forget(object any) {
	if tombstone, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = tombstone.Obj
	}
	gone, ok := object.(*corev1.Pod)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.pods[gone.UID]; p != nil {
		p.stop(0)
	}
}

// bind does what a scheduler would.
func (r *Runner) bind(ctx context.Context, p *corev1.Pod) {
	err := r.Client.CoreV1().Pods(p.Namespace).Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: p.Name, UID: p.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: r.Node},
	}, metav1.CreateOptions{})
	if err != nil && ctx.Err() == nil {
		// It may have been deleted or bound meanwhile; if not, the next
		// change of the pod brings us here again.
		r.Logf("binding pod %s/%s: %v", p.Namespace, p.Name, err)
	}
}

// openLog opens the log of a pod for appending.
func (r *Runner) openLog(namespace, name string) (*os.File, error) {
	file := r.Log(namespace, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
}

// image finds what stands in for an image.
func (r *Runner) image(name string) (Image, error) {
	image, ok := r.Images[name]
	if !ok {
		return Image{}, fmt.Errorf("image %q is not known to the pod runner", name)
	}
	if len(image.Entrypoint) == 0 {
		return Image{}, errors.New("image " + name + " has no entrypoint")
	}
	return image, nil
}
