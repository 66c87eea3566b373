"""Simulated device, virtual-time bench, embedded cluster and demo."""
