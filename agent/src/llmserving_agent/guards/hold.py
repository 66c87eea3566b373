"""No fresh data, no action."""

from typing import TypeVar

from llmserving_agent.laws.protocol import Decision, Guard, Setting, Window
from llmserving_agent.laws.silence import silence_of
from llmserving_api.conditions import DecisionReason

S = TypeVar("S")


class HoldOnStale(Guard[S]):
    """Keeps the bounds in force while telemetry is missing or old, or nothing runs."""

    def decide(self, state: S, window: Window, setting: Setting) -> tuple[S, Decision]:
        """Hold with ``Idle``, ``TelemetryStale`` or ``TooFewSamples``, else what the inner law decides."""
        silence = silence_of(window)
        if silence is not None:
            return state, Decision.hold(window, *silence)
        if window.epoch.steps == 0:
            return state, Decision.hold(window, DecisionReason.TOO_FEW_SAMPLES, "no step under these bounds yet")
        return self._inner.decide(state, window, setting)
