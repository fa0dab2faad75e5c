{{/* postroad.yaml: the values that the chart has a word for, over `config`. */}}
{{- define "postroad.config" -}}
{{- $root := . -}}
{{- $v := .Values -}}
{{- $config := deepCopy $v.config -}}
{{- $_ := set $config "hostname" $v.hostname -}}
{{- $broker := deepCopy (get $config "broker" | default dict) -}}
{{- with include "postroad.brokerUrl" $root -}}
{{- $_ := set $broker "url" . -}}
{{- $_ := set $broker "username_file" "/etc/postroad/broker/username" -}}
{{- $_ := set $broker "password_file" "/etc/postroad/broker/password" -}}
{{- else -}}
{{- $_ := set $broker "url_file" "/etc/postroad/broker/url" -}}
{{- end -}}
{{- if $v.rabbitmq.caSecret }}{{ $_ := set $broker "ca_file" "/etc/postroad/broker/ca.crt" }}{{ end -}}
{{- $_ := set $config "broker" $broker -}}
{{- $store := dict "url" "file:///var/lib/postroad/content" "inline_max_bytes" (include "postroad.inlineMaxBytes" $root | int64) -}}
{{- if eq $v.contentStore.type "s3" -}}
{{- $s3 := $v.contentStore.s3 -}}
{{- $_ := set $store "url" (printf "s3://%s" (list $s3.bucket $s3.prefix | compact | join "/")) -}}
{{- $_ := set $store "s3_region" $s3.region -}}
{{- with $s3.endpoint }}{{ $_ := set $store "s3_endpoint" . }}{{ end -}}
{{- end -}}
{{- $_ := set $config "content_store" $store -}}
{{- if eq $v.contentStore.type "none" -}}
{{- /* What is held has its content with it: so many have to fit into the memory of a pod. */ -}}
{{- $_ := set $config "delivery" (merge (dict) (get $config "delivery" | default dict) (dict "prefetch" 150)) -}}
{{- end -}}
{{- $_ := set $config "ingress" (include "postroad.config.ingress" $root | fromYaml) -}}
{{- $lanes := dict "root" $root -}}
{{- include "postroad.lanes" $lanes -}}
{{- $plain := list -}}
{{- range $lanes.list }}{{ $plain = append $plain (omit . "delivery" "pools") }}{{ end -}}
{{- $_ := set $config "lanes" $plain -}}
{{- $_ := set $config "admin" (dict "address" (first $v.listenAddresses) "ingress_port" $v.ingress.adminPort "router_port" $v.router.adminPort "delivery_port" $v.delivery.adminPort) -}}
{{- toYaml $config -}}
{{- end }}

{{- define "postroad.inlineMaxBytes" -}}
{{- $none := ternary 1048576 65536 (eq .Values.contentStore.type "none") -}}
{{- if kindIs "invalid" .Values.contentStore.inlineMaxBytes }}{{ $none }}{{ else }}{{ int64 .Values.contentStore.inlineMaxBytes }}{{ end -}}
{{- end }}

{{/* Without a store a content has to fit into its message, with the fields that we add. */}}
{{- define "postroad.maxMessageBytes" -}}
{{- $given := dig "ingress" "max_message_bytes" nil .Values.config -}}
{{- if not (kindIs "invalid" $given) -}}
{{- int64 $given -}}
{{- else if eq .Values.contentStore.type "none" -}}
{{- sub (include "postroad.inlineMaxBytes" . | int64) 65536 -}}
{{- else -}}
26214400
{{- end -}}
{{- end }}

{{- define "postroad.config.ingress" -}}
{{- $v := .Values -}}
{{- $ingress := deepCopy (get $v.config "ingress" | default dict) -}}
{{- $_ := set $ingress "max_message_bytes" (include "postroad.maxMessageBytes" . | int64) -}}
{{- if not (hasKey $ingress "max_memory_bytes") -}}
{{- $limit := dig "resources" "limits" "memory" (dig "limits" "memory" "" $v.pods.resources) $v.ingress -}}
{{- with include "postroad.bytes" $limit }}{{ $_ := set $ingress "max_memory_bytes" (div (mul 3 (int64 .)) 4) }}{{ end -}}
{{- end -}}
{{- $listeners := list -}}
{{- range $name, $listener := $v.ingress.listeners -}}
{{- if $listener.enabled -}}
{{- range $address := $v.listenAddresses -}}
{{- $entry := dict "address" $address "port" (int64 $listener.port) "tls" $listener.tls "auth" $listener.auth -}}
{{- range $key, $ours := dict "relayNetworks" "relay_networks" "proxyNetworks" "proxy_networks" "messageClass" "message_class" "tenant" "tenant" "authWithoutTls" "auth_without_tls" -}}
{{- with get $listener $key }}{{ $_ := set $entry $ours . }}{{ end -}}
{{- end -}}
{{- $listeners = append $listeners $entry -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $_ := set $ingress "listeners" $listeners -}}
{{- if include "postroad.tlsSecret" . -}}
{{- $tls := dict "certificate" "/etc/postroad/tls/tls.crt" "key" "/etc/postroad/tls/tls.key" -}}
{{- if $v.ingress.tls.clientAuthoritySecret }}{{ $_ := set $tls "client_authority" "/etc/postroad/tls/clients.crt" }}{{ end -}}
{{- $_ := set $ingress "tls" $tls -}}
{{- end -}}
{{- if $v.ingress.credentials.existingSecret }}{{ $_ := set $ingress "credentials_file" "/etc/postroad/credentials.yaml" }}{{ end -}}
{{- if $v.ingress.oauth.enabled -}}
{{- $oauth := deepCopy $v.ingress.oauth.config -}}
{{- $_ := set $oauth "issuer" $v.ingress.oauth.issuer -}}
{{- $_ := set $oauth "audience" $v.ingress.oauth.audience -}}
{{- $_ := set $oauth "jwks_file" "/etc/postroad/jwks.json" -}}
{{- $_ := set $ingress "oauth" $oauth -}}
{{- end -}}
{{- toYaml $ingress -}}
{{- end }}

{{/* Octets of a quantity such as 512Mi; empty for one in another form. */}}
{{- define "postroad.bytes" -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 -}}
{{- $text := toString . -}}
{{- if regexMatch "^[0-9]+(k|M|G|Ki|Mi|Gi)?$" $text -}}
{{- mul (regexFind "^[0-9]+" $text | int64) (get $units (regexReplaceAll "^[0-9]+" $text "")) -}}
{{- end -}}
{{- end }}

{{/* Of what a pod cannot take up while it runs: `limits` are not in it. */}}
{{- define "postroad.configChecksum" -}}
{{- omit (include "postroad.config" . | fromYaml) "limits" | toYaml | sha256sum -}}
{{- end }}
