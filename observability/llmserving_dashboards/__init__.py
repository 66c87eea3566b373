"""Grafana boards in Python: series names come from ``llmserving_api.series``, the JSON is generated and committed."""
