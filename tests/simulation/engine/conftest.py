"""A real vLLM scheduler with our mixin on a virtual clock; only the device is played."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from vllm.sampling_params import SamplingParams
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus

from llmserving_engine.classes import KEY
from llmserving_engine.process import describe
from llmserving_engine.scheduler import live_scheduler_class
from llmserving_engine.telemetry import RequestRow, StepRow
from llmserving_lab.bench.engine import EngineSettings, SchedulerEngine


class VirtualClock:
    def __init__(self) -> None:
        self.now_ns = 10**12

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_ns(self) -> int:
        return self.now_ns + 10**18


@dataclass
class Rows:
    steps: list[StepRow] = field(default_factory=list)
    requests: list[RequestRow] = field(default_factory=list)

    def step(self, row: StepRow) -> None:
        self.steps.append(row)

    def request(self, row: RequestRow) -> None:
        self.requests.append(row)


class Engine:
    """EngineCore's loop around the scheduler: one step at a time, or one ahead of the device."""

    def __init__(self, settings: EngineSettings, *, live: bool = True, prepare: Callable[[Any], None] | None = None):
        self.clock = VirtualClock()
        self.rows = Rows()
        self.settings = settings
        self.step_ns = 10_000_000
        self._ahead = 1 if settings.asynchronous else 0
        self._queue: deque[tuple[Any, list[str]]] = deque()
        self._names = 0
        self.outputs: dict[str, list[int]] = {}
        self.finished: dict[str, str] = {}
        self.delivered_ns: dict[str, list[int]] = {}
        self.contexts: list[int] = []
        self.meanwhile: Callable[[], None] = lambda: None  # while the device computes

        def factory(scheduler: Any) -> Any:
            if prepare:
                prepare(scheduler)
            return describe(scheduler, self.rows, self.clock)

        made = SchedulerEngine(
            settings, scheduler_class=(lambda base: live_scheduler_class(base, factory)) if live else None
        )
        self._hasher = made._hasher
        self.scheduler = made.scheduler
        self.live = getattr(self.scheduler, "live", None)
        self.control = self.live.runtime.control if self.live else None
        self._operation = 0
        self._prefilling: set[str] = set()

    def patch(self, **fields: Any) -> None:
        self._operation += 1
        self.control.patch({"operation_id": self._operation, **fields})

    def add(self, prompt: int = 32, output: int = 20, *, age_ns: int = 0, name: str = "", **arguments: Any) -> str:
        """A request, or the next chunk of a session that is there already."""
        name = name or f"r{self._names}"
        self._names += 1
        extra = {KEY: arguments.pop("request_class")} if "request_class" in arguments else None
        request = Request(
            request_id=name,
            prompt_token_ids=arguments.pop("tokens", None) or [1000 + self._names] * prompt,
            sampling_params=SamplingParams(max_tokens=output, ignore_eos=True, detokenize=False, extra_args=extra),
            pooling_params=None,
            arrival_time=(self.clock.wall_ns() - age_ns) / 1e9,
            block_hasher=self._hasher,
            **arguments,
        )
        self.scheduler.add_request(request)
        return name

    def step(self) -> Any:
        """Schedule once and deliver what the device has done; the scheduled output."""
        output = self.scheduler.schedule()
        requests = self.scheduler.requests
        producing = [name for name in output.num_scheduled_tokens if not requests[name].is_prefill_chunk]
        started = {new.req_id for new in output.scheduled_new_reqs} | output.scheduled_cached_reqs.resumed_req_ids
        self._prefilling = (self._prefilling | started) & requests.keys()
        if output.total_num_scheduled_tokens:
            decodes = output.num_scheduled_tokens.keys() - self._prefilling
            self.contexts.append(sum(requests[name].num_computed_tokens for name in decodes))
        self._prefilling = {name for name in self._prefilling if requests[name].is_prefill_chunk}
        if output.total_num_scheduled_tokens:
            self._queue.append((output, producing))
            self.scheduler.get_grammar_bitmask(output)
        while len(self._queue) > self._ahead or (self._queue and not output.total_num_scheduled_tokens):
            self._deliver(*self._queue.popleft())
        return output

    def abort(self, name: str) -> None:
        """The client went away."""
        self.scheduler.finish_requests(name, RequestStatus.FINISHED_ABORTED)

    def run(self, steps: int = 10_000) -> int:
        """Step until nothing is left; the number of steps."""
        for number in range(steps):
            if not self.scheduler.get_num_unfinished_requests() and not self._queue:
                return number
            self.step()
        return steps

    def _deliver(self, output: Any, producing: list[str]) -> None:
        self.clock.now_ns += self.step_ns
        self.meanwhile()
        names = list(output.num_scheduled_tokens)
        wanted = set(producing)
        sampled = [[self._token(name)] if name in wanted else [] for name in names]
        result = ModelRunnerOutput(
            req_ids=names,
            req_id_to_index={name: index for index, name in enumerate(names)},
            sampled_token_ids=sampled,
        )
        for outputs in self.scheduler.update_from_output(output, result).values():
            for item in outputs.outputs:
                self.outputs.setdefault(item.request_id, []).extend(item.new_token_ids)
                self.delivered_ns.setdefault(item.request_id, []).append(self.clock.now_ns)
                if item.finish_reason is not None:
                    self.finished[item.request_id] = str(item.finish_reason)

    def _token(self, name: str) -> int:
        return 3 + len(self.outputs.get(name, ())) % 200


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def asynchronous(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def engine(asynchronous: bool) -> Callable[..., Engine]:
    """Factory: ceilings 64 sequences and 512 tokens, 2,000 blocks of 16."""

    def build(*, live: bool = True, prepare: Callable[[Any], None] | None = None, **settings: Any) -> Engine:
        defaults = {"max_num_seqs": 64, "max_num_batched_tokens": 512, "kv_blocks": 2000, "max_model_len": 4096}
        return Engine(EngineSettings(asynchronous=asynchronous, **{**defaults, **settings}), live=live, prepare=prepare)

    return build
