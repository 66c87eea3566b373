"""How many requests a second a device can serve at all while gaps between tokens stay within a target.

A steady batch of n decodes with the load's mean prompt, output and place of a token in its prompt: each gap between two
tokens holds one decode of each and some prompt tokens, beside the decodes or in a step of their own, whichever is shorter;
the stated share of gaps may hold a long prefill step more. What enters must leave: prompt tokens per gap for each output
token per gap as in the load. The best n, chunk and long step give the rate. No waiting, no bursts, perfect knowledge: what a
policy reaches lies below it. Requests too short to have a long gap (fewer than 1 / share gaps) make it unreachable still.

    .venv/bin/python -m llmserving_lab.environment lab/benchmarks/itl_bound.py --profile PROFILE --trace azure-llm-2023-conversation.csv
"""

import argparse
import statistics
from dataclasses import dataclass

from llmserving_lab.bench.slices import load_slices
from llmserving_lab.device.model import DeviceModel, StepBatch, load_device
from llmserving_lab.traces.load import trace_rows
from llmserving_lab.traces.plan import LoadPlan

CHUNKS = range(0, 2049, 32)
LONG_CHUNKS = range(512, 8193, 256)
DECODES = range(8, 513, 4)


@dataclass(frozen=True, slots=True)
class Steady:
    """The best steady batch found: requests per second, decodes, prompt tokens per gap, seconds per usual gap, long chunk."""

    rate: float
    decodes: int
    chunk: int
    gap: float
    long_chunk: int


def step(device: DeviceModel, prompt: int, position: float, decodes: int, context: int) -> float:
    """Seconds of a step with so many prompt tokens, at this mean place in their prompts, and decodes of this context."""
    chunks = chunks_of(prompt, position)
    return device.step_seconds(StepBatch(chunks, decodes, decodes * context, context, decodes + len(chunks))).seconds


def chunks_of(tokens: int, position: float) -> tuple[tuple[int, int], ...]:
    """Chunks and what is cached before each, so that the tokens lie at this mean place: parts of whole prompts if many."""
    whole = max(1, round(2 * position))
    sizes = [whole] * (tokens // whole) + [tokens % whole] * (tokens % whole > 0)
    return tuple((size, round(position - size / 2)) for size in sizes)


def bound(
    device: DeviceModel, prompt: float, position: float, output: float, context: int, itl: float, share_long: float
) -> Steady:
    """The highest rate over batches, chunks and long steps.

    Args:
        device: The device.
        prompt: Mean prompt tokens.
        position: Mean place of a prompt token in its prompt, in tokens: what it attends to.
        output: Mean output tokens.
        context: Mean context of a decode in tokens.
        itl: Target of the gap in seconds; a long gap is at most five times that.
        share_long: Share of the gaps that may be long.
    """
    best = Steady(0.0, 0, 0, 0.0, 0)
    alone = {chunk: step(device, chunk, position, 0, 0) for chunk in (*CHUNKS[1:], *LONG_CHUNKS)}
    for decodes in DECODES:
        bare = step(device, 0, position, decodes, context)
        if bare > itl:
            break
        for chunk in CHUNKS:
            gap = min(step(device, chunk, position, decodes, context), bare + alone[chunk]) if chunk else bare
            if gap > itl:
                continue
            for long_chunk in (0, *LONG_CHUNKS) if share_long else (0,):
                extra = alone[long_chunk] if long_chunk else 0.0
                if bare + extra > 5 * itl:
                    break
                mean_gap = gap + share_long * extra
                rate = min((chunk + share_long * long_chunk) / prompt, decodes / output) / mean_gap
                if rate > best.rate:
                    best = Steady(rate, decodes, chunk, gap, long_chunk)
    return best


def main() -> None:
    """Print the bound of each slice and their geometric mean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", required=True)
    parser.add_argument("--trace", required=True)
    parser.add_argument("--itl", type=float, default=0.05, help="seconds")
    parser.add_argument("--share-long", type=float, default=0.05, help="share of the gaps that may be five times that")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--slices", type=int, default=4)
    options = parser.parse_args()
    try:
        device = load_device(options.profile)
        slices = load_slices(LoadPlan(trace=options.trace, requests=options.requests), options.slices)
    except ValueError as error:
        parser.error(str(error))
    rows = [(one.prompt_tokens, one.output_tokens) for one in trace_rows(options.trace)]
    rates = []
    for start, _ in slices:
        part = rows[start : start + options.requests]
        prompt, output = (statistics.fmean(column) for column in zip(*part, strict=True))
        context = round(sum(p * o + o * o / 2 for p, o in part) / sum(o for _, o in part))
        position = sum(p * p / 2 for p, _ in part) / sum(p for p, _ in part)
        usual = bound(device, prompt, position, output, context, options.itl, 0.0)
        found = bound(device, prompt, position, output, context, options.itl, options.share_long)
        rates.append(found.rate)
        print(f"prompt {prompt:.0f} output {output:.0f}: {usual.rate:.2f} req/s, with long gaps {found}")
    print(f"geometric mean {statistics.geometric_mean(rates):.2f} req/s")


if __name__ == "__main__":
    main()
