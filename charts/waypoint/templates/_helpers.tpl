{{/*
waypoint.list: the waypoints with their defaults filled in, as a JSON list, after the checks that a JSON schema cannot make.
*/}}
{{- define "waypoint.list" -}}
{{- $list := list -}}
{{- $names := dict -}}
{{- $accounts := dict -}}
{{- $own := dict "namespace" "" "serviceAccount" "" "createServiceAccount" true "servesServiceAccount" "" -}}
{{- $defaults := merge $own .Values.defaults -}}
{{- range .Values.waypoints -}}
  {{- $w := include "waypoint.merge" (list $defaults .) | fromJson -}}
  {{- $_ := set $w "namespace" ($w.namespace | default $.Release.Namespace) -}}
  {{- $_ := set $w "serviceAccount" ($w.serviceAccount | default $w.name) -}}
  {{- $id := printf "%s/%s" $w.namespace $w.name -}}

  {{- if hasKey $names $id -}}
    {{- fail (printf "waypoints: %s is listed twice; give each waypoint of a namespace its own name" $id) -}}
  {{- end -}}
  {{- $_ := set $names $id true -}}

  {{- $account := printf "%s/%s" $w.namespace $w.serviceAccount -}}
  {{- if and $w.createServiceAccount (hasKey $accounts $account) -}}
    {{- fail (printf "waypoints: %s and %s both create service account %s; set createServiceAccount: false on one" (get $accounts $account) $id $account) -}}
  {{- end -}}
  {{- if $w.createServiceAccount -}}{{- $_ := set $accounts $account $id -}}{{- end -}}

  {{- if $w.servesServiceAccount -}}
    {{- if eq $w.servesServiceAccount $w.serviceAccount -}}
      {{- fail (printf "waypoints: %s runs as the account it serves, %s: it could not be told from its workloads; give it a serviceAccount of its own" $id $account) -}}
    {{- end -}}
    {{- if eq $w.for "service" -}}
      {{- fail (printf "waypoints: %s has servesServiceAccount and for: service; an account has pods, not Services: set for: workload or for: all" $id) -}}
    {{- end -}}
  {{- end -}}

  {{- $drain := ternary $w.drain.minimumDrainSeconds $w.drain.terminationDrainSeconds $w.drain.exitOnZeroActiveConnections -}}
  {{- if ge (int $drain) (int $w.drain.terminationGracePeriodSeconds) -}}
    {{- fail (printf "waypoints: %s drains for %d s and is killed after drain.terminationGracePeriodSeconds, %d s; make that longer" $id (int $drain) (int $w.drain.terminationGracePeriodSeconds)) -}}
  {{- end -}}

  {{- if and $w.hpa.enabled (gt (int $w.hpa.minReplicas) (int $w.hpa.maxReplicas)) -}}
    {{- fail (printf "waypoints: %s has hpa.minReplicas %d above hpa.maxReplicas %d" $id (int $w.hpa.minReplicas) (int $w.hpa.maxReplicas)) -}}
  {{- end -}}

  {{- if $w.pdb.enabled -}}
    {{- if and (hasKey $w.pdb "minAvailable") (hasKey $w.pdb "maxUnavailable") -}}
      {{- fail (printf "waypoints: %s has pdb.minAvailable and pdb.maxUnavailable; a PodDisruptionBudget takes one" $id) -}}
    {{- end -}}
    {{- $pods := ternary $w.hpa.minReplicas $w.replicas $w.hpa.enabled -}}
    {{- if and (hasKey $w.pdb "minAvailable") (not (kindIs "string" $w.pdb.minAvailable)) (ge (int $w.pdb.minAvailable) (int $pods)) -}}
      {{- fail (printf "waypoints: %s has %d pods and pdb.minAvailable %d: no node that runs one could be drained; use more pods or maxUnavailable" $id (int $pods) (int $w.pdb.minAvailable)) -}}
    {{- end -}}
  {{- end -}}

  {{- $list = append $list $w -}}
{{- end -}}
{{- toJson $list -}}
{{- end -}}

{{/*
waypoint.merge (list base overlay): overlay on base, as JSON. Objects are merged, all else is replaced. Sprig's mergeOverwrite does
not do: it takes false, 0 and "" in the overlay for "not given".
*/}}
{{- define "waypoint.merge" -}}
{{- $out := deepCopy (index . 0) -}}
{{- range $key, $value := index . 1 -}}
  {{- if and (kindIs "map" $value) (kindIs "map" (get $out $key)) -}}
    {{- $value = include "waypoint.merge" (list (get $out $key) $value) | fromJson -}}
  {{- end -}}
  {{- $_ := set $out $key $value -}}
{{- end -}}
{{- toJson $out -}}
{{- end -}}

{{/*
waypoint.labels (dict "w" waypoint "root" $): labels of the objects, not of the pods, which would be replaced whenever the chart's version changes.
*/}}
{{- define "waypoint.labels" -}}
gateway.networking.k8s.io/gateway-name: {{ .w.name | quote }}
gateway.networking.k8s.io/gateway-class-name: istio-waypoint
{{- with .root.Values.istio.network }}
topology.istio.io/network: {{ . | quote }}
{{- end }}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "waypoint.image" -}}
{{- $i := .w.image -}}
{{- $i.repository }}:{{ $i.tag | default .root.Chart.AppVersion }}{{ with $i.digest }}@{{ . }}{{ end }}
{{- end -}}

{{/* waypoint.istiod: host:port of istiod, for xDS and certificates alike. */}}
{{- define "waypoint.istiod" -}}
istiod{{ with .Values.istio.revision }}-{{ . }}{{ end }}.{{ .Values.istio.namespace }}.svc:15012
{{- end -}}

{{/* waypoint.metadata: proxyMetadata with the drain settings that are metadata too, as JSON. */}}
{{- define "waypoint.metadata" -}}
{{- $metadata := deepCopy .proxyMetadata -}}
{{- if .drain.exitOnZeroActiveConnections -}}
  {{- $_ := set $metadata "EXIT_ON_ZERO_ACTIVE_CONNECTIONS" "true" -}}
  {{- $_ := set $metadata "MINIMUM_DRAIN_DURATION" (printf "%ds" (int .drain.minimumDrainSeconds)) -}}
{{- end -}}
{{- toJson $metadata -}}
{{- end -}}

{{/* waypoint.proxyConfig: env PROXY_CONFIG. */}}
{{- define "waypoint.proxyConfig" -}}
{{- $c := deepCopy .w.proxyConfig -}}
{{- $_ := set $c "discoveryAddress" (.root.Values.istio.discoveryAddress | default (include "waypoint.istiod" .root)) -}}
{{- $_ := set $c "terminationDrainDuration" (printf "%ds" (int .w.drain.terminationDrainSeconds)) -}}
{{- with include "waypoint.metadata" .w | fromJson -}}
  {{- $_ := set $c "proxyMetadata" . -}}
{{- end -}}
{{- toJson $c -}}
{{- end -}}
