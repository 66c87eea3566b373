// The process that holds a pod's namespaces open.
module llmserving.io/tools/pause

go 1.23
