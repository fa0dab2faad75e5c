{{/* Names and labels. A workload is a dict: root, component, name, suffix, values, and of delivery lane
and pool. Templates are given one, so that everything about a pod comes from one place. */}}

{{- define "postroad.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains "postroad" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-postroad" (.Release.Name | trunc 31 | trimSuffix "-") -}}
{{- end -}}
{{- end }}

{{- define "postroad.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace -}}
{{- end }}

{{- define "postroad.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "postroad.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end }}

{{- define "postroad.image" -}}
{{- $image := .root.Values.image -}}
{{- $name := printf "%s/%s" $image.registry $image.repository -}}
{{- if and $image.digest (not .values.imageTag) -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (coalesce .values.imageTag $image.tag .root.Chart.AppVersion) -}}
{{- end -}}
{{- end }}

{{/* What selects the pods of a workload. Never change these: selectors are immutable. */}}
{{- define "postroad.selectorLabels" -}}
app.kubernetes.io/name: postroad
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .suffix }}
postroad/workload: {{ . | quote }}
{{- end }}
{{- end }}

{{/* Labels of an object: of a workload, or of what has only `root` and `component`. */}}
{{- define "postroad.labels" -}}
{{- $labels := include "postroad.selectorLabels" . | fromYaml -}}
{{- $_ := set $labels "app.kubernetes.io/version" .root.Chart.AppVersion -}}
{{- $_ := set $labels "app.kubernetes.io/part-of" "postroad" -}}
{{- $_ := set $labels "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- $_ := set $labels "helm.sh/chart" (printf "%s-%s" .root.Chart.Name (.root.Chart.Version | replace "+" "_")) -}}
{{- toYaml (merge $labels (deepCopy .root.Values.commonLabels)) -}}
{{- end }}

{{/* Metadata of an object: a workload or dict, with `name`; `labels` and `annotations` are added. */}}
{{- define "postroad.metadata" -}}
name: {{ .name }}
namespace: {{ .namespace | default (include "postroad.namespace" .root) }}
labels:
  {{- toYaml (merge (deepCopy (.labels | default dict)) (include "postroad.labels" . | fromYaml)) | nindent 2 }}
{{- with merge (deepCopy (.annotations | default dict)) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Lays the mapping `over` on the mapping `under`, in place: mappings are merged, all else (false, 0 and
empty lists, too) is replaced. */}}
{{- define "postroad.overlay" -}}
{{- $under := .under -}}
{{- range $key, $value := .over -}}
{{- if and (kindIs "map" $value) (kindIs "map" (get $under $key)) -}}
{{- include "postroad.overlay" (dict "under" (get $under $key) "over" $value) -}}
{{- else -}}
{{- $_ := set $under $key $value -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Sets `list` of the given dict to all workloads: one of ingress, one of the router, and one of each
pool of each lane. Not as text: numbers would not survive it. */}}
{{- define "postroad.workloads" -}}
{{- $root := .root -}}
{{- $list := list -}}
{{- range $component := list "ingress" "router" -}}
{{- $values := deepCopy $root.Values.pods -}}
{{- include "postroad.overlay" (dict "under" $values "over" (deepCopy (get $root.Values $component))) -}}
{{- $name := printf "%s-%s" (include "postroad.fullname" $root) $component -}}
{{- $list = append $list (dict "root" $root "component" $component "name" $name "suffix" "" "values" $values) -}}
{{- end -}}
{{- $lanes := dict "root" $root -}}
{{- include "postroad.lanes" $lanes -}}
{{- range $lane := $lanes.list -}}
{{- range $pool := (get $lane "pools" | default (list dict)) -}}
{{- $values := deepCopy $root.Values.pods -}}
{{- range $over := list $root.Values.delivery (get $lane "delivery" | default dict) (omit $pool "name") -}}
{{- include "postroad.overlay" (dict "under" $values "over" (deepCopy $over)) -}}
{{- end -}}
{{- $suffix := list $lane.name (get $pool "name") | compact | join "-" | replace "_" "-" -}}
{{- $name := printf "%s-delivery-%s" (include "postroad.fullname" $root) $suffix -}}
{{- $list = append $list (dict "root" $root "component" "delivery" "name" $name "suffix" $suffix "values" $values "lane" $lane.name "pool" (get $pool "name") "partitions" (get $lane "partitions" | default 8) "pools" (len (get $lane "pools" | default (list dict)))) -}}
{{- end -}}
{{- end -}}
{{- $_ := set . "list" $list -}}
{{- end }}

{{/* Sets `workload` of the given dict to the one that keeps events. */}}
{{- define "postroad.eventStore" -}}
{{- $values := deepCopy .root.Values.pods -}}
{{- include "postroad.overlay" (dict "under" $values "over" (deepCopy .root.Values.eventStore)) -}}
{{- $name := printf "%s-event-store" (include "postroad.fullname" .root) -}}
{{- $_ := set . "workload" (dict "root" .root "component" "event-store" "name" $name "suffix" "" "values" $values) -}}
{{- end }}

{{/* Sets `list` of the given dict to the lanes, `default` among them. */}}
{{- define "postroad.lanes" -}}
{{- $lanes := list -}}
{{- $default := true -}}
{{- range .root.Values.lanes -}}
{{- $lanes = append $lanes . -}}
{{- if eq .name "default" }}{{ $default = false }}{{ end -}}
{{- end -}}
{{- if $default }}{{ $lanes = append $lanes (dict "name" "default") }}{{ end -}}
{{- $_ := set . "list" $lanes -}}
{{- end }}

{{/* Seconds from the end of a pod's endpoint to SIGKILL, as they follow from its drain. */}}
{{- define "postroad.graceSeconds" -}}
{{- add (int64 .values.preStopSleepSeconds) (int64 .values.drainSeconds) 10 -}}
{{- end }}

{{/* Whether any enabled listener has the value `want` as its `key`, or (`not`) another one. */}}
{{- define "postroad.anyListener" -}}
{{- $found := false -}}
{{- $key := .key -}}
{{- $not := .not -}}
{{- range $name, $listener := .root.Values.ingress.listeners -}}
{{- if and $listener.enabled (ne (get $listener $key) $not) }}{{ $found = true }}{{ end -}}
{{- end -}}
{{- if $found }}true{{ end -}}
{{- end }}

{{- define "postroad.tlsSecret" -}}
{{- if .Values.ingress.tls.certManager.enabled -}}
{{- printf "%s-ingress-tls" (include "postroad.fullname" .) -}}
{{- else -}}
{{- .Values.ingress.tls.existingSecret -}}
{{- end -}}
{{- end }}

{{/* The RabbitMQ that the chart makes. */}}
{{- define "postroad.rabbitmqName" -}}
{{- printf "%s-rabbitmq" (include "postroad.fullname" .) -}}
{{- end }}

{{/* URL of the broker without its user; empty where all of it is secret. */}}
{{- define "postroad.brokerUrl" -}}
{{- if eq .Values.rabbitmq.mode "operator" -}}
{{- $tls := not (empty .Values.rabbitmq.operator.tlsSecret) -}}
{{- printf "%s://%s.%s.svc:%s/%s" (ternary "amqps" "amqp" $tls) (include "postroad.rabbitmqName" .) (include "postroad.namespace" .) (ternary "5671" "5672" $tls) .Values.rabbitmq.operator.vhost -}}
{{- else -}}
{{- .Values.rabbitmq.external.url -}}
{{- end -}}
{{- end }}

{{/* Fails where the cluster does not know the API `api` that `who` needs. */}}
{{- define "postroad.needsApi" -}}
{{- if not (.root.Capabilities.APIVersions.Has .api) -}}
{{- fail (printf "%s: the cluster does not know %s; install what defines it (with helm template: --api-versions %s)" .who .api .api) -}}
{{- end -}}
{{- end }}

{{/* A Service has the families of the addresses that somebody listens on, and no others. */}}
{{- define "postroad.ipFamilies" -}}
{{- $families := list -}}
{{- range . }}{{ $families = append $families (ternary "IPv6" "IPv4" (contains ":" .)) }}{{ end -}}
{{- if gt (len ($families | uniq)) 1 -}}
ipFamilyPolicy: PreferDualStack
{{- else -}}
ipFamilyPolicy: SingleStack
ipFamilies: [{{ first $families }}]
{{- end -}}
{{- end }}
