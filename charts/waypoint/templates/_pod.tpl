{{/* waypoint.container (dict "w" waypoint "root" $): the container istio-proxy. istioctl and others know it by that name. */}}
{{- define "waypoint.container" -}}
- name: istio-proxy
  image: {{ include "waypoint.image" . | quote }}
  imagePullPolicy: {{ .w.image.pullPolicy }}
  # 15008 is not declared: kube-proxy does not ask, and ztunnel finds it through the Service.
  ports:
    - {name: metrics, containerPort: 15020, protocol: TCP}
    - {name: status-port, containerPort: 15021, protocol: TCP}
    - {name: http-envoy-prom, containerPort: 15090, protocol: TCP}
  # No command: the image's entry point is the agent.
  args:
    - proxy
    - waypoint
    - --domain
    - $(POD_NAMESPACE).svc.{{ .root.Values.istio.clusterDomain }}
    - --serviceCluster
    - {{ .w.serviceAccount }}.$(POD_NAMESPACE)
    - --proxyLogLevel
    - {{ .w.logging.proxy | quote }}
    - --proxyComponentLogLevel
    - {{ .w.logging.component | quote }}
    - --log_output_level
    - {{ .w.logging.agent | quote }}
    {{- if .w.logging.json }}
    - --log_as_json
    {{- end }}
  env:
    {{- include "waypoint.env" . | nindent 4 }}
  {{- with .w.resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  # Ready within half a minute of its first configuration from istiod, or restarted: then it has a wrong address or token.
  startupProbe:
    httpGet: {path: /healthz/ready, port: 15021, scheme: HTTP}
    initialDelaySeconds: 1
    periodSeconds: 1
    timeoutSeconds: 1
    successThreshold: 1
    failureThreshold: 30
  readinessProbe:
    httpGet: {path: /healthz/ready, port: 15021, scheme: HTTP}
    initialDelaySeconds: 0
    periodSeconds: 15
    timeoutSeconds: 1
    successThreshold: 1
    failureThreshold: 4
  # No liveness probe: a waypoint without istiod goes on with what it has, and a restart would lose that.
  securityContext:
    privileged: false
    {{- if ne .root.Values.istio.platform "openshift" }}
    runAsGroup: 1337
    runAsUser: 1337
    {{- end }}
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    runAsNonRoot: true
    capabilities:
      drop: [ALL]
    {{- with .w.seccompProfile }}
    seccompProfile:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  volumeMounts:
    - {name: workload-socket, mountPath: /var/run/secrets/workload-spiffe-uds}
    - {name: istiod-ca-cert, mountPath: /var/run/secrets/istio}
    - {name: istio-data, mountPath: /var/lib/istio/data}
    - {name: istio-envoy, mountPath: /etc/istio/proxy}
    - {name: istio-token, mountPath: /var/run/secrets/tokens}
    - {name: istio-podinfo, mountPath: /etc/istio/pod}
    {{- with .w.volumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{- define "waypoint.volumes" -}}
- name: workload-socket
  emptyDir: {}
- name: istio-envoy
  emptyDir: {medium: Memory}
# Declared and not mounted in istiod's template either; kept because overlays written for it may mount them.
- name: go-proxy-envoy
  emptyDir: {medium: Memory}
- name: istio-data
  emptyDir: {}
- name: go-proxy-data
  emptyDir: {}
# The pod's labels and annotations go to istiod as node metadata.
- name: istio-podinfo
  downwardAPI:
    items:
      - path: labels
        fieldRef: {fieldPath: metadata.labels}
      - path: annotations
        fieldRef: {fieldPath: metadata.annotations}
# The credential towards istiod. The kubelet renews it before it ends.
- name: istio-token
  projected:
    sources:
      - serviceAccountToken: {audience: istio-ca, expirationSeconds: 43200, path: istio-token}
- name: istiod-ca-cert
  {{- $bundle := .root.Values.istio.trustBundleName }}
  {{- if .root.Values.istio.clusterTrustBundle }}
  projected:
    sources:
      - clusterTrustBundle:
          name: istio.io:istiod-ca:{{ $bundle | default "root-cert" }}
          path: root-cert.pem
  {{- else }}
  configMap:
    name: {{ $bundle | default "istio-ca-root-cert" }}
  {{- end }}
{{- with .w.volumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
