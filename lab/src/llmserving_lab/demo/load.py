"""The demo's traffic, cut to the length of the script: rows of a trace, or lengths drawn from a fit to one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from llmserving_lab.demo.settings import DemoSettings
from llmserving_lab.traces.arrival import Arrival
from llmserving_lab.traces.csvfile import TraceError, read_trace
from llmserving_lab.traces.load import build_load
from llmserving_lab.traces.plan import LoadPlan

LONGEST_TOKENS = 16_000
"""Prompt and answer must fit into the engine's `--max-model-len`."""
LEAST_REQUESTS = 500


def demo_load(settings: DemoSettings, seconds: float) -> list[Arrival]:
    """Requests for `seconds` seconds at the wanted mean rate.

    Raises:
        TraceError: the trace cannot be read or is too short.
    """
    requests = max(LEAST_REQUESTS, round(settings.rate * seconds))
    rate = requests / seconds
    trace = None if settings.trace is None else str(settings.trace)
    if settings.trace is not None:
        _check_length(settings.trace, requests)
    return fitted_to_model(build_load(LoadPlan(trace=trace, requests=requests, rate=rate, seed=settings.seed)))


def _check_length(trace: Path, requests: int) -> None:
    rows = len(read_trace(trace))
    if rows < requests:
        raise TraceError(f"{trace}: has {rows} rows; the demo sends {requests}: give a longer trace or a lower --rate")


def fitted_to_model(arrivals: Iterable[Arrival]) -> list[Arrival]:
    """Prompts and answers cut so that both fit into the model's context."""
    fitted = []
    for one in arrivals:
        output = min(one.output_tokens, LONGEST_TOKENS // 2)
        prompt = min(one.prompt_tokens, LONGEST_TOKENS - output)
        fitted.append(replace(one, prompt_tokens=prompt, output_tokens=output, content=()))
    return fitted


def describe(arrivals: Sequence[Arrival], settings: DemoSettings) -> str:
    """The load in words."""
    fitted = "generator fitted to the Azure conversation trace"
    source = fitted if settings.trace is None else f"trace {settings.trace.name}"
    prompt = sum(one.prompt_tokens for one in arrivals) / len(arrivals)
    output = sum(one.output_tokens for one in arrivals) / len(arrivals)
    rate = len(arrivals) / max(arrivals[-1].time, 1e-9)
    lengths = f"{prompt:.0f} prompt and {output:.0f} output tokens on average"
    return f"{len(arrivals)} requests, {rate:.1f} a second, {lengths}, {source}"
