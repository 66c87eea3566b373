"""The SLA law: the largest bounds whose steps keep the inter-token target.

Source: Algorithm 2 of arXiv 2503.05248v1 for the sequence bound, and its port to the token bound (the paper says only
that the method "also determines chunk size"). Two searches run side by side, so that they do not fight over one
sample: steps without prefill move the sequence bound, steps with prefill the token bound. See ``laws.search`` for the
interval and the corrections to it. Corrections here:

* *Set point.* The paper steers mean latency to the target, which leaves half of the gaps above it. The target is a
  percentile, so the set point lies below it: ``ratio * target``, where ``ratio`` falls while more gaps exceed the
  target than the percentile allows, and rises slowly while far fewer do.
* *Full steps.* The token bound's own effect is seen in the steps that used it up; where there are enough, only they
  count.
* *Order.* When the token bound is as low as it may be and steps with prefill are still slow, they move the sequence
  bound.
* *In force.* Where guards or another law kept the bounds away from the search's middle, the search starts again from
  them.
"""

from dataclasses import dataclass, replace

from llmserving_agent.laws import search
from llmserving_agent.laws.protocol import Decision, Setting, Window, bounds_of
from llmserving_agent.laws.search import SEQS, TOKENS, Interval, Pace, SearchOptions
from llmserving_agent.signals.epoch import Steps
from llmserving_api.conditions import DecisionReason
from llmserving_api.control import Bounds
from llmserving_api.latency import quantile_seconds, share_above
from llmserving_api.policy import Limits, Target

PREFILL_QUANTUM = 64
"""Tokens left for prefill beside the running decodes, whatever the search says."""
BINDING_SHARE = 0.1
FIRST_RATIO = 0.8
LEAST_RATIO, GREATEST_RATIO = 0.5, 0.95
ENOUGH_GAPS = 200


@dataclass(frozen=True, slots=True)
class SLAState:
    """Both searches and the share of the target they steer to."""

    seqs: Interval
    tokens: Interval
    ratio: float = FIRST_RATIO


@dataclass(frozen=True, slots=True)
class SLA:
    """Algorithm 2 on both bounds.

    Attributes:
        seqs: Constants of the search over the sequence bound.
        tokens: Constants of the search over the token bound.
    """

    seqs: SearchOptions = SEQS
    tokens: SearchOptions = TOKENS

    def start(self, bounds: Bounds, setting: Setting) -> SLAState:
        """Intervals around the bounds in force."""
        return SLAState(
            seqs=search.start(bounds.max_num_seqs, setting.max_num_seqs, self.seqs),
            tokens=search.start(bounds.max_num_batched_tokens, setting.max_num_batched_tokens, self.tokens),
        )

    def decide(self, state: SLAState, window: Window, setting: Setting) -> tuple[SLAState, Decision]:
        """Move both intervals by the latest steps and take their middles."""
        if setting.itl is None:
            bounds = Bounds(
                max_num_seqs=setting.max_num_seqs.max, max_num_batched_tokens=setting.max_num_batched_tokens.max
            )
            return state, Decision(bounds, DecisionReason.HEADROOM, "no inter-token latency target")
        state = self._in_force(state, window.bounds, setting)
        set_point = state.ratio * setting.itl.target_seconds
        token_limits = _token_limits(setting.max_num_batched_tokens, window.decoding)
        mixed = window.epoch.full if window.epoch.full.count >= self.tokens.min_steps else window.epoch.mixed
        tokens, mixed_pace = self._search_tokens(state.tokens, mixed, window, set_point, token_limits)
        exhausted = mixed_pace is Pace.SLOW and window.bounds.max_num_batched_tokens <= token_limits.min
        seqs, seqs_pace = self._search_seqs(state.seqs, window, set_point, setting.max_num_seqs, exhausted)
        bounds = bounds_of(
            seqs.middle if seqs_pace else window.bounds.max_num_seqs,
            tokens.middle if mixed_pace else window.bounds.max_num_batched_tokens,
        )
        state = SLAState(seqs, tokens, self._ratio(state.ratio, window, setting.itl))
        return state, _explained(bounds, window, setting, setting.itl, set_point, (seqs_pace, mixed_pace))

    def _in_force(self, state: SLAState, bounds: Bounds, setting: Setting) -> SLAState:
        if abs(state.seqs.middle - bounds.max_num_seqs) > self.seqs.alpha:
            state = replace(state, seqs=search.start(bounds.max_num_seqs, setting.max_num_seqs, self.seqs))
        if abs(state.tokens.middle - bounds.max_num_batched_tokens) > self.tokens.alpha:
            tokens = search.start(bounds.max_num_batched_tokens, setting.max_num_batched_tokens, self.tokens)
            state = replace(state, tokens=tokens)
        return state

    def _search_tokens(
        self, interval: Interval, steps: Steps, window: Window, set_point: float, limits: Limits
    ) -> tuple[Interval, Pace | None]:
        if steps.count < self.tokens.min_steps:
            return interval, None
        moved = search.narrowed(
            interval,
            latency=steps.seconds,
            batch=steps.tokens,
            set_point=set_point,
            binding=window.epoch.tokens_binding >= BINDING_SHARE,
            limits=limits,
            options=self.tokens,
        )
        return moved, search.pace(steps.seconds, set_point, self.tokens)

    def _search_seqs(
        self, interval: Interval, window: Window, set_point: float, limits: Limits, tokens_exhausted: bool
    ) -> tuple[Interval, Pace | None]:
        steps = window.epoch.decode
        if tokens_exhausted or steps.count < self.seqs.min_steps:
            steps = window.epoch.mixed
        if steps.count < self.seqs.min_steps and not (tokens_exhausted and steps.count >= self.tokens.min_steps):
            return interval, None
        verdict = search.pace(steps.seconds, set_point, self.seqs)
        if steps is window.epoch.mixed and verdict is Pace.SLOW and not tokens_exhausted:
            return interval, None
        moved = search.narrowed(
            interval,
            latency=steps.seconds,
            batch=steps.decodes,
            set_point=set_point,
            binding=window.epoch.seqs_binding >= BINDING_SHARE,
            limits=limits,
            options=self.seqs,
        )
        return moved, verdict

    def _ratio(self, ratio: float, window: Window, itl: Target) -> float:
        gaps = window.epoch.gaps
        over = share_above(gaps, itl.target_seconds)
        if over is None or sum(gaps.values()) < ENOUGH_GAPS:
            return ratio
        allowed = 1 - itl.percentile / 100
        if over > allowed:
            return max(LEAST_RATIO, ratio * 0.95)
        if over < 0.4 * allowed:
            return min(GREATEST_RATIO, ratio + 0.01)
        return ratio


def _token_limits(limits: Limits, decoding: int) -> Limits:
    """All running decodes must fit, and prefill beside them."""
    return Limits(min=min(limits.max, max(limits.min, decoding + PREFILL_QUANTUM)), max=limits.max)


def is_missed(counts: dict[int, int], overdue: int, target: Target | None) -> bool:
    """Whether more than the percentile allows exceed the target; overdue ones count as exceeding."""
    if target is None:
        return False
    total = sum(counts.values()) + overdue
    over = (share_above(counts, target.target_seconds) or 0.0) * sum(counts.values()) + overdue
    return total > 0 and over > (1 - target.percentile / 100) * total + 1e-9


def _explained(
    bounds: Bounds,
    window: Window,
    setting: Setting,
    itl: Target,
    set_point: float,
    paces: tuple[Pace | None, Pace | None],
) -> Decision:
    observed = quantile_seconds(window.epoch.gaps, itl.percentile)
    target = f"target {_ms(itl.target_seconds)}"
    if observed is None:
        cause = f"no inter-token gap seen yet, {target}"
    elif observed > itl.target_seconds:
        cause = f"p{itl.percentile} ITL {_ms(observed)} over {target}"
    else:
        cause = f"p{itl.percentile} ITL {_ms(observed)} within {target}"
    slowest = max((window.epoch.decode, window.epoch.mixed, window.epoch.full), key=lambda steps: steps.seconds)
    pace_text = f"{cause}, steps of {_ms(slowest.seconds)} against a set point of {_ms(set_point)}"
    ttft_missed = is_missed(dict(window.epoch.first_tokens), window.overdue_waiting, setting.ttft)
    shrinks = (
        bounds.max_num_seqs < window.bounds.max_num_seqs
        or bounds.max_num_batched_tokens < window.bounds.max_num_batched_tokens
    )
    grows = (
        bounds.max_num_seqs > window.bounds.max_num_seqs
        or bounds.max_num_batched_tokens > window.bounds.max_num_batched_tokens
    )
    slow = Pace.SLOW in paces
    if slow and shrinks:
        return Decision(bounds, DecisionReason.ITL_HIGH, pace_text, blocked=ttft_missed)
    if grows and not slow:
        if ttft_missed and setting.ttft is not None:
            return Decision(bounds, DecisionReason.TTFT_HIGH, f"{_ttft(window, setting.ttft)}; {pace_text}")
        return Decision(bounds, DecisionReason.HEADROOM, pace_text)
    if slow:
        return Decision(bounds, DecisionReason.SATURATED, f"{pace_text}, bounds at their minimum", blocked=True)
    if ttft_missed and setting.ttft is not None:
        return Decision(bounds, DecisionReason.SATURATED, f"{_ttft(window, setting.ttft)}; {pace_text}", blocked=True)
    if paces == (None, None):
        return Decision(bounds, DecisionReason.TOO_FEW_SAMPLES, f"{window.epoch.steps} steps under these bounds so far")
    if Pace.WITHIN in paces:
        return Decision(bounds, DecisionReason.WITHIN_BAND, pace_text)
    return Decision(bounds, DecisionReason.NOT_BINDING, f"{pace_text}, the bounds hold nothing back")


def _ttft(window: Window, target: Target) -> str:
    observed = quantile_seconds(window.epoch.first_tokens, target.percentile)
    seen = f"p{target.percentile} TTFT {_ms(observed)}" if observed is not None else "no first token yet"
    late = f", {window.overdue_waiting} waiting longer" if window.overdue_waiting else ""
    return f"{seen}{late}, target {_ms(target.target_seconds)}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
