"""Is this vLLM the one we know? Checked once at start-up, by reading its source and its values; fails closed.

Full control needs every assumption that ``step_control`` makes; older releases let the bounds alone be set; anything
unknown is only observed, and the control API answers 501 with the reason found here.
"""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from llmserving_engine.control import MODE_CAPS, MODE_FULL, MODE_OBSERVE, Contract
from llmserving_engine.runtime import Gate

FULL_VERSIONS: Final = ((0, 31), (0, 33))
CAPS_VERSIONS: Final = ((0, 24), (0, 30))
_GATE: Final = re.compile(r"if (?:num_running|len\(self\.running\)) (?:>=|==) self\.(\w+):\s*break")
_SESSIONS: Final = "self.num_waiting_for_streaming_input"
_SCHEDULERS: Final = {
    "vllm.v1.core.sched.scheduler.Scheduler",
    "vllm.v1.core.sched.async_scheduler.AsyncScheduler",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of the check."""

    contract: Contract
    gate: Gate
    counts_sessions: bool
    """Whether the gate counts streaming sessions that wait for input; 0.24 does not."""


def check(scheduler: Any, base: type, version: str, unsupported: tuple[str, ...]) -> Finding:
    """Check a scheduler just constructed.

    Args:
        scheduler: The instance.
        base: vLLM's class it was made from.
        version: ``vllm.__version__``.
        unsupported: Features in use under which nothing may be controlled.
    """
    release = _release(version)
    gate = Gate.ACTIVE if release >= FULL_VERSIONS[0] else Gate.RUNNING
    problems = [*_of_version(release, version), *_of_class(base, gate), *_of_values(scheduler, gate)]
    if problems:
        contract = Contract(MODE_OBSERVE, False, "; ".join(problems))
    elif unsupported:
        reason = f"not tested on real hardware with {', '.join(unsupported)}: advice only"
        contract = Contract(MODE_OBSERVE, True, reason, reason)
    elif release < FULL_VERSIONS[0]:
        reason = f"vLLM {version}: bounds alone, full control needs 0.31 to 0.33"
        contract = Contract(MODE_CAPS, True, reason, _shed_hazard(scheduler, release))
    else:
        contract = Contract(MODE_FULL, True, "", _shed_hazard(scheduler, release))
    counts_sessions = _SESSIONS in inspect.getsource(base.schedule)  # type: ignore[attr-defined]
    return Finding(contract, gate, counts_sessions)


def _release(version: str) -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _of_version(release: tuple[int, int], version: str) -> Iterator[str]:
    if not CAPS_VERSIONS[0] <= release <= FULL_VERSIONS[1]:
        yield f"vLLM {version} is not known: 0.24 to 0.33 are"


def _of_class(base: type, gate: Gate) -> Iterator[str]:
    name = f"{base.__module__}.{base.__qualname__}"
    if name not in _SCHEDULERS:
        yield f"scheduler class {name} is not vLLM's own"
        return
    owner = next(cls for cls in base.__mro__ if "schedule" in vars(cls))
    if owner.__name__ != "Scheduler":
        yield f"{name} overrides schedule()"
    source = inspect.getsource(owner.schedule)  # type: ignore[attr-defined]
    gates = set(_GATE.findall(source))
    if gates != {gate.value}:
        yield f"admission is limited by {sorted(gates) or 'nothing known'}, expected {gate.value}"
    for text in ("len(self.running) <= self.max_num_running_reqs", "token_budget = self.max_num_scheduled_tokens"):
        if text not in source:
            yield f"schedule() has no {text!r}"
    if gate is Gate.ACTIVE and "self.current_step < request.next_decode_eligible_step" not in source:
        yield "schedule() does not obey next_decode_eligible_step"
    if gate is Gate.ACTIVE and "= self._handle_blocked_waiting_request(request)" not in source:
        yield "schedule() does not ask _handle_blocked_waiting_request() whom it may admit"
    for method, known in (("schedule", 1), ("update_from_output", 3), ("add_request", 2), ("_preempt_request", 3)):
        parameters = inspect.signature(getattr(base, method)).parameters.values()
        required = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
        if len(required) != known:
            yield f"{method}() needs {required}, {known} parameters are known"


def _of_values(scheduler: Any, gate: Gate) -> Iterator[str]:
    config = scheduler.scheduler_config
    expected = {
        "max_num_running_reqs": config.max_num_seqs,
        "max_num_scheduled_tokens": config.max_num_scheduled_tokens or config.max_num_batched_tokens,
    }
    if gate is Gate.ACTIVE:
        expected["max_num_active_reqs"] = config.max_num_active_seqs or config.max_num_seqs
    for name, value in expected.items():
        found = getattr(scheduler, name, None)
        if found != value:
            yield f"scheduler.{name} is {found}, its configuration says {value}"
    names = (
        "running",
        "waiting",
        "requests",
        "kv_cache_manager",
        "finished_req_ids",
        "block_size",
        "num_waiting_for_streaming_input",
        "pause_state",
    )
    for name in names if gate is Gate.RUNNING else (*names, "current_step"):
        if not hasattr(scheduler, name):
            yield f"scheduler.{name} is missing"


def _shed_hazard(scheduler: Any, release: tuple[int, int]) -> str:
    """Why running requests must not be preempted on request; empty when they may."""
    if release < (0, 27) and scheduler.scheduler_config.async_scheduling:
        return "vLLM before 0.27 may resume a shed request in the step that shed it under asynchronous scheduling"
    if getattr(scheduler, "connector", None) is not None:
        return "a KV connector may still be moving the blocks"
    return ""
