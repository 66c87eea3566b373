"""What the planner costs in throughput, told without trying anything else.

The planner trades throughput for latency, step by step. Whether it trades too much can be told from its own step-time
model: what its steps got done while requests waited is priced at what the same tokens would cost in steps as stock
bounds fill them, with more requests decoding at once and prompts in large chunks beside them. That price over the time
the steps took is the *relative throughput*: about 1 when nothing is lost, near 0 when prompts are starved or served in
crumbs. Only the model's shape enters, so a slow device changes nothing; the model's own error is given to the planner.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from llmserving_agent.laws.predictive.learner import Learned, sample_of
from llmserving_agent.laws.predictive.memory import Sample
from llmserving_agent.laws.protocol import Window
from llmserving_api.control import Bounds
from llmserving_api.telemetry import StepRecord

WAITING_SHARE: Final = 0.8
"""Share of the time in which requests must have waited: without work to do, slow is no loss."""
MOST_GROWTH: Final = 4.0
"""Stock bounds are taken to decode at most so many times as many requests at once as the planner: no further is the model
asked about what it has not seen."""
LARGEST_CHUNK: Final = 2048
"""Beyond it, larger prompt chunks hardly compute more tokens per second."""
SMALLEST_CHUNK: Final = 64


def relative_throughput(model: Learned, steps: Sequence[StepRecord], window: Window, stock: Bounds) -> float | None:
    """Throughput of these steps over that of stock bounds on the same work; None where hardly anything waited."""
    samples = [(step, sample) for step in steps if (sample := sample_of(step)) is not None]
    busy = sum(sample.seconds for _, sample in samples)
    waited = sum(sample.seconds for step, sample in samples if step.waiting)
    if not busy or waited < WAITING_SHARE * busy:
        return None
    done = [sample for _, sample in samples]
    decodes = sum(sample.decodes for sample in done)
    prefill = sum(sample.prefill for sample in done)
    at_once = decodes / max(sum(sample.decodes > 0 for sample in done), 1)
    context = sum(sample.context for sample in done) / max(decodes, 1)
    pairs = sum(sample.pairs for sample in done) / max(prefill, 1)
    stock_at_once = _stock_at_once(at_once, window, stock)
    chunk = max(min(stock.max_num_batched_tokens - stock_at_once, LARGEST_CHUNK), SMALLEST_CHUNK)

    def seconds(tokens: int) -> float:
        if not tokens and not stock_at_once:
            return 0.0
        return model.seconds(Sample(tokens, tokens * pairs, stock_at_once, round(stock_at_once * context), 0.0))

    decode_step = seconds(0)
    price = prefill / chunk * (seconds(chunk) - decode_step)
    if stock_at_once:
        price += decodes / stock_at_once * decode_step
    return price * (1.0 + model.error) / busy


def _stock_at_once(at_once: float, window: Window, stock: Bounds) -> int:
    """Requests that stock bounds would decode at once, given who is there and the KV cache."""
    most = min(stock.max_num_seqs, window.running + window.waiting, MOST_GROWTH * at_once)
    if window.kv_blocks_used:
        most = min(most, window.running * window.kv_blocks_total / window.kv_blocks_used)
    return round(max(most, at_once))
