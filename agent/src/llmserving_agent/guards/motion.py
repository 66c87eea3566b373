"""How bounds may move: not without need, not for trifles, down fast and up slowly."""

from dataclasses import replace
from typing import TypeVar

from llmserving_agent.laws.protocol import Decision, Guard, Setting, Window, bounds_of
from llmserving_api.conditions import DecisionReason
from llmserving_api.control import Bounds

S = TypeVar("S")

BINDING_SHARE = 0.1
"""Share of steps a bound must have held back before it may grow."""
DEAD_BAND = 0.05
LEAST_SEQS, LEAST_TOKENS = 2, 32
UP, DOWN = 1.5, 0.25
SETTLE_SECONDS = 2.0
UP_SEQS, UP_TOKENS = 8, 128


class OnlyWhenBinding(Guard[S]):
    """A bound that held nothing back does not grow; while more run than the bound allows, it does not fall further."""

    def decide(self, state: S, window: Window, setting: Setting) -> tuple[S, Decision]:
        """The inner decision, its idle growth and its impatience removed."""
        state, decision = self._inner.decide(state, window, setting)
        now, wanted = window.bounds, decision.bounds
        seqs, tokens = wanted.max_num_seqs, wanted.max_num_batched_tokens
        if seqs > now.max_num_seqs and window.epoch.seqs_binding < BINDING_SHARE:
            seqs = now.max_num_seqs
        if tokens > now.max_num_batched_tokens and window.epoch.tokens_binding < BINDING_SHARE:
            tokens = now.max_num_batched_tokens
        drains = window.draining and seqs < now.max_num_seqs
        if drains:
            seqs = now.max_num_seqs
        bounds = bounds_of(seqs, tokens)
        if bounds == now and wanted != now:
            if drains:
                message = f"{window.running} running drain to {now.max_num_seqs}; {decision.message}"
                return state, replace(decision, bounds=bounds, reason=DecisionReason.DRAINING, message=message)
            message = f"{decision.message}, the bounds hold nothing back"
            return state, replace(decision, bounds=bounds, reason=DecisionReason.NOT_BINDING, message=message)
        return state, decision.moved(bounds)


class DeadBand(Guard[S]):
    """A change too small to matter is not made: each one costs a window of measurements."""

    def decide(self, state: S, window: Window, setting: Setting) -> tuple[S, Decision]:
        """The inner decision, trifles left out."""
        state, decision = self._inner.decide(state, window, setting)
        now, wanted = window.bounds, decision.bounds
        bounds = bounds_of(
            _settled(now.max_num_seqs, wanted.max_num_seqs, LEAST_SEQS),
            _settled(now.max_num_batched_tokens, wanted.max_num_batched_tokens, LEAST_TOKENS),
        )
        return state, _moved(decision, now, bounds)


class BoundedStep(Guard[S]):
    """Down fast, up slowly: to a quarter at once; up by half at most, and only after some time under these bounds."""

    def decide(self, state: S, window: Window, setting: Setting) -> tuple[S, Decision]:
        """The inner decision, its steps bounded."""
        state, decision = self._inner.decide(state, window, setting)
        now, wanted = window.bounds, decision.bounds
        bounds = bounds_of(
            _bounded(now.max_num_seqs, wanted.max_num_seqs, UP_SEQS),
            _bounded(now.max_num_batched_tokens, wanted.max_num_batched_tokens, UP_TOKENS),
        )
        if window.epoch.span_seconds < SETTLE_SECONDS:
            bounds = bounds_of(
                min(now.max_num_seqs, bounds.max_num_seqs),
                min(now.max_num_batched_tokens, bounds.max_num_batched_tokens),
            )
        return state, _moved(decision, now, bounds)


def _moved(decision: Decision, now: Bounds, bounds: Bounds) -> Decision:
    """The decision with other bounds; where nothing is left of a wish to move, that is its reason."""
    if bounds == now and decision.bounds != now:
        return replace(decision, bounds=now, reason=DecisionReason.WITHIN_BAND)
    return decision.moved(bounds)


def _settled(now: int, wanted: int, least: int) -> int:
    return now if abs(wanted - now) < max(least, DEAD_BAND * now) else wanted


def _bounded(now: int, wanted: int, least_up: int) -> int:
    return int(min(max(wanted, now * DOWN), max(now * UP, now + least_up)))
