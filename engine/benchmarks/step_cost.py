"""What the plug-in costs in the scheduler's step, beside vLLM's own ``schedule()`` and ``update_from_output()``.

A real vLLM scheduler runs with N requests decoding and a long queue waiting; requests finish and are admitted all the
time. The plug-in's own share of each step is timed from outside, around its entry points, in the same run; what it
spends on each arrival, between the steps, and once the device has the step (``on_device``) is reported beside it; the
latter counts in the share. With ``--planner predictive`` the planner decides each step; it sees a device whose steps take
a played time, so that targets are missed and made as on a real one.

    .venv/bin/python -m llmserving_lab.environment engine/benchmarks/step_cost.py --json step_cost.json
"""

import argparse
import gc
import json
import random
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request

from llmserving_engine.planning.protocol import StepComposition
from llmserving_engine.planning.step_model import StepModel
from llmserving_engine.process import describe
from llmserving_engine.ring import RingWriter
from llmserving_engine.scheduler import live_scheduler_class
from llmserving_lab.bench.engine import EngineSettings, SchedulerEngine

LIMIT_P99_US = {"bounds": 150.0, "predictive": 200.0}
LIMIT_SHARE = {"bounds": 0.05, "predictive": None}
"""Of vLLM's own time; a planner's share is not limited."""
MODEL = (8e-3, 0.0, 4e-5, 0.0, 6e-5, 8e-8, 2e-9, 6e-5, 0.0, 0.0)
"""Step times of the played device, as the planner's model has them."""
MEMORY = Path("/dev/shm")
"""The telemetry ring lies in memory in production too."""

CLOCKS = {"cpu": time.thread_time_ns, "wall": time.perf_counter_ns}


class PlayedClock:
    """A clock that the benchmark moves on by what a step takes on the device."""

    def __init__(self) -> None:
        self.now_ns = time.monotonic_ns()

    def monotonic_ns(self) -> int:
        """Played time."""
        return self.now_ns

    def wall_ns(self) -> int:
        """The same: arrivals are stamped with it."""
        return self.now_ns


class Stopwatch:
    """Time spent in the plug-in's entry points, in nanoseconds: within the steps, and beside them."""

    def __init__(self, clock: str) -> None:
        self.of_step = 0
        self.arrivals: list[int] = []
        self.on_device: list[int] = []
        self._now = CLOCKS[clock]

    def wrap(self, cls: type) -> None:
        """Time every guarded entry of the mixin."""
        guarded = cls._guarded  # type: ignore[attr-defined]
        beside = {"arrived": self.arrivals, "on_device": self.on_device}

        def timed(scheduler: Any, entry: Any, *args: Any) -> Any:
            before = self._now()
            began = self._now()
            result = guarded(scheduler, entry, *args)
            spent = self._now() - began - (began - before)  # less what reading the clock takes
            if entry.__name__ in beside:
                beside[entry.__name__].append(spent)
            else:
                self.of_step += spent
            return result

        cls._guarded = timed  # type: ignore[attr-defined]

    def read(self) -> int:
        """Time within the steps since the last reading."""
        spent, self.of_step = self.of_step, 0
        return spent


@dataclass(frozen=True)
class Case:
    """One setting.

    Attributes:
        running: Requests decoding.
        waiting: Requests waiting behind them.
        steps: Steps to measure, after a fifth of that to warm up.
        asynchronous: vLLM's asynchronous scheduling.
        planner: ``bounds`` or ``predictive``.
        prompt_tokens: Fewest and most tokens of a prompt.
        memory: Size of the KV cache, as a share of what the running may ever take; at a half it is scarce.
        ttft_target_s: Target of the time to first token; 0: none.
        clock: Key of ``CLOCKS``.
    """

    running: int
    waiting: int
    steps: int
    asynchronous: bool
    planner: str
    prompt_tokens: tuple[int, int]
    memory: float
    ttft_target_s: float
    clock: str


class Load:
    """A live scheduler with requests to serve."""

    def __init__(self, case: Case, stopwatch: Stopwatch, clock: PlayedClock, folder: Path) -> None:
        self._case = case
        self._clock = clock
        self._chance = random.Random(1)

        def factory(scheduler: Any) -> Any:
            return describe(scheduler, RingWriter(folder / "ring", clock.now_ns), clock)

        def live_class(base: type) -> type:
            cls = live_scheduler_class(base, factory)
            stopwatch.wrap(cls)
            return cls

        settings = EngineSettings(
            max_num_seqs=case.running,
            max_num_batched_tokens=8192,
            kv_blocks=int(case.memory * case.running * (4 + (case.prompt_tokens[1] + 500) // 16)),
            max_model_len=4096,
            asynchronous=case.asynchronous,
            prefix_caching=True,  # vLLM's default
        )
        self.scheduler: Any = SchedulerEngine(settings, scheduler_class=live_class).scheduler
        self._hasher = get_request_block_hasher(settings.block_size, sha256)
        self._requests: list[Request] = []  # to destroy one is vLLM's own work, but falls to whoever lets go of it last
        targets = {"itl_seconds": 0.05} | ({"ttft_seconds": case.ttft_target_s} if case.ttft_target_s else {})
        parameters = {"coefficients": list(MODEL), "error": 0.03} if case.planner == "predictive" else {}
        self.scheduler.live.runtime.control.patch(
            {
                "operation_id": 1,
                "max_num_seqs": case.running,
                "max_num_batched_tokens": 4096,
                "targets": targets,
                "planner": {"name": case.planner, "parameters": parameters},
                "lease_seconds": 3600,
            }
        )

    def fill(self, waiting: int) -> None:
        """Requests arrive until so many wait: prompts of the case's lengths, 50 to 500 output tokens."""
        chance = self._chance
        while len(self.scheduler.waiting) < waiting:
            parameters = SamplingParams(max_tokens=chance.randint(50, 500), ignore_eos=True, detokenize=False)
            request = Request(
                request_id=f"r{len(self._requests)}",
                prompt_token_ids=[chance.randint(3, 30_000) for _ in range(chance.randint(*self._case.prompt_tokens))],
                sampling_params=parameters,
                pooling_params=None,
                arrival_time=self._clock.wall_ns() * 1e-9,
                block_hasher=self._hasher,
            )
            self._requests.append(request)
            self.scheduler.add_request(request)

    def computed(self, output: Any) -> tuple[ModelRunnerOutput, StepComposition]:
        """What the device makes of a step, and what the step held."""
        names = list(output.num_scheduled_tokens)
        sampled = [[] if self.scheduler.requests[name].is_prefill_chunk else [3] for name in names]
        index = {name: index for index, name in enumerate(names)}
        result = ModelRunnerOutput(req_ids=names, req_id_to_index=index, sampled_token_ids=sampled)
        return result, self.scheduler.live.measurement.in_flight[-1].changes.composition


def seconds_of(held: StepComposition) -> float:
    """Time of a step on the played device."""
    return StepModel(MODEL).seconds(
        held.prefill_tokens, held.prefill_attention_tokens, held.decode_requests, held.decode_context_tokens
    )


def measure(case: Case) -> dict[str, Any]:
    """Run one setting."""
    now = CLOCKS[case.clock]
    stopwatch = Stopwatch(case.clock)
    played = PlayedClock()
    folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
    load = Load(case, stopwatch, played, Path(folder.name))
    scheduler = load.scheduler
    ours: list[float] = []
    whole: list[float] = []
    pending: Any = None
    prefilled = 0
    load.fill(case.waiting + case.running)
    gc.collect()
    gc.freeze()  # as EngineCore does once it is up
    for step in range(case.steps + case.steps // 5):
        load.fill(case.waiting)
        stopwatch.read()
        began = now()
        output = scheduler.schedule()
        spent = now() - began
        scheduler.get_grammar_bitmask(output)  # as EngineCore does once the device has the step
        scheduled = (output, *load.computed(output))
        ready, pending = (pending, scheduled) if case.asynchronous else (scheduled, None)
        if ready is None:
            continue
        of_step, result, held = ready
        played.now_ns += round(seconds_of(held) * 1e9)
        began = now()
        scheduler.update_from_output(of_step, result)
        spent += now() - began
        if step >= case.steps // 5:
            mine = stopwatch.read()
            ours.append(mine / 1000)
            whole.append((spent - mine) / 1000)
            prefilled += held.prefill_tokens
    gc.unfreeze()
    folder.cleanup()
    ours.sort()
    on_device = sorted(spent / 1000 for spent in stopwatch.on_device[-len(ours) :])
    mean_ours, mean_on_device, mean_whole = (statistics.fmean(spent) for spent in (ours, on_device, whole))
    return {
        **asdict(case),
        "steps": len(ours),
        "prefill_tokens_per_step": round(prefilled / len(ours)),
        "plugin_mean_us": round(mean_ours, 1),
        "plugin_p50_us": round(ours[len(ours) // 2], 1),
        "plugin_p99_us": round(ours[int(len(ours) * 0.99)], 1),
        "plugin_max_us": round(ours[-1], 1),
        "on_device_mean_us": round(mean_on_device, 1),
        "on_device_p99_us": round(on_device[int(len(on_device) * 0.99)], 1),
        "arrival_mean_us": round(statistics.fmean(stopwatch.arrivals) / 1000, 1),
        "vllm_mean_us": round(mean_whole, 1),
        "share": round((mean_ours + mean_on_device) / mean_whole, 4),
    }


def main() -> None:
    """Measure all settings and say whether the limits hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--running", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--waiting", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--planner", choices=LIMIT_P99_US, default="bounds")
    parser.add_argument("--prompt", type=int, nargs=2, default=[16, 128], help="fewest and most tokens of a prompt")
    parser.add_argument(
        "--memory", type=float, default=1.0, help="KV cache over what the running may take; 0.5: scarce"
    )
    parser.add_argument("--ttft", type=float, default=2.0, help="target in seconds; 0: none")
    parser.add_argument("--clock", choices=CLOCKS, default="cpu", help="cpu: what other processes take does not count")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = []
    for running in options.running:
        for asynchronous in (False, True):
            case = Case(
                running=running,
                waiting=options.waiting,
                steps=options.steps,
                asynchronous=asynchronous,
                planner=options.planner,
                prompt_tokens=(options.prompt[0], options.prompt[1]),
                memory=options.memory,
                ttft_target_s=options.ttft,
                clock=options.clock,
            )
            result = measure(case)
            results.append(result)
            limit_share = LIMIT_SHARE[options.planner]
            verdict = result["plugin_p99_us"] <= LIMIT_P99_US[options.planner]
            verdict = verdict and (limit_share is None or result["share"] <= limit_share)
            print(json.dumps(result), "ok" if verdict else "ABOVE THE LIMIT", flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
