"""The load of a recording: the bench's, as far as one real engine can be asked for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from llmserving_lab.record.errors import RecordError
from llmserving_lab.traces.arrival import Arrival
from llmserving_lab.traces.load import build_load
from llmserving_lab.traces.plan import LoadPlan

FIRST_ROW = 2
"""Row of a trace file's first request, below its header."""


def recorded_load(plan: LoadPlan, max_model_len: int | None) -> list[Arrival]:
    """The requests to send: every prompt has content of its own, so that a replay needs no prefix cache.

    Raises:
        RecordError: a request is too long for the model, or the plan's trace or names are not as they should be.
    """
    try:
        arrivals = [replace(one, content=()) for one in build_load(plan)]
    except ValueError as error:
        raise RecordError(str(error)) from None
    if max_model_len is not None:
        _check_lengths(arrivals, plan, max_model_len)
    return arrivals


def _check_lengths(arrivals: Sequence[Arrival], plan: LoadPlan, max_model_len: int) -> None:
    too_long = [
        (index, one) for index, one in enumerate(arrivals) if one.prompt_tokens + one.output_tokens > max_model_len
    ]
    if not too_long:
        return
    index, one = too_long[0]
    where = (
        f"load {plan.kind}: request {index + 1}"
        if plan.trace is None
        else f"{plan.trace}: row {plan.start + index + FIRST_ROW}"
    )
    raise RecordError(
        f"{where}: {one.prompt_tokens} prompt and {one.output_tokens} output tokens are more than the model's {max_model_len}; "
        f"{len(too_long)} of {len(arrivals)} requests are too long: give a longer --max-model-len to vLLM or another load"
    )
