"""The plan that makes vLLM schedule the chosen step, and what every request is granted by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from llmserving_engine.planning.job import Job
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
        plan = StepPlan(
            cap, decodes * view.decode_tokens, _ordered(view, list(prefilling.values())), only_listed=True, parked=tuple(prefilling),
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
    parked = tuple(request.request_id for request in others)
    budget = choice.tokens - left + (decodes * view.decode_tokens if choice.beside_decodes else 0)
    plan = StepPlan(
        cap, budget, _ordered(view, [*partial, *others]), waiting_first=(*refused, *admitted), only_listed=True, parked=parked,
        predicted_ns=nanoseconds, held=held, trim=trim, decodes_pause=not choice.beside_decodes,
    )  # fmt: skip
    return plan, grants


def _ordered(view: StepView, prefilling: list[Any]) -> Sequence[Any] | None:
    """The running requests, decodes before the prefilling in this order; None: as they are."""
    running = view.running
    if not prefilling or running[-len(prefilling) :] == prefilling:
        return None
    apart = set(map(id, prefilling))  # nothing of the others is looked at: that would be a cold line of memory for each
    return [*(request for request in running if id(request) not in apart), *prefilling]
