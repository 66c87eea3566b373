"""Runs beside each vLLM engine and moves its batch bounds to meet the SLA."""
