"""A real Kubernetes for the demo and the tests: embedded on a bare Linux machine, or one of the user's own.

Modules here are imported by process 1 of the embedded node as well, so this package imports nothing by itself.
"""
