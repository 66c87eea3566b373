"""The bench: the real vLLM scheduler on a virtual clock and a simulated device, under many policies and loads."""
