package manifests

// The parts of the Kubernetes API that the demo reads. Fields of type inert are accepted and have no effect here.

// head is the part that all documents share; the rest is in spec.
type head struct {
	APIVersion string     `json:"apiVersion"`
	Kind       string     `json:"kind"`
	Metadata   objectMeta `json:"metadata"`
	Spec       rawJSON    `json:"spec"`
	Status     inert      `json:"status"`

	AutomountServiceAccountToken inert `json:"automountServiceAccountToken"` // of a ServiceAccount
}

type rawJSON []byte

func (r *rawJSON) UnmarshalJSON(b []byte) error {
	*r = append((*r)[:0], b...)
	return nil
}

type objectMeta struct {
	Name        string            `json:"name"`
	Namespace   string            `json:"namespace"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`

	// What an API server adds.
	UID               inert `json:"uid"`
	ResourceVersion   inert `json:"resourceVersion"`
	Generation        inert `json:"generation"`
	CreationTimestamp inert `json:"creationTimestamp"`
	ManagedFields     inert `json:"managedFields"`
}

type namespaceSpec struct {
	Finalizers inert `json:"finalizers"`
}

type serviceSpec struct {
	ClusterIP string            `json:"clusterIP"`
	Type      string            `json:"type"`
	Selector  map[string]string `json:"selector"`
	Ports     []servicePort     `json:"ports"`

	SessionAffinity inert `json:"sessionAffinity"` // kube-proxy's; a waypoint balances by itself
	IPFamilyPolicy  inert `json:"ipFamilyPolicy"`
}

type servicePort struct {
	Name        string      `json:"name"`
	Protocol    string      `json:"protocol"`
	AppProtocol string      `json:"appProtocol"`
	Port        uint16      `json:"port"`
	TargetPort  intOrString `json:"targetPort"`
}

type deploymentSpec struct {
	Replicas *int          `json:"replicas"`
	Selector labelSelector `json:"selector"`
	Template podTemplate   `json:"template"`

	Strategy             inert `json:"strategy"`
	RevisionHistoryLimit inert `json:"revisionHistoryLimit"`
}

type labelSelector struct {
	MatchLabels map[string]string `json:"matchLabels"`
}

type podTemplate struct {
	Metadata objectMeta `json:"metadata"`
	Spec     podSpec    `json:"spec"`
}

type podSpec struct {
	ServiceAccountName string      `json:"serviceAccountName"`
	ServiceAccount     string      `json:"serviceAccount"` // the old name of the same
	Containers         []container `json:"containers"`

	// How a real pod would be run and scheduled.
	TerminationGracePeriodSeconds inert `json:"terminationGracePeriodSeconds"`
	Volumes                       inert `json:"volumes"`
	NodeSelector                  inert `json:"nodeSelector"`
	Tolerations                   inert `json:"tolerations"`
	Affinity                      inert `json:"affinity"`
	SecurityContext               inert `json:"securityContext"`
	RestartPolicy                 inert `json:"restartPolicy"`
	DNSPolicy                     inert `json:"dnsPolicy"`
}

type container struct {
	Name  string          `json:"name"`
	Ports []containerPort `json:"ports"`

	// What a real container would run: the demo runs its own program.
	Image           inert `json:"image"`
	ImagePullPolicy inert `json:"imagePullPolicy"`
	Command         inert `json:"command"`
	Args            inert `json:"args"`
	Env             inert `json:"env"`
	Resources       inert `json:"resources"`
	VolumeMounts    inert `json:"volumeMounts"`
	LivenessProbe   inert `json:"livenessProbe"`
	ReadinessProbe  inert `json:"readinessProbe"`
	StartupProbe    inert `json:"startupProbe"`
	SecurityContext inert `json:"securityContext"`
}

type containerPort struct {
	Name          string `json:"name"`
	ContainerPort uint16 `json:"containerPort"`
	Protocol      string `json:"protocol"`
}

type gatewaySpec struct {
	GatewayClassName string            `json:"gatewayClassName"`
	Listeners        []gatewayListener `json:"listeners"`
}

type gatewayListener struct {
	Name     string `json:"name"`
	Port     uint16 `json:"port"`
	Protocol string `json:"protocol"`

	AllowedRoutes inert `json:"allowedRoutes"` // mesh routes have Services as parents
}
