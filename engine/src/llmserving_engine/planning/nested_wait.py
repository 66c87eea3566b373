"""Nested WAIT in the scheduler's step (arXiv 2504.11320, Alg. 2): survivors gather again at boundaries of the decode.

The decode is cut into segments. A request that reaches the end of a segment is parked, with its KV blocks, until as
many as the next segment's threshold have gathered there; new requests gather at the entrance in the same way. Short
outputs leave before the first boundary, so long ones do not crowd them out.

Differences from the paper. Requests inside a segment always advance, as in the authors' own code; the paper would pause
every segment behind one that has not gathered. Nobody is held longer than ``hold_seconds``; and where only parked
requests are left the longest held group moves on, so that nothing can stall. Parking makes long gaps between tokens,
which is why the law is refused together with a target for inter-token latency.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmserving_engine.planning.gathering import Gathering
from llmserving_engine.planning.parameters import only_known, seconds, whole_number
from llmserving_engine.planning.protocol import ParameterError, StepDone, StepPlan, StepPlanner, StepView, Track
from llmserving_engine.planning.wait import build_wait


@dataclass(slots=True)
class _Depth:
    """Planner's note on a request: the segment it is in; it parks at that segment's end."""

    segment: int


class NestedWait:
    """Gather at the entrance and at each boundary."""

    name = "nested-wait"
    orders_waiting = True

    def __init__(self) -> None:
        self._boundaries: tuple[int, ...] = ()
        self._gatherings: list[Gathering] = []  # at the end of segment k, before segment k + 1
        self._hold_ns = 0
        self._entrance: StepPlanner | None = None
        self._tracks: dict[str, Track] = {}

    def configure(self, parameters: Mapping[str, Any]) -> None:
        """Take new boundaries and thresholds; who is parked moves on, and gathers at the next of the new boundaries."""
        boundaries, thresholds = _boundaries(parameters["boundaries"], parameters["gather"])
        self._boundaries = boundaries
        self._gatherings = [Gathering(threshold) for threshold in thresholds[1:]]
        self._hold_ns = round(seconds(parameters["hold_seconds"], "planner.hold_seconds") * 1e9)
        entrance = {"types": [{"gather": thresholds[0]}], "hold_seconds": parameters["hold_seconds"]}
        if parameters.get("in_system") is not None:
            entrance["in_system"] = parameters["in_system"]
        if self._entrance is None:
            self._entrance = build_wait(entrance)
        else:
            self._entrance.configure(entrance)
        for track in self._tracks.values():
            track.plan = self._segment_of(track)

    def arrived(self, track: Track) -> None:
        """A new request gathers at the entrance."""
        self._tracks[track.request.request_id] = track
        track.plan = self._segment_of(track)
        self._at_entrance().arrived(track)

    def departed(self, track: Track) -> None:
        """It is held nowhere any longer."""
        self._tracks.pop(track.request.request_id, None)
        self._at_entrance().departed(track)
        self._leave(track.request.request_id)

    def preempted(self, track: Track) -> None:
        """It lost its KV blocks: it is parked no longer, and resumes where it was."""
        self._leave(track.request.request_id)

    def plan(self, view: StepView) -> StepPlan:
        """Park those who reached a boundary, let gathered groups pass, admit at the entrance."""
        self._park(view)
        for gathering in self._gatherings:
            if gathering.is_due(view.now_ns, self._hold_ns):
                self._pass(gathering, view)
        parked = {request_id for gathering in self._gatherings for request_id in gathering.members()}
        entrance = self._at_entrance().plan(view)
        if parked and len(parked) == len(view.running) and not entrance.waiting_first:
            self._pass(max(self._gatherings, key=len), view)  # nothing else runs: do not wait for company
            parked = {request_id for gathering in self._gatherings for request_id in gathering.members()}
        running = None
        if parked:  # under KV pressure the last is preempted: the parked, newest first
            moving = [request for request in view.running if request.request_id not in parked]
            running = moving + [request for request in view.running if request.request_id in parked]
        return StepPlan(
            max_num_seqs=entrance.max_num_seqs,
            token_budget=entrance.token_budget,
            running=running,
            waiting_first=entrance.waiting_first,
            only_listed=True,
            parked=tuple(parked),
            held=entrance.held + len(parked),
        )

    def on_device(self, now_ns: int) -> None:
        """Nothing to make up for."""

    def completed(self, done: StepDone) -> None:
        """Nothing to learn: thresholds come from the agent."""

    def _at_entrance(self) -> StepPlanner:
        if self._entrance is None:
            raise RuntimeError("configure() comes first")
        return self._entrance

    def _segment_of(self, track: Track) -> _Depth:
        return _Depth(bisect_right(self._boundaries, track.request.num_output_tokens))

    def _park(self, view: StepView) -> None:
        for request in view.running:
            if request.request_id in view.prefilling:
                continue
            track = view.tracks[request.request_id]
            segment = track.plan.segment
            if segment < len(self._gatherings):
                depth = request.num_output_tokens + request.num_output_placeholders
                if depth >= self._boundaries[segment]:
                    self._gatherings[segment].join(request.request_id, view.now_ns)

    def _pass(self, gathering: Gathering, view: StepView) -> None:
        for request_id in gathering.release():
            view.tracks[request_id].plan.segment += 1

    def _leave(self, request_id: str) -> None:
        for gathering in self._gatherings:
            if gathering.leave(request_id):
                return


def _boundaries(boundaries: Any, gather: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Boundaries (rising decode depths) and thresholds: one at the entrance and one at each boundary."""
    if not isinstance(boundaries, Sequence) or isinstance(boundaries, str) or not boundaries:
        raise ParameterError("planner.boundaries", boundaries, "rising decode depths such as [50, 200]")
    edges: list[int] = []
    for position, edge in enumerate(boundaries):
        edges.append(whole_number(edge, f"planner.boundaries[{position}]", edges[-1] + 1 if edges else 1))
    if not isinstance(gather, Sequence) or isinstance(gather, str) or len(gather) != len(edges) + 1:
        raise ParameterError("planner.gather", gather, f"{len(edges) + 1} thresholds: the entrance and each boundary")
    return tuple(edges), tuple(whole_number(n, f"planner.gather[{k}]") for k, n in enumerate(gather))


def build_nested_wait(parameters: Mapping[str, Any]) -> StepPlanner:
    """Build the planner; ``boundaries``, ``gather`` and ``hold_seconds`` are required."""
    required = ("boundaries", "gather", "hold_seconds")
    only_known(parameters, (*required, "in_system"))
    for name in required:
        if name not in parameters:
            raise ParameterError(f"planner.{name}", None, "a value: the planner 'nested-wait' needs it")
    planner = NestedWait()
    planner.configure(parameters)
    return planner
