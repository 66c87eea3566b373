"""The only package that talks to the Kubernetes API (kopf's watches aside)."""
