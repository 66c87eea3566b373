"""Names and addresses inside a cluster."""

from __future__ import annotations

NODE_NAME = "node"
NODE_ADDRESS = "172.31.255.1"
"""The node's address. Every cluster has a network of its own, so all use the same addresses."""
NODE_NETWORK_BITS = 24
SERVICE_RANGE = "10.96.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"
POD_RANGE = "10.244.0.0/24"
API_PORT = 6443
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
PAUSE_IMAGE = "localhost/llmserving/pause:v1"
