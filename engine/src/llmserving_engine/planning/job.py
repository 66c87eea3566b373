"""A request until its first token, as a planner sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol


class Prompted(Protocol):
    """What is needed of a request."""

    request_id: str
    num_prompt_tokens: int
    num_computed_tokens: int

    @property
    def num_output_tokens(self) -> int:
        """Output tokens so far."""
        ...


class Relegatable(Protocol):
    """Where it is noted that a request was put behind others."""

    relegated: bool


class Standing(IntEnum):
    """Where a request without its first token stands."""

    INCOMING = 0
    ACCEPTED = 1
    """Makes its deadline if nothing unforeseen happens."""
    LATE = 2
    """Given up so that others make theirs; its deadline is still ahead."""
    MISSED = 3
    """Its deadline has passed."""
    RESUMED = 4
    """Was preempted after its first token."""
    GONE = 5
    """Has its first token, or left."""
    UNHURRIED = 6
    """Has no deadline: behind all others of its priority, oldest first."""


@dataclass(slots=True, eq=False)
class Job:
    """One request until its first token.

    Attributes:
        request: The engine's request.
        rank: Priority and class; smaller goes first, whatever the deadlines.
        arrival: Engine time of arrival in seconds.
        tokens: Tokens whose KV is needed before the first token (or before going on, after preemption).
        track: Told when the request is relegated.
        deadline: Engine time by which the first token is due; set when it is sorted in.
        resumed: It has had its first token before and was preempted: it goes before all others.
        hurried: Whether it has a deadline at all.
        waiting: Whether it is in the waiting queue (else it runs and holds KV).
        standing: See `Standing`.
        cached: Tokens found in the prefix cache when it was last looked up.
        looked_up: The step of that lookup.
        refused: The engine was offered it in the last step that was to take it, and did not.
        left: Tokens still to compute, when that was looked at last: in each step of those whose prompt is computed in part and of
            those at the front.
    """

    request: Prompted
    rank: int
    arrival: float
    tokens: int
    track: Relegatable
    deadline: float = 0.0
    resumed: bool = False
    hurried: bool = True
    waiting: bool = True
    standing: Standing = Standing.INCOMING
    cached: int = 0
    looked_up: int = -(1 << 60)
    refused: bool = False
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = self.work

    @property
    def work(self) -> int:
        """Tokens still to compute."""
        return self.tokens - max(self.request.num_computed_tokens, self.cached)
