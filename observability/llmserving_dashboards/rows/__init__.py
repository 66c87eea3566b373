"""Rows of the board "Service", one module each."""
