"""Policies of the bench by name: which start-up settings they give the engine and what runs beside it.

A policy is added by one entry in `POLICIES`. The laws among them are the production classes: the plug-in's scheduler in the engine,
the agent's loop beside it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass


class PolicyError(ValueError):
    """No such policy, or its argument is wrong."""


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Start-up bounds of an engine."""

    max_num_seqs: int
    max_num_batched_tokens: int


@dataclass(frozen=True, slots=True)
class Setup:
    """What a policy asks of a run.

    Attributes:
        ceilings: Start-up settings; None takes those that stock vLLM gives the card, as a resource without maxima does.
        law: Law of the agent that runs beside the engine, with the plug-in in it.
        planner: Planner of the plug-in that runs without an agent, its bounds at the ceilings. With neither, vLLM's own scheduler
            runs alone.
    """

    ceilings: Ceilings | None = None
    law: str | None = None
    planner: str | None = None


def _default(argument: str) -> Setup:
    _no_argument("default", argument)
    return Setup()


def _static(argument: str) -> Setup:
    return Setup(_ceilings("static", argument))


def _ceilings(name: str, argument: str) -> Ceilings:
    match = re.fullmatch(r"(\d+)x(\d+)", argument)
    if not match:
        raise PolicyError(f"policy {name}:{argument}: should be {name}:SEQSxTOKENS, for example {name}:256x2048")
    seqs, tokens = int(match[1]), int(match[2])
    if seqs < 1 or tokens < seqs:
        raise PolicyError(
            f"policy {name}:{argument}: vLLM wants at least one sequence and no fewer tokens than sequences; "
            f"{name}:{max(1, tokens)}x{max(1, tokens)} is the most for {tokens} tokens"
        )
    return Ceilings(seqs, tokens)


def _law(name: str) -> Callable[[str], Setup]:
    def make(argument: str) -> Setup:
        return Setup(_ceilings(name, argument) if argument else None, law=name)

    return make


def _planner(name: str) -> Callable[[str], Setup]:
    def make(argument: str) -> Setup:
        _no_argument(name, argument)
        return Setup(planner=name)

    return make


def _any_planner(argument: str) -> Setup:
    if not argument:
        raise PolicyError("policy planner: should be planner:NAME, a planner of the plug-in, for example planner:wait")
    return Setup(planner=argument)


def _no_argument(name: str, argument: str) -> None:
    if argument:
        raise PolicyError(f"policy {name}:{argument}: {name} takes no argument")


POLICIES: dict[str, Callable[[str], Setup]] = {
    "default": _default,
    "static": _static,
    "memory": _law("memory"),
    "memory-readme": _law("memory-readme"),
    "sla": _law("sla"),
    "memory-sla": _law("memory-sla"),
    "past-future": _planner("past-future"),
    "fair": _planner("fair"),
    "predictive": _law("predictive"),
    "wait": _law("wait"),
    "nested-wait": _law("nested-wait"),
    "oracle": _planner("oracle"),
    "planner": _any_planner,
}
"""Constructors by name; the text after a colon is their argument."""

SEARCHES = ("static-grid", "limit")
"""Names that stand for a search over static settings, not for one setting."""


def setup_of(policy: str) -> Setup:
    """What a policy asks of a run.

    Raises:
        PolicyError: no such policy, or its argument is wrong.
    """
    name, _, argument = policy.partition(":")
    if name not in POLICIES:
        known = ", ".join([*POLICIES, *SEARCHES])
        raise PolicyError(f"policy {name!r} is not known; known are {known}")
    return POLICIES[name](argument)
