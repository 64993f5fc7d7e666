{{/*
waypoint.env (dict "w" waypoint "root" $): the container's environment. Its order is that of istiod's template, so that the two can be
laid side by side; then come the variables of `env`. A name is there once, since of two Kubernetes would take the last and a patch by
name the first: proxyMetadata replaces the template's, `env` replaces both.
*/}}
{{- define "waypoint.env" -}}
{{- $metadata := include "waypoint.metadata" .w | fromJson -}}
{{- $own := dict -}}
{{- range .w.env -}}
  {{- if hasKey $own .name -}}{{- fail (printf "waypoints: %s/%s has env %s twice" $.w.namespace $.w.name .name) -}}{{- end -}}
  {{- $_ := set $own .name true -}}
{{- end -}}
{{- $out := list -}}
{{- range include "waypoint.stockEnv" . | fromYamlArray -}}
  {{- if kindIs "string" . -}}{{- fail . -}}{{- end -}}
  {{- if eq .name "proxyMetadata" -}}
    {{- range $name, $value := $metadata -}}
      {{- if not (hasKey $own $name) -}}{{- $out = append $out (dict "name" $name "value" $value) -}}{{- end -}}
    {{- end -}}
  {{- else if not (or (hasKey $metadata .name) (hasKey $own .name)) -}}
    {{- $out = append $out . -}}
  {{- end -}}
{{- end -}}
{{- toYaml (concat $out .w.env) -}}
{{- end -}}

{{- define "waypoint.stockEnv" -}}
{{- $istio := .root.Values.istio -}}
- {name: ISTIO_META_SERVICE_ACCOUNT, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}}
- {name: ISTIO_META_NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
- {name: PILOT_CERT_PROVIDER, value: {{ $istio.pilotCertProvider | quote }}}
- {name: CA_ADDR, value: {{ $istio.caAddress | default (include "waypoint.istiod" .root) | quote }}}
- {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
- {name: INSTANCE_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
- {name: SERVICE_ACCOUNT, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}}
- {name: HOST_IP, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
- {name: ISTIO_CPU_LIMIT, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: "1"}}}
- {name: PROXY_CONFIG, value: {{ include "waypoint.proxyConfig" . | quote }}}
- {name: proxyMetadata}
- {name: GOMEMLIMIT, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: "1"}}}
- {name: GOMAXPROCS, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: "1"}}}
- {name: ISTIO_META_CLUSTER_ID, value: {{ $istio.clusterName | quote }}}
{{- with $istio.network }}
- {name: ISTIO_META_NETWORK, value: {{ . | quote }}}
{{- end }}
- {name: ISTIO_META_INTERCEPTION_MODE, value: REDIRECT}
- {name: ISTIO_META_WORKLOAD_NAME, value: {{ .w.name | quote }}}
- {name: ISTIO_META_OWNER, value: "kubernetes://apis/apps/v1/namespaces/{{ .w.namespace }}/deployments/{{ .w.name }}"}
- {name: ISTIO_META_MESH_ID, value: {{ $istio.meshID | default $istio.trustDomain | quote }}}
- {name: TRUST_DOMAIN, value: {{ $istio.trustDomain | quote }}}
{{- end -}}
