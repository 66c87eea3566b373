"""vLLM plug-in: live batch bounds, per-step budget and telemetry on stock vLLM."""
