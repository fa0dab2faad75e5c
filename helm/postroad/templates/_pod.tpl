{{/* The Deployment of a workload. */}}
{{- define "postroad.deployment" -}}
{{- $v := .values -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "postroad.metadata" . | nindent 2 }}
spec:
  {{- if not $v.autoscaling.enabled }}
  replicas: {{ int64 $v.replicas }}
  {{- end }}
  revisionHistoryLimit: {{ int64 $v.revisionHistoryLimit }}
  minReadySeconds: {{ int64 $v.minReadySeconds }}
  strategy:
    {{- toYaml ($v.strategy | default (include "postroad.strategy" . | fromYaml)) | nindent 4 }}
  selector:
    matchLabels:
      {{- include "postroad.selectorLabels" . | nindent 6 }}
  template:
    metadata:
      {{- include "postroad.podMetadata" . | nindent 6 }}
    spec:
      {{- include "postroad.podSpec" . | nindent 6 }}
{{- end }}

{{- define "postroad.podMetadata" -}}
labels:
  {{- $own := include "postroad.selectorLabels" . | fromYaml }}
  {{- toYaml (merge $own (deepCopy .values.podLabels) .root.Values.commonLabels) | nindent 2 }}
annotations:
  {{- $checksum := dict "checksum/config" (include "postroad.configChecksum" .root) "kubectl.kubernetes.io/default-container" .component }}
  {{- toYaml (merge $checksum (deepCopy .values.podAnnotations)) | nindent 2 }}
{{- end }}

{{/* A pod on the network of its node has a port there, so the old one has to go first. */}}
{{- define "postroad.strategy" -}}
type: RollingUpdate
rollingUpdate:
  {{- if .values.hostNetwork }}
  maxSurge: 0
  maxUnavailable: 1
  {{- else }}
  maxSurge: 1
  maxUnavailable: 0
  {{- end }}
{{- end }}

{{- define "postroad.podSpec" -}}
{{- $v := .values -}}
serviceAccountName: {{ include "postroad.serviceAccountName" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
terminationGracePeriodSeconds: {{ $v.terminationGracePeriodSeconds | default (include "postroad.graceSeconds" .) | int64 }}
securityContext:
  {{- include "postroad.podSecurity" . | nindent 2 }}
{{- if $v.hostNetwork }}
hostNetwork: true
{{- end }}
dnsPolicy: {{ $v.dnsPolicy | default (ternary "ClusterFirstWithHostNet" "ClusterFirst" (not (empty $v.hostNetwork))) }}
{{- if not (kindIs "invalid" $v.hostUsers) }}
hostUsers: {{ $v.hostUsers }}
{{- end }}
{{- range $key := list "priorityClassName" "runtimeClassName" "dnsConfig" "nodeSelector" "affinity" "tolerations" "initContainers" }}
{{- with get $v $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- with $v.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range . }}
  {{- $own := dict "labelSelector" (dict "matchLabels" (include "postroad.selectorLabels" $ | fromYaml)) "matchLabelKeys" (list "pod-template-hash") }}
  - {{- toYaml (merge (deepCopy .) $own) | nindent 4 }}
  {{- end }}
{{- end }}
containers:
  - name: {{ .component }}
    {{- include "postroad.container" . | nindent 4 }}
  {{- with $v.extraContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
volumes:
  - name: config
    projected:
      defaultMode: 0440
      sources:
        {{- include "postroad.sources" . | nindent 8 }}
  - name: tmp
    emptyDir: {sizeLimit: 64Mi}
  {{- if and (ne .root.Values.contentStore.type "s3") (ne .component "event-store") }}
  - name: content
    {{- if eq .root.Values.contentStore.type "volume" }}
    persistentVolumeClaim: {claimName: {{ .root.Values.contentStore.volume.existingClaim | quote }}}
    {{- else }}
    emptyDir: {sizeLimit: 1Mi}
    {{- end }}
  {{- end }}
  {{- with $v.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "postroad.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "postroad.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "postroad.container" -}}
{{- $v := .values -}}
image: {{ include "postroad.image" . | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args:
  - {{ .component }}
  {{- with .lane }}
  - --lane
  - {{ . | quote }}
  {{- end }}
env:
  {{- include "postroad.env" . | nindent 2 }}
{{- with $v.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if ne .component "event-store" }}
ports:
  - {name: admin, containerPort: {{ int64 $v.adminPort }}, protocol: TCP}
  {{- if eq .component "ingress" }}
  {{- range $name, $listener := $v.listeners }}
  {{- if $listener.enabled }}
  - {name: {{ $name }}, containerPort: {{ int64 $listener.port }}, protocol: TCP}
  {{- end }}
  {{- end }}
  {{- end }}
{{- range $probe, $path := dict "startup" "/livez" "liveness" "/livez" "readiness" "/readyz" }}
{{ $probe }}Probe:
  httpGet: {path: {{ $path }}, port: admin}
  {{- toYaml (get $v.probes $probe) | nindent 2 }}
{{- end }}
{{- end }}
{{- if $v.preStopSleepSeconds }}
lifecycle:
  preStop:
    sleep: {seconds: {{ int64 $v.preStopSleepSeconds }}}
{{- end }}
resources:
  {{- toYaml $v.resources | nindent 2 }}
securityContext:
  {{- include "postroad.containerSecurity" . | nindent 2 }}
volumeMounts:
  - {name: config, mountPath: /etc/postroad, readOnly: true}
  - {name: tmp, mountPath: /tmp}
  {{- if eq .component "event-store" }}
  - {name: events, mountPath: /var/lib/postroad/events}
  {{- else }}
  {{- if eq .root.Values.contentStore.type "volume" }}
  - {name: content, mountPath: /var/lib/postroad/content}
  {{- else if eq .root.Values.contentStore.type "none" }}
  # Read-only: a content that did not fit into a message would be lost with the pod, so it is refused.
  - {name: content, mountPath: /var/lib/postroad/content, readOnly: true}
  {{- end }}
  {{- end }}
  {{- with $v.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "postroad.env" -}}
{{- $v := .values -}}
{{- $s3 := .root.Values.contentStore.s3 -}}
- {name: POSTROAD_CONFIG, value: /etc/postroad/postroad.yaml}
- {name: POSTROAD_SHUTDOWN_GRACE, value: {{ printf "%ds" (int64 $v.drainSeconds) | quote }}}
{{- if eq .component "delivery" }}
- {name: POSTROAD_ADMIN__DELIVERY_PORT, value: {{ int64 $v.adminPort | toString | quote }}}
{{- with $v.hostname }}
- {name: POSTROAD_HOSTNAME, value: {{ . | quote }}}
{{- end }}
{{- with $v.socks5 }}
- {name: POSTROAD_DELIVERY__SOCKS5, value: {{ . | quote }}}
{{- end }}
{{- end }}
{{- if eq .component "event-store" }}
- {name: POSTROAD_EVENTS__STORE__PATH, value: /var/lib/postroad/events/events.sqlite}
{{- else if and (eq .root.Values.contentStore.type "s3") $s3.existingSecret }}
{{- range $name, $key := dict "AWS_ACCESS_KEY_ID" $s3.accessKeyIdKey "AWS_SECRET_ACCESS_KEY" $s3.secretAccessKeyKey }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef: {name: {{ $s3.existingSecret | quote }}, key: {{ $key | quote }}}
{{- end }}
{{- end }}
{{- with $v.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What lies in /etc/postroad: one volume, so that a renewed secret is seen and nothing is nested. */}}
{{- define "postroad.sources" -}}
{{- $root := .root -}}
{{- $rabbitmq := .root.Values.rabbitmq -}}
- configMap:
    name: {{ include "postroad.fullname" $root }}
    items: [{key: postroad.yaml, path: postroad.yaml}]
{{- if eq $rabbitmq.mode "operator" }}
- secret:
    name: {{ include "postroad.rabbitmqName" $root }}-user-credentials
    items: [{key: username, path: broker/username}, {key: password, path: broker/password}]
{{- else if $rabbitmq.external.url }}
- secret:
    name: {{ $rabbitmq.external.existingSecret | quote }}
    items: [{key: {{ $rabbitmq.external.usernameKey | quote }}, path: broker/username}, {key: {{ $rabbitmq.external.passwordKey | quote }}, path: broker/password}]
{{- else }}
- secret:
    name: {{ $rabbitmq.external.existingSecret | quote }}
    items: [{key: {{ $rabbitmq.external.urlKey | quote }}, path: broker/url}]
{{- end }}
{{- with $rabbitmq.caSecret }}
- secret:
    name: {{ . | quote }}
    items: [{key: {{ $rabbitmq.caKey | quote }}, path: broker/ca.crt}]
{{- end }}
{{- if eq .component "ingress" }}
{{- include "postroad.ingressSources" $root }}
{{- end }}
{{- end }}

{{- define "postroad.ingressSources" -}}
{{- $ingress := .Values.ingress -}}
{{- with include "postroad.tlsSecret" . }}
- secret:
    name: {{ . | quote }}
    items: [{key: tls.crt, path: tls/tls.crt}, {key: tls.key, path: tls/tls.key}]
{{- end }}
{{- with $ingress.tls.clientAuthoritySecret }}
- secret:
    name: {{ . | quote }}
    items: [{key: {{ $ingress.tls.clientAuthorityKey | quote }}, path: tls/clients.crt}]
{{- end }}
{{- with $ingress.credentials.existingSecret }}
- secret:
    name: {{ . | quote }}
    items: [{key: {{ $ingress.credentials.key | quote }}, path: credentials.yaml}]
{{- end }}
{{- if $ingress.oauth.enabled }}
- secret:
    name: {{ $ingress.oauth.jwksSecret | quote }}
    items: [{key: {{ $ingress.oauth.jwksKey | quote }}, path: jwks.json}]
{{- end }}
{{- end }}
