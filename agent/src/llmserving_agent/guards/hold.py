"""No fresh data, no action."""

from typing import TypeVar

from llmserving_agent.laws.protocol import Decision, Guard, Law, Setting, Window
from llmserving_api.conditions import DecisionReason

S = TypeVar("S")

STALE_SECONDS = 5.0


class HoldOnStale(Guard[S]):
    """Keeps the bounds in force while telemetry is missing or old, or nothing runs."""

    def __init__(self, inner: Law[S], stale_seconds: float = STALE_SECONDS) -> None:
        super().__init__(inner)
        self._stale_seconds = stale_seconds

    def decide(self, state: S, window: Window, setting: Setting) -> tuple[S, Decision]:
        """Hold with ``Idle``, ``TelemetryStale`` or ``TooFewSamples``, else what the inner law decides."""
        if window.age_seconds is None:
            return state, Decision.hold(window, DecisionReason.TELEMETRY_STALE, "no telemetry from the engine yet")
        if window.running == 0 and window.waiting == 0:
            return state, Decision.hold(window, DecisionReason.IDLE, "nothing runs and nothing waits")
        if window.age_seconds > self._stale_seconds:
            message = (
                f"newest step is {window.age_seconds:.1f} s old with {window.running} running, {window.waiting} waiting"
            )
            return state, Decision.hold(window, DecisionReason.TELEMETRY_STALE, message)
        if window.epoch.steps == 0:
            return state, Decision.hold(window, DecisionReason.TOO_FEW_SAMPLES, "no step under these bounds yet")
        return self._inner.decide(state, window, setting)
