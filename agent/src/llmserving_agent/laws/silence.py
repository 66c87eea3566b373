"""Why what a law sees says nothing of the present: no telemetry, no work, or none lately."""

from llmserving_agent.laws.protocol import Window
from llmserving_api.conditions import DecisionReason

STALE_SECONDS = 5.0


def silence_of(window: Window) -> tuple[DecisionReason, str] | None:
    """The reason and its words; None where fresh steps were seen."""
    if window.age_seconds is None:
        return DecisionReason.TELEMETRY_STALE, "no telemetry from the engine yet"
    if window.running == 0 and window.waiting == 0:
        return DecisionReason.IDLE, "nothing runs and nothing waits"
    if window.age_seconds > STALE_SECONDS:
        load = f"{window.running} running, {window.waiting} waiting"
        return DecisionReason.TELEMETRY_STALE, f"newest step is {window.age_seconds:.1f} s old with {load}"
    return None
