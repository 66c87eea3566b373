"""The main job on show: apply an LLMServing, send traffic, edit its SLA, and watch running engines obey."""
