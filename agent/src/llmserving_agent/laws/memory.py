"""The memory law: as many sequences as fit the KV cache with a stated probability of overflow.

Source: Pang, Li, Wang, "Optimizing LLM Inference Throughput via Memory-aware and SLA-constrained Dynamic Batching"
(arXiv 2503.05248v1), equations 7 to 14 and Algorithm 1; the block rule is from the README of the authors' repository.

Corrections to the published form, each with its reason:

* *Per-request moments.* Equation 12 holds for the mean and deviation of one request; equations 8 and 9 define them
  for b requests, with which it would be circular.
* *Safety buffer.* The printed buffer ``L0 = eta - (theta sigma_S + mu_S)`` makes the linear rule grow without limit;
  the one that makes it equal to the chance constraint is ``L0 = theta sigma sqrt(b)``. The closed form (12) is its
  fixed point.
* *Covariance.* The deviation is that of prompt plus output, so their covariance is in it.
* *Censoring.* Finished requests are the short ones; see ``signals.lengths``.
* *Trust.* An estimate of lengths that is off must not throttle an engine whose cache is not full. What either rule says
  is multiplied by a trust that grows while the bound binds and the cache is less than ``FULL_USAGE`` full, the faster
  the emptier it is, and shrinks with preemptions.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

from llmserving_agent.laws.protocol import Decision, Setting, Window, bounds_of, clamped
from llmserving_api.conditions import DecisionReason
from llmserving_api.control import Bounds

FULL_USAGE = 0.9
BINDING_SHARE = 0.1
GREATEST_TRUST = 8.0
TRUST_GAIN = 0.1
TRUST_LOSS = 0.95


class MemoryRule(StrEnum):
    """How the bound is computed."""

    AUTO = "auto"
    """The CLT rule once enough requests have finished, the block rule before."""
    CLT = "clt"
    """Central limit theorem over the lengths of requests (equations 11 to 14)."""
    BLOCKS = "blocks"
    """Blocks in use for each running request, extrapolated to the whole cache (the README's rule)."""


class Footprint(StrEnum):
    """What one sequence is taken to hold."""

    FINAL = "final"
    """Its final length: right when all start at once, careful otherwise."""
    RESIDENT = "resident"
    """Its mean over its life: right for a steady stream."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Sets the sequence bound; leaves the token bound where it is.

    Attributes:
        rule: See ``MemoryRule``.
        footprint: See ``Footprint``; for the CLT rule.
        overflow_probability: Accepted probability that the batch outgrows the cache (the paper's epsilon_M).
        memory_factor: Share of the cache the block rule fills (``dynamic_batching_memory_factor``).
        enough_finished: Finished requests that the CLT rule needs.
    """

    rule: MemoryRule = MemoryRule.AUTO
    footprint: Footprint = Footprint.FINAL
    overflow_probability: float = 0.05
    memory_factor: float = 0.95
    enough_finished: int = 32

    def start(self, bounds: Bounds, setting: Setting) -> float:
        """The state is the trust: 1 to begin with."""
        return 1.0

    def decide(self, state: float, window: Window, setting: Setting) -> tuple[float, Decision]:
        """Algorithm 1: a new bound when somebody runs and somebody waits, else the one in force."""
        if window.running == 0 or window.waiting == 0:
            idle = f"{window.running} running, {window.waiting} waiting"
            return state, Decision(window.bounds, DecisionReason.NOT_BINDING, idle)
        fit, cause = self._fit(window)
        if fit is None:
            return state, Decision(window.bounds, DecisionReason.TOO_FEW_SAMPLES, cause)
        trust = _trust(state, window)
        seqs = clamped(max(fit * trust, window.running), setting.max_num_seqs)
        bounds = bounds_of(seqs, window.bounds.max_num_batched_tokens)
        if seqs < window.bounds.max_num_seqs:
            return trust, Decision(bounds, DecisionReason.MEMORY_HIGH, cause)
        if seqs > window.bounds.max_num_seqs:
            return trust, Decision(bounds, DecisionReason.HEADROOM, cause)
        return trust, Decision(bounds, DecisionReason.WITHIN_BAND, cause)

    def _fit(self, window: Window) -> tuple[int | None, str]:
        used = f"KV cache {window.kv_usage:.0%} used"
        lengths = window.lengths
        known = lengths.finished >= self.enough_finished
        if self.rule is MemoryRule.CLT or (self.rule is MemoryRule.AUTO and known):
            if not known:
                return None, f"{lengths.finished} of {self.enough_finished} finished requests needed for lengths"
            mean = lengths.mean if self.footprint is Footprint.FINAL else lengths.resident_mean
            tokens = window.kv_blocks_total * window.block_size
            fit = clt_bound(tokens, mean, lengths.sd, self.overflow_probability)
            return fit, f"{used}, room for {fit} sequences of {mean:.0f} ± {lengths.sd:.0f} tokens"
        fit_blocks = block_bound(window.kv_blocks_total, window.kv_blocks_used, window.running, self.memory_factor)
        if fit_blocks is None:
            return None, "no KV block is in use yet"
        return fit_blocks, f"{used} by {window.running} running, room for {fit_blocks}"


def _trust(trust: float, window: Window) -> float:
    if window.epoch.preempted:
        return max(1.0, trust * TRUST_LOSS)
    if window.epoch.seqs_binding >= BINDING_SHARE and window.kv_usage < FULL_USAGE:
        return min(GREATEST_TRUST, trust * (1 + TRUST_GAIN * (1 - window.kv_usage / FULL_USAGE)))
    return trust


def clt_bound(tokens: float, mean: float, sd: float, overflow_probability: float) -> int:
    """Largest b with ``P(sum of b lengths > tokens) <= overflow_probability`` (equation 12, per-request moments)."""
    theta = NormalDist().inv_cdf(1 - overflow_probability)
    root = (math.sqrt((theta * sd) ** 2 + 4 * mean * tokens) - theta * sd) / (2 * mean)
    return math.floor(root * root)


def buffered_bound(tokens: float, mean: float, sd: float, overflow_probability: float, b: float) -> float:
    """One application of the linear rule (13) with the corrected buffer; its fixed point is ``clt_bound``."""
    theta = NormalDist().inv_cdf(1 - overflow_probability)
    return (tokens - theta * sd * math.sqrt(b)) / mean


def block_bound(total: int, used: int, running: int, factor: float) -> int | None:
    """The README's rule: ``floor(total * factor / (used / running))``; None while nothing is used."""
    if used == 0 or running == 0:
        return None
    return math.floor(total * factor * running / used)
