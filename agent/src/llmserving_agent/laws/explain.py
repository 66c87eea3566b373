"""Reason and words of an SLA decision."""

from llmserving_agent.laws.protocol import Decision, Setting, Window
from llmserving_agent.laws.search import Pace
from llmserving_agent.signals.misses import is_missed
from llmserving_api.conditions import DecisionReason
from llmserving_api.control import Bounds
from llmserving_api.latency import quantile_seconds
from llmserving_api.policy import Target


def explained(
    bounds: Bounds, window: Window, setting: Setting, set_point: float, paces: tuple[Pace | None, Pace | None]
) -> Decision:
    """The decision for bounds that the search came to; ``paces`` are what decided about sequences and tokens."""
    cause = f"{_itl(window, setting.itl)}, {_steps(window, set_point)}"
    throttled = () if window.gpu is None else window.gpu.throttle_reasons
    if throttled and is_missed(window.epoch.gaps, 0, setting.itl):
        cause = f"{cause}, the GPU is throttled ({', '.join(throttled)})"
    missed = is_missed(window.epoch.first_tokens, window.overdue_waiting, setting.ttft)
    if missed and setting.ttft is not None:
        cause = f"{_ttft(window, setting.ttft)}; {cause}"
    return Decision(bounds, _reason(bounds, window, setting, paces, missed), cause)


def _reason(
    bounds: Bounds, window: Window, setting: Setting, paces: tuple[Pace | None, Pace | None], ttft_missed: bool
) -> DecisionReason:
    before = window.bounds
    growths = (
        bounds.max_num_seqs - before.max_num_seqs,
        bounds.max_num_batched_tokens - before.max_num_batched_tokens,
    )
    slow = Pace.SLOW in paces
    if slow and min(growths) < 0:
        return DecisionReason.ITL_HIGH
    if max(growths) > 0:
        return DecisionReason.TTFT_HIGH if ttft_missed else DecisionReason.HEADROOM
    if ttft_missed or (slow and before.max_num_batched_tokens <= setting.max_num_batched_tokens.min):
        return DecisionReason.SATURATED
    if paces == (None, None):
        return DecisionReason.TOO_FEW_SAMPLES
    if slow or Pace.WITHIN in paces:
        return DecisionReason.WITHIN_BAND
    return DecisionReason.NOT_BINDING


def _itl(window: Window, target: Target | None) -> str:
    if target is None:
        return "no inter-token latency target"
    observed = quantile_seconds(window.epoch.gaps, target.percentile)
    aim = f"target {ms(target.target_seconds)}"
    if observed is None:
        return f"no inter-token gap seen yet, {aim}"
    return f"p{target.percentile} ITL {ms(observed)} {'over' if observed > target.target_seconds else 'within'} {aim}"


def _steps(window: Window, set_point: float) -> str:
    parts = []
    if window.epoch.decode.count:
        parts.append(f"steps {ms(window.epoch.decode.seconds)}")
    if window.epoch.mixed.count:
        steps = window.epoch.full if window.epoch.full.count else window.epoch.mixed
        parts.append(f"with prefill {ms(steps.seconds)}")
    return f"{' and '.join(parts) or 'no step measured'}, set point {ms(set_point)}"


def _ttft(window: Window, target: Target) -> str:
    observed = quantile_seconds(window.epoch.first_tokens, target.percentile)
    seen = "no first token lately" if observed is None else f"p{target.percentile} TTFT {ms(observed)}"
    late = f", {window.overdue_waiting} waiting longer" if window.overdue_waiting else ""
    return f"{seen}{late}, target {ms(target.target_seconds)}"


def ms(seconds: float) -> str:
    """A time for people: milliseconds below a second."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
