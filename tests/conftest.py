"""Settings of every test run: hypothesis judges behaviour, never the machine's speed."""

from hypothesis import settings

settings.register_profile("llmserving", deadline=None)
settings.load_profile("llmserving")
