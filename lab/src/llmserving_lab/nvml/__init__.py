"""A stand-in `libnvidia-ml.so.1` that reports the simulated device, so that the real NVML path runs without a GPU."""
