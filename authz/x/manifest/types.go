package manifest

// The parts of the Kubernetes API that are read. Fields of type inert, and the names in `others`, are accepted and not looked at.

type head struct {
	APIVersion string     `json:"apiVersion"`
	Kind       string     `json:"kind"`
	Metadata   objectMeta `json:"metadata"`
	Spec       *node      `json:"spec"`
	Status     inert      `json:"status"`
}

type objectMeta struct {
	Name            string            `json:"name"`
	Namespace       string            `json:"namespace"`
	Labels          map[string]string `json:"labels"`
	Annotations     map[string]string `json:"annotations"`
	OwnerReferences []ownerReference  `json:"ownerReferences"`

	_ inert `others:"generateName uid resourceVersion generation creationTimestamp deletionTimestamp deletionGracePeriodSeconds selfLink finalizers managedFields"`
}

type ownerReference struct {
	Kind string `json:"kind"`
	Name string `json:"name"`

	_ inert `others:"apiVersion uid controller blockOwnerDeletion"`
}

type namespaceSpec struct {
	Finalizers inert `json:"finalizers"`
}

type serviceSpec struct {
	ClusterIP string            `json:"clusterIP"`
	Type      string            `json:"type"`
	Selector  map[string]string `json:"selector"`
	Ports     []servicePort     `json:"ports"`

	_ inert `others:"clusterIPs externalIPs sessionAffinity sessionAffinityConfig loadBalancerIP loadBalancerSourceRanges externalName externalTrafficPolicy healthCheckNodePort publishNotReadyAddresses ipFamilies ipFamilyPolicy allocateLoadBalancerNodePorts loadBalancerClass internalTrafficPolicy trafficDistribution"`
}

type servicePort struct {
	Name        string `json:"name"`
	Protocol    string `json:"protocol"`
	AppProtocol string `json:"appProtocol"`
	Port        uint16 `json:"port"`

	_ inert `others:"targetPort nodePort"`
}

type gatewaySpec struct {
	GatewayClassName string `json:"gatewayClassName"`

	_ inert `others:"listeners addresses infrastructure backendTLS tls allowedListeners defaultScope"`
}

type podSpec struct {
	ServiceAccountName string      `json:"serviceAccountName"`
	ServiceAccount     string      `json:"serviceAccount"` // the old name of the same
	Containers         []container `json:"containers"`
	InitContainers     []container `json:"initContainers"`
	HostNetwork        bool        `json:"hostNetwork"`

	_ inert `others:"volumes ephemeralContainers restartPolicy terminationGracePeriodSeconds activeDeadlineSeconds dnsPolicy nodeSelector automountServiceAccountToken nodeName hostPID hostIPC shareProcessNamespace securityContext imagePullSecrets hostname subdomain affinity schedulerName tolerations hostAliases priorityClassName priority dnsConfig readinessGates runtimeClassName enableServiceLinks preemptionPolicy overhead topologySpreadConstraints setHostnameAsFQDN os hostUsers schedulingGates resourceClaims resources hostnameOverride workloadRef schedulingGroup"`
}

type container struct {
	Name string `json:"name"`

	_ inert `others:"image imagePullPolicy command args workingDir ports envFrom env resources resizePolicy restartPolicy restartPolicyRules volumeMounts volumeDevices livenessProbe readinessProbe startupProbe lifecycle terminationMessagePath terminationMessagePolicy securityContext stdin stdinOnce tty"`
}

type podTemplate struct {
	Metadata objectMeta `json:"metadata"`
	Spec     podSpec    `json:"spec"`
}

// workloadSpec is the spec of what makes pods by a template: Deployment, ReplicaSet, StatefulSet, DaemonSet and Job.
type workloadSpec struct {
	Template podTemplate `json:"template"`

	_ inert `others:"replicas selector strategy updateStrategy minReadySeconds revisionHistoryLimit paused progressDeadlineSeconds serviceName podManagementPolicy volumeClaimTemplates persistentVolumeClaimRetentionPolicy ordinals parallelism completions activeDeadlineSeconds podFailurePolicy successPolicy backoffLimit backoffLimitPerIndex maxFailedIndexes manualSelector ttlSecondsAfterFinished completionMode suspend podReplacementPolicy managedBy"`
}

type cronJobSpec struct {
	JobTemplate struct {
		Metadata objectMeta   `json:"metadata"`
		Spec     workloadSpec `json:"spec"`
	} `json:"jobTemplate"`

	_ inert `others:"schedule timeZone startingDeadlineSeconds concurrencyPolicy suspend successfulJobsHistoryLimit failedJobsHistoryLimit"`
}
