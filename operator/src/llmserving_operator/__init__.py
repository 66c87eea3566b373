"""Reconciles LLMServing resources into vLLM pods with live batch bounds."""
