{{/* What scales a workload: an HPA, or a ScaledObject of KEDA, never both. */}}

{{- define "postroad.maxReplicas" -}}
{{- $max := .values.autoscaling.maxReplicas -}}
{{- if not (kindIs "invalid" $max) -}}
{{- int64 $max -}}
{{- else if eq .component "delivery" -}}
{{- /* One worker serves a partition: more than there are partitions would stand by. */ -}}
{{- max (divf .partitions .pools | ceil | int64) (int64 .values.autoscaling.minReplicas) -}}
{{- else -}}
10
{{- end -}}
{{- end }}

{{/* Going down is slow: the highest recommendation counts of as long as a pod may drain. */}}
{{- define "postroad.scalingBehavior" -}}
{{- $down := max 300 (include "postroad.graceSeconds" . | int64) -}}
{{- $behavior := dict "scaleUp" (dict "stabilizationWindowSeconds" (int64 .values.autoscaling.scaleUpSeconds)) -}}
{{- $_ := set $behavior "scaleDown" (dict "stabilizationWindowSeconds" (min $down 3600) "policies" (list (dict "type" "Pods" "value" 1 "periodSeconds" 60) (dict "type" "Percent" "value" 25 "periodSeconds" 60))) -}}
{{- include "postroad.overlay" (dict "under" $behavior "over" .values.autoscaling.behavior) -}}
{{- toYaml $behavior -}}
{{- end }}

{{- define "postroad.hpa" -}}
{{- $scaling := .values.autoscaling -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "postroad.metadata" . | nindent 2 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ .name }}}
  minReplicas: {{ int64 $scaling.minReplicas }}
  maxReplicas: {{ include "postroad.maxReplicas" . }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: {type: Utilization, averageUtilization: {{ int64 $scaling.cpuPercent }}}
    {{- if and (eq .component "ingress") $scaling.podMetric }}
    - type: Pods
      pods:
        metric: {name: {{ $scaling.podMetric | quote }}}
        target: {type: AverageValue, averageValue: {{ int64 $scaling.sessions | toString | quote }}}
    {{- end }}
  behavior:
    {{- include "postroad.scalingBehavior" . | nindent 4 }}
{{- end }}

{{- define "postroad.scaledObject" -}}
{{- $scaling := .values.autoscaling -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  {{- include "postroad.metadata" . | nindent 2 }}
spec:
  scaleTargetRef: {name: {{ .name }}}
  minReplicaCount: {{ int64 $scaling.minReplicas }}
  maxReplicaCount: {{ include "postroad.maxReplicas" . }}
  pollingInterval: {{ int64 .root.Values.keda.pollingInterval }}
  # No answer is no reason to have fewer.
  fallback:
    failureThreshold: {{ int64 .root.Values.keda.failureThreshold }}
    replicas: {{ int64 $scaling.minReplicas }}
    behavior: currentReplicasIfHigher
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        {{- include "postroad.scalingBehavior" . | nindent 8 }}
  triggers:
    {{- include "postroad.trigger" . | nindent 4 }}
    {{- if eq .component "ingress" }}
    - type: cpu
      metricType: Utilization
      metadata: {value: {{ int64 $scaling.cpuPercent | toString | quote }}}
    {{- end }}
{{- end }}

{{- define "postroad.trigger" -}}
{{- $keda := .root.Values.keda -}}
{{- $scaling := .values.autoscaling -}}
- type: prometheus
  metricType: AverageValue
  metadata:
    serverAddress: {{ $keda.prometheusAddress | quote }}
    # An empty answer is a failure, not a 0.
    ignoreNullValues: "false"
    {{- if eq .component "delivery" }}
    threshold: "1"
    {{- else }}
    threshold: {{ ternary $scaling.sessions $scaling.waiting (eq .component "ingress") | int64 | toString | quote }}
    {{- end }}
    query: |-
      {{- include (printf "postroad.query.%s" .component) . | nindent 6 }}
  {{- with $keda.authenticationRef }}
  authenticationRef:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- define "postroad.matchers" -}}
namespace={{ include "postroad.namespace" .root | quote }}
{{- with .root.Values.keda.matchers }},{{ . }}{{ end -}}
{{- end }}

{{- define "postroad.query.ingress" -}}
sum(postroad_ingress_sessions{ {{- include "postroad.matchers" . -}} })
{{- end }}

{{/* Every process tells the same of queues. */}}
{{- define "postroad.query.router" -}}
max(postroad_accepted_waiting{ {{- include "postroad.matchers" . -}} })
  + max(postroad_waiting_jobs{ {{- include "postroad.matchers" . -}} ,step="due"})
{{- end }}

{{/* The workers that are useful, but no more than there are, or twice as many while mail is late. No
answer where one of these is not known. docs/decisions/0018. */}}
{{- define "postroad.query.delivery" -}}
{{- $of := printf "%s,lane=%s" (include "postroad.matchers" .) (quote .lane) -}}
clamp(
  ceil(sum(postroad_useful_workers{ {{- $of -}} })),
  1,
  scalar(max(postroad_members{ {{- $of -}} }))
    * (1 + scalar(max(postroad_oldest_message_seconds{ {{- $of -}} }) > bool {{ int64 .values.autoscaling.targetAgeSeconds }}))
){{ if gt (int .pools) 1 }} / {{ .pools }}{{ end }} > 0
{{- end }}
