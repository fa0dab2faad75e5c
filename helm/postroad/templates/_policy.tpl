{{/* What keeps evictions from taking several pods of a workload at once. */}}
{{- define "postroad.pdb" -}}
{{- $pdb := .values.pdb -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "postroad.metadata" . | nindent 2 }}
spec:
  {{- /* 0 is a value: what is not given is null. */}}
  {{- if not (kindIs "invalid" $pdb.minAvailable) }}
  minAvailable: {{ $pdb.minAvailable }}
  {{- else }}
  maxUnavailable: {{ $pdb.maxUnavailable }}
  {{- end }}
  # A pod that is not ready (the broker is away) must not hold up the drain of its machine.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "postroad.selectorLabels" . | nindent 6 }}
{{- end }}

{{/* What may reach the pods of a workload, and what they may reach. */}}
{{- define "postroad.networkPolicy" -}}
{{- $v := .values -}}
{{- $policy := .root.Values.networkPolicy -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "postroad.metadata" . | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "postroad.selectorLabels" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    {{- if eq .component "ingress" }}
    - ports:
        {{- range $name, $listener := $v.listeners }}
        {{- if $listener.enabled }}
        - {port: {{ $name }}, protocol: TCP}
        {{- end }}
        {{- end }}
    {{- end }}
    - ports:
        - {port: admin, protocol: TCP}
      {{- with $policy.metricsFrom }}
      from:
        {{- toYaml . | nindent 8 }}
        - podSelector:
            matchLabels:
              app.kubernetes.io/name: postroad-test
              app.kubernetes.io/instance: {{ $.root.Release.Name }}
      {{- end }}
    {{- with $v.networkPolicy.extraIngress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  egress:
    {{- include "postroad.egress" . | nindent 4 }}
    {{- with $v.networkPolicy.extraEgress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{- define "postroad.egress" -}}
{{- $policy := .root.Values.networkPolicy -}}
{{- /* Name servers, on the ports that `config.dns` names as well. */ -}}
{{- $ports := list 53 -}}
{{- range dig "dns" "nameservers" list .root.Values.config -}}
{{- with regexFind ":[0-9]+$" . }}{{ $ports = append $ports (trimPrefix ":" . | int) }}{{ end -}}
{{- end -}}
- ports:
    {{- range $ports | uniq }}
    - {port: {{ . }}, protocol: UDP}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- with $policy.dnsTo }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
- ports:
    {{- range include "postroad.brokerPorts" .root | fromJsonArray }}
    - {port: {{ int . }}, protocol: TCP}
    {{- end }}
  {{- with include "postroad.brokerTo" .root | fromYamlArray }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- if eq .root.Values.contentStore.type "s3" }}
- ports:
    - {port: {{ include "postroad.urlPort" .root.Values.contentStore.s3.endpoint }}, protocol: TCP}
  {{- with $policy.contentStoreTo }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- with dig "tracing" "endpoint" "" .root.Values.config }}
- ports:
    - {port: {{ include "postroad.urlPort" . }}, protocol: TCP}
{{- end }}
{{- if eq .component "delivery" }}
{{- if .values.socks5 }}
{{ include "postroad.egress.host" (dict "host" .values.socks5 "port" "1080") }}
{{- else }}
{{ include "postroad.egress.mail" .root }}
{{- end }}
{{- end }}
{{- end }}

{{- define "postroad.brokerTo" -}}
{{- if and (eq .Values.rabbitmq.mode "operator") (empty .Values.networkPolicy.brokerTo) -}}
- podSelector:
    matchLabels:
      app.kubernetes.io/name: {{ include "postroad.rabbitmqName" . }}
{{- else -}}
{{- toYaml .Values.networkPolicy.brokerTo -}}
{{- end -}}
{{- end }}

{{- define "postroad.brokerPorts" -}}
{{- $url := include "postroad.brokerUrl" . -}}
{{- $port := regexFind ":[0-9]+(/|$)" $url | trimPrefix ":" | trimSuffix "/" -}}
{{- if .Values.networkPolicy.brokerPorts -}}
{{- toJson .Values.networkPolicy.brokerPorts -}}
{{- else if $port -}}
[{{ $port }}]
{{- else if hasPrefix "amqps" $url -}}
[5671]
{{- else if $url -}}
[5672]
{{- else -}}
[5671, 5672]
{{- end -}}
{{- end }}

{{/* Port of an http or https URL; of AWS where there is none. */}}
{{- define "postroad.urlPort" -}}
{{- regexFind ":[0-9]+(/|$)" . | trimPrefix ":" | trimSuffix "/" | default (ternary "80" "443" (hasPrefix "http://" .)) -}}
{{- end }}

{{/* Mail goes to the whole world but its private parts, and to static routes wherever they are. */}}
{{- define "postroad.egress.mail" -}}
{{- $port := dig "delivery" "smtp_port" 25 .Values.config -}}
- ports:
    - {port: {{ int $port }}, protocol: TCP}
  to:
    - ipBlock:
        cidr: 0.0.0.0/0
        {{- with .Values.networkPolicy.privateNetworks }}
        except:
          {{- toYaml . | nindent 10 }}
        {{- end }}
    - ipBlock:
        cidr: ::/0
        {{- with .Values.networkPolicy.privateNetworks6 }}
        except:
          {{- toYaml . | nindent 10 }}
        {{- end }}
{{- range dig "router" "routes" list .Values.config }}
{{- range .hosts }}
{{ include "postroad.egress.host" (dict "host" . "port" "25") }}
{{- end }}
{{- end }}
{{- end }}

{{/* To one `host:port`; to its port anywhere, where the host is a name. */}}
{{- define "postroad.egress.host" -}}
{{- $v6 := or (hasPrefix "[" .host) (gt (len (splitList ":" .host)) 2) -}}
{{- $name := ternary (regexReplaceAll "^\\[|\\](:[0-9]+)?$" .host "") (regexReplaceAll ":[0-9]+$" .host "") $v6 -}}
{{- $port := ternary (regexFind "\\]:[0-9]+$" .host) (regexFind ":[0-9]+$" .host) $v6 | trimPrefix "]" | trimPrefix ":" -}}
- ports:
    - {port: {{ $port | default .port }}, protocol: TCP}
  {{- if $v6 }}
  to: [{ipBlock: {cidr: {{ $name }}/128}}]
  {{- else if regexMatch "^[0-9.]+$" $name }}
  to: [{ipBlock: {cidr: {{ $name }}/32}}]
  {{- end }}
{{- end }}
