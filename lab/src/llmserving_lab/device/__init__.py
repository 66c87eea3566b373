"""The simulated device: how long a step takes and how many tokens of KV cache fit.

`llmserving_lab.device.model.load_device` makes a model from a measured profile folder or from a shipped coefficient file;
it needs only the standard library and PyYAML, so that the engine's environment can use it.
"""
