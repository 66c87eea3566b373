"""Signals: numbers with units, computed from telemetry records. No clock and no I/O: time comes in with the records."""
