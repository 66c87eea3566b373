"""A real vLLM server on this machine, without a cluster: started as its pod would start it, asked, loaded and checked.

The same checks run on the simulated device in `tests/simulation/serving` and on a GPU in `tests/gpu`.
"""
