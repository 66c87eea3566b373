"""WAIT in the scheduler's step (arXiv 2504.11320, Alg. 1): hold new requests until enough of their type have gathered.

Thresholds come from the agent (``llmserving_agent.laws.wait``). Differences from the paper, each so that nothing can
stall: a held request leaves after ``hold_seconds`` at the latest, and an aborted one leaves at once. A type is a range
of prompt lengths. Requests that were preempted, or hold KV blocks already, are never held.
"""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from llmserving_engine.planning.gathering import Gathering
from llmserving_engine.planning.parameters import only_known, seconds, whole_number
from llmserving_engine.planning.protocol import ParameterError, StepDone, StepPlan, StepPlanner, StepView, Track


class Wait:
    """Admit requests of a type in groups."""

    name = "wait"
    orders_waiting = True

    def __init__(self) -> None:
        self._edges: list[int] = []  # upper prompt lengths of all types but the last
        self._types: list[Gathering] = [Gathering(1)]
        self._hold_ns = 0
        self._in_system: int | None = None
        self._tracks: dict[str, Track] = {}
        self._released: OrderedDict[str, None] = OrderedDict()

    def configure(self, parameters: Mapping[str, Any]) -> None:
        """Take new thresholds; those who wait go on waiting, under the new types."""
        edges, thresholds = _types(parameters["types"])
        self._edges = edges
        self._hold_ns = round(seconds(parameters["hold_seconds"], "planner.hold_seconds") * 1e9)
        in_system = parameters.get("in_system")
        self._in_system = None if in_system is None else whole_number(in_system, "planner.in_system")
        held = [request_id for gathering in self._types for request_id in gathering.members()]
        self._types = [Gathering(threshold) for threshold in thresholds]
        for request_id in held:
            self.arrived(self._tracks[request_id])

    def arrived(self, track: Track) -> None:
        """A new request joins the others of its type."""
        request_id = track.request.request_id
        self._tracks[request_id] = track
        if track.first_scheduled_ns == 0:
            self._type_of(track).join(request_id, track.arrival_ns)

    def departed(self, track: Track) -> None:
        """It is held no longer."""
        request_id = track.request.request_id
        self._tracks.pop(request_id, None)
        self._released.pop(request_id, None)
        for gathering in self._types:
            if gathering.leave(request_id):
                return

    def preempted(self, track: Track) -> None:
        """It waits at the head of the queue; the mixin offers it whatever the plan says."""

    def plan(self, view: StepView) -> StepPlan:
        """Release groups that are due once those released before are running."""
        for request_id in [r for r in self._released if self._tracks[r].first_scheduled_ns]:
            del self._released[request_id]
        if not self._released:
            for gathering in self._types:
                if gathering.is_due(view.now_ns, self._hold_ns):
                    self._released.update(dict.fromkeys(gathering.release()))
        cap = view.bounds.max_num_seqs if self._in_system is None else min(view.bounds.max_num_seqs, self._in_system)
        return StepPlan(
            max_num_seqs=cap,
            token_budget=view.bounds.max_num_batched_tokens,
            waiting_first=tuple(self._released),
            only_listed=True,
            held=sum(len(gathering) for gathering in self._types),
        )

    def on_device(self, now_ns: int) -> None:
        """Nothing to make up for."""

    def completed(self, done: StepDone) -> None:
        """Nothing to learn: thresholds come from the agent."""

    def _type_of(self, track: Track) -> Gathering:
        return self._types[bisect_left(self._edges, track.request.num_prompt_tokens)]


def _types(value: Any) -> tuple[list[int], list[int]]:
    """Edges between the types and the thresholds, from ``[{"max_prompt_tokens": 512, "gather": 3}, {"gather": 2}]``."""
    shape = (
        'a list such as [{"max_prompt_tokens": 512, "gather": 3}, {"gather": 2}], the last without max_prompt_tokens'
    )
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise ParameterError("planner.types", value, shape)
    edges: list[int] = []
    thresholds: list[int] = []
    for position, kind in enumerate(value):
        where = f"planner.types[{position}]"
        last = position == len(value) - 1
        if not isinstance(kind, Mapping) or ("max_prompt_tokens" in kind) is last:
            raise ParameterError(where, kind, shape)
        only_known(kind, ("max_prompt_tokens", "gather"), where)
        thresholds.append(whole_number(kind.get("gather"), f"{where}.gather"))
        if not last:
            least = edges[-1] + 1 if edges else 1
            edges.append(whole_number(kind["max_prompt_tokens"], f"{where}.max_prompt_tokens", least))
    return edges, thresholds


def build_wait(parameters: Mapping[str, Any]) -> StepPlanner:
    """Build the planner; ``types`` and ``hold_seconds`` are required, ``in_system`` caps the requests running."""
    only_known(parameters, ("types", "hold_seconds", "in_system"))
    for name in ("types", "hold_seconds"):
        if name not in parameters:
            raise ParameterError(f"planner.{name}", None, "a value: the planner 'wait' needs it")
    planner = Wait()
    planner.configure(parameters)
    return planner
