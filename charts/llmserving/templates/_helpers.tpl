{{/* Name of the operator's objects. */}}
{{- define "llmserving.name" -}}
{{- if contains "llmserving" .Release.Name -}}
{{ printf "%s-operator" .Release.Name | trunc 63 }}
{{- else -}}
{{ printf "%s-llmserving-operator" .Release.Name | trunc 63 }}
{{- end -}}
{{- end -}}

{{- define "llmserving.selectorLabels" -}}
app.kubernetes.io/name: llmserving-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "llmserving.labels" -}}
{{ include "llmserving.selectorLabels" . }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: llmserving
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "llmserving.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "llmserving.name" .) }}
{{- else -}}
{{ required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{/* repository:tag, or repository@digest where a digest is given. Argument: (list root image) */}}
{{- define "llmserving.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- if $image.digest -}}
{{ printf "%s@%s" $image.repository $image.digest }}
{{- else -}}
{{ printf "%s:%s" $image.repository ($image.tag | default $root.Chart.AppVersion) }}
{{- end -}}
{{- end -}}

{{/* What the operator may do in the namespaces it watches; nothing else. */}}
{{- define "llmserving.rules" -}}
- apiGroups: [llmserving.io]
  resources: [llmservings]
  verbs: [get, list, watch]
- apiGroups: [llmserving.io]
  resources: [llmservings/status]
  verbs: [get, patch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch]
- apiGroups: [apps]
  resources: [controllerrevisions]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services, configmaps, serviceaccounts]
  verbs: [get, list, watch, create, patch]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end -}}
