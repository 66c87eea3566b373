"""The SLA law: the largest bounds whose steps keep the inter-token target.

Source: Algorithm 2 of arXiv 2503.05248v1 for the sequence bound, and its port to the token bound (the paper says only
that the method "also determines chunk size"). Two searches run side by side, so that they do not fight over one sample:
steps without prefill move the sequence bound, steps with prefill the token bound. See ``laws.search`` for the interval
and the corrections to it. Corrections here:

* *Set point.* The paper steers mean latency to the target, which leaves half of the gaps above it. The target is a
  percentile, so the set point lies below it: ``ratio * target``. The ratio falls while the set point is kept and yet
  more gaps exceed the target than the percentile allows, and rises slowly while far fewer do.
* *Full steps.* The token bound's own effect is seen in the steps that used it up; where there are enough, only they
  count.
* *Large ones.* Steps with prefill can be quick on average and yet too often long, when the token bound lets large prompts
  through. While more gaps exceed the target than allowed, the bound is at most the linear model's for the set point.
* *Order.* When the token bound is as low as it may be and steps with prefill are still slow, they move the sequence
  bound, if the decodes in them take enough of the time for that to help.
* *Within reach.* Nothing is gained by starving the engine for a target that even an idle one misses: the set point is
  at least ``LEAST_OVER_IDLE`` times an idle engine's step.
* *End to end.* An end-to-end target asks for a time between tokens too; see ``laws.end_to_end``.
* *In force.* Where guards or another law kept the bounds away from the search's middle, it starts again from them.
"""

from dataclasses import dataclass, replace

from llmserving_agent.laws import search
from llmserving_agent.laws.end_to_end import inter_token_target
from llmserving_agent.laws.explain import explained
from llmserving_agent.laws.protocol import Decision, Setting, Window, bounds_of
from llmserving_agent.laws.search import SEQS, TOKENS, Interval, Observation, Pace, SearchOptions
from llmserving_agent.signals.epoch import Steps
from llmserving_agent.signals.misses import share_over
from llmserving_api.conditions import DecisionReason
from llmserving_api.control import Bounds
from llmserving_api.policy import Limits, Target

PREFILL_QUANTUM = 64
"""Tokens left for prefill beside the running decodes, whatever the search says."""
BINDING_SHARE = 0.1
FIRST_RATIO = 0.8
LEAST_RATIO, GREATEST_RATIO = 0.5, 0.92
TOO_MANY, FEW = 0.2, 0.04
"""Gaps over the target, as shares of what the percentile allows: beyond the first the ratio falls, below the second it rises.

Far below 1, because the long gaps gather on the requests that live through a burst of prompts: the share of requests that
miss the percentile of their own gaps is some six times the share of gaps over the target.
"""
ENOUGH_GAPS = 200
LEAST_OVER_IDLE = 1.25


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
            seqs=search.around(bounds.max_num_seqs, setting.max_num_seqs, self.seqs),
            tokens=search.around(bounds.max_num_batched_tokens, setting.max_num_batched_tokens, self.tokens),
        )

    def decide(self, state: SLAState, window: Window, setting: Setting) -> tuple[SLAState, Decision]:
        """Move both intervals by the latest steps and take their middles."""
        itl = inter_token_target(window, setting)
        if itl is None:
            bounds = bounds_of(setting.max_num_seqs.max, setting.max_num_batched_tokens.max)
            return state, Decision(bounds, DecisionReason.HEADROOM, "no inter-token latency target")
        state = self._in_force(state, window.bounds, setting)
        set_point = max(state.ratio * itl.target_seconds, LEAST_OVER_IDLE * (window.idle_step_seconds or 0.0))
        limits = _token_limits(setting.max_num_batched_tokens, window.decoding)
        missed = _share_over_allowed(window, itl) > TOO_MANY
        tokens, tokens_pace = self._search_tokens(state.tokens, window, set_point, limits, missed)
        exhausted = tokens_pace is Pace.SLOW and window.bounds.max_num_batched_tokens <= limits.min
        seqs, seqs_pace = self._search_seqs(state.seqs, window, set_point, setting.max_num_seqs, exhausted)
        bounds = bounds_of(
            seqs.middle if seqs_pace else window.bounds.max_num_seqs,
            tokens.middle if tokens_pace else max(window.bounds.max_num_batched_tokens, limits.min),
        )
        paces = (seqs_pace, tokens_pace)
        decision = explained(bounds, window, replace(setting, itl=itl), set_point, paces)
        return SLAState(seqs, tokens, _ratio(state.ratio, window, itl, paces)), decision

    def _in_force(self, state: SLAState, bounds: Bounds, setting: Setting) -> SLAState:
        seqs, tokens = bounds.max_num_seqs, bounds.max_num_batched_tokens
        if abs(state.seqs.middle - seqs) > self.seqs.width(seqs):
            state = replace(state, seqs=search.around(seqs, setting.max_num_seqs, self.seqs))
        if abs(state.tokens.middle - tokens) > self.tokens.width(tokens):
            state = replace(state, tokens=search.around(tokens, setting.max_num_batched_tokens, self.tokens))
        return state

    def _search_tokens(
        self, interval: Interval, window: Window, set_point: float, limits: Limits, missed: bool
    ) -> tuple[Interval, Pace | None]:
        epoch = window.epoch
        steps = epoch.full if epoch.full.count >= self.tokens.min_steps else epoch.mixed
        if steps.count < self.tokens.min_steps:
            return interval, None
        seen = Observation(
            latency=steps.seconds,
            batch=steps.tokens,
            offset=epoch.decode.seconds or window.idle_step_seconds or 0.0,
            binding=epoch.tokens_binding >= BINDING_SHARE,
        )
        pace = search.pace(steps.seconds, set_point, self.tokens)
        if missed and pace is not Pace.SLOW and steps is epoch.mixed:
            lowered = search.capped(interval, seen, set_point, limits, self.tokens)
            return lowered, Pace.SLOW if lowered is not interval else pace
        return search.narrowed(interval, seen, set_point, limits, self.tokens), pace

    def _search_seqs(
        self, interval: Interval, window: Window, set_point: float, limits: Limits, tokens_exhausted: bool
    ) -> tuple[Interval, Pace | None]:
        epoch, idle = window.epoch, window.idle_step_seconds or 0.0
        steps, offset = epoch.decode, idle
        if tokens_exhausted and _fewer_decodes_help(window, set_point, limits.min):
            steps = epoch.mixed
            offset = max(0.0, steps.seconds - (window.seconds_per_decode or 0.0) * steps.decodes)
        elif steps.count < self.seqs.min_steps:
            return self._by_mixed(interval, epoch.mixed, window, set_point, limits)
        seen = Observation(
            latency=steps.seconds,
            batch=steps.decodes,
            offset=offset,
            binding=epoch.seqs_binding >= BINDING_SHARE,
        )
        return search.narrowed(interval, seen, set_point, limits, self.seqs), search.pace(
            steps.seconds, set_point, self.seqs
        )

    def _by_mixed(
        self, interval: Interval, mixed: Steps, window: Window, set_point: float, limits: Limits
    ) -> tuple[Interval, Pace | None]:
        """With hardly a step without prefill, quick steps with it show headroom all the more; slow ones nothing."""
        quick = search.pace(mixed.seconds, set_point, self.seqs) is Pace.FAST
        if mixed.count < self.seqs.min_steps or not quick:
            return interval, None
        seen = Observation(mixed.seconds, mixed.decodes, binding=window.epoch.seqs_binding >= BINDING_SHARE)
        return search.narrowed(interval, seen, set_point, limits, self.seqs), Pace.FAST


def _token_limits(limits: Limits, decoding: int) -> Limits:
    """All running decodes must fit, and prefill beside them."""
    return Limits(min=min(limits.max, max(limits.min, decoding + PREFILL_QUANTUM)), max=limits.max)


def _fewer_decodes_help(window: Window, set_point: float, least: int) -> bool:
    """Whether the decodes in steps with prefill could make up for at least half of what those are too slow by."""
    each, mixed = window.seconds_per_decode, window.epoch.mixed
    return each is not None and each * (mixed.decodes - least) >= (mixed.seconds - set_point) / 2


def _share_over_allowed(window: Window, itl: Target) -> float:
    """Share of gaps over the target as a multiple of what the percentile allows; 0 with too few gaps to tell."""
    over = share_over(window.epoch.gaps, itl.target_seconds)
    if over is None or sum(window.epoch.gaps.values()) < ENOUGH_GAPS:
        return 0.0
    return over / (1 - itl.percentile / 100)


def _ratio(ratio: float, window: Window, itl: Target, paces: tuple[Pace | None, Pace | None]) -> float:
    if sum(window.epoch.gaps.values()) < ENOUGH_GAPS:
        return ratio
    share = _share_over_allowed(window, itl)
    if share > TOO_MANY and Pace.SLOW not in paces:
        return max(LEAST_RATIO, ratio * 0.97)
    if share < FEW and (Pace.WITHIN in paces or Pace.SLOW in paces):
        return min(GREATEST_RATIO, ratio + 0.01)
    return ratio
