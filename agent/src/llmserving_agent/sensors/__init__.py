"""Sensors: ports and the adapters behind them. Each says "unavailable" with a reason instead of raising."""
