"""The plan that makes vLLM schedule the chosen step, and what every request is granted by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from llmserving_engine.planning.feasible import Job
from llmserving_engine.planning.protocol import StepPlan, StepView
from llmserving_engine.planning.shape import Choice
from llmserving_engine.planning.sizing import Work


@dataclass(frozen=True, slots=True)
class Grants:
    """What the jobs are granted.

    Attributes:
        taken: Jobs that the engine is to work on, or is offered.
        chunks: Prompt tokens of each job that the step has tokens for.
    """

    taken: list[Job] = field(default_factory=list)
    chunks: list[tuple[Job, int]] = field(default_factory=list)


def emit(
    view: StepView, decodes: int, work: Work, choice: Choice, *, held: int, trim: float
) -> tuple[StepPlan, Grants]:
    """Make the plan.

    Args:
        view: The engine's state.
        decodes: Requests that decode.
        work: Prompt tokens on offer.
        choice: What the step shall be.
        held: Requests put behind others.
        trim: What predictions were multiplied by.
    """
    cap = view.bounds.max_num_seqs
    nanoseconds = int(choice.seconds * 1e9)
    prefilling = view.prefilling
    if not choice.tokens:
        order = [*_decoding(view), *prefilling.values()] if prefilling else None
        plan = StepPlan(
            cap, decodes * view.decode_tokens, order, only_listed=True, parked=tuple(prefilling),
            predicted_ns=nanoseconds, held=held, trim=trim,
        )  # fmt: skip
        return plan, Grants()
    grants = Grants(taken=list(work.refused))
    partial: list[Any] = []
    refused = [job.request.request_id for job in work.refused]
    admitted: list[str] = []
    left = choice.tokens
    for job in work.jobs:
        tokens = job.work
        if not job.waiting and admitted and tokens > left:
            continue  # it would be served before those admitted, and take what is theirs
        if not job.waiting:
            partial.append(job.request)
            grants.taken.append(job)
        elif not job.refused:
            admitted.append(job.request.request_id)
            grants.taken.append(job)
        chunk = min(tokens, left)
        grants.chunks.append((job, chunk))
        left -= chunk
        if left <= 0:
            break
    others = [request for request in prefilling.values() if request not in partial]
    parked = [request.request_id for request in others]
    budget = choice.tokens - left
    order = None  # as it is: the decodes alone
    if choice.beside_decodes:
        budget += decodes * view.decode_tokens
        if prefilling:
            order = [*_decoding(view), *partial, *others]
    elif prefilling or admitted or refused:
        decoding = _decoding(view)
        if prefilling:
            order = [*partial, *decoding, *others]
        if admitted or refused:
            parked += [request.request_id for request in decoding]
    plan = StepPlan(
        cap, budget, order, waiting_first=(*refused, *admitted), only_listed=True, parked=tuple(parked),
        predicted_ns=nanoseconds, held=held, trim=trim, decodes_pause=not choice.beside_decodes,
    )  # fmt: skip
    return plan, grants


def _decoding(view: StepView) -> Sequence[Any]:
    """The running requests that decode, in the engine's order."""
    prefilling = view.prefilling
    return [request for request in view.running if request.request_id not in prefilling] if prefilling else view.running
