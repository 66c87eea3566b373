"""What the plug-in costs in the scheduler's step, beside vLLM's own ``schedule()`` and ``update_from_output()``.

A real vLLM scheduler runs with N requests decoding and a long queue waiting; requests finish and are admitted all the
time. The plug-in's own share of each step is timed from outside, around its entry points, in the same run; what it
spends on each arrival, between the steps, is reported beside it.

    PYTHONPATH=engine/src:lab/src:api/src python engine/benchmarks/step_cost.py --json step_cost.json

in the engine's environment.
"""

import argparse
import gc
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request

from llmserving_engine.clock import SystemClock
from llmserving_engine.process import describe
from llmserving_engine.ring import RingWriter
from llmserving_engine.scheduler import live_scheduler_class
from llmserving_lab.bench.engine import EngineSettings, SchedulerEngine

LIMIT_P99_US = 150.0
LIMIT_SHARE = 0.05
MEMORY = Path("/dev/shm")
"""The telemetry ring lies in memory in production too."""

CLOCKS = {"cpu": time.thread_time_ns, "wall": time.perf_counter_ns}


class Stopwatch:
    """Time spent in the plug-in's entry points since it was last read."""

    def __init__(self, clock: str) -> None:
        self.ns = 0
        self.arrivals: list[int] = []
        self._now = CLOCKS[clock]

    def wrap(self, cls: type) -> None:
        """Time every guarded entry of the mixin."""
        guarded = cls._guarded  # type: ignore[attr-defined]

        def timed(scheduler: Any, entry: Any, *args: Any) -> None:
            before = self._now()
            began = self._now()
            guarded(scheduler, entry, *args)
            spent = self._now() - began - (began - before)  # less what reading the clock takes
            if entry.__name__ == "arrived":
                self.arrivals.append(spent)
            else:
                self.ns += spent

        cls._guarded = timed  # type: ignore[attr-defined]

    def read(self) -> int:
        """Nanoseconds since the last reading."""
        spent, self.ns = self.ns, 0
        return spent


def add(scheduler: Any, name: str, chance: random.Random, hasher: Any) -> Request:
    """One request: short prompt, 50 to 500 output tokens."""
    parameters = SamplingParams(max_tokens=chance.randint(50, 500), ignore_eos=True, detokenize=False)
    request = Request(
        request_id=name,
        prompt_token_ids=[chance.randint(3, 30_000) for _ in range(chance.randint(16, 128))],
        sampling_params=parameters,
        pooling_params=None,
        arrival_time=time.time(),
        block_hasher=hasher,
    )
    scheduler.add_request(request)
    return request


def measure(running: int, waiting: int, steps: int, asynchronous: bool, live: bool, clock: str) -> dict[str, Any]:
    """Run one setting.

    Args:
        running: Requests decoding.
        waiting: Requests waiting behind them.
        steps: Steps to measure, after a fifth of that to warm up.
        asynchronous: vLLM's asynchronous scheduling.
        live: With the plug-in; without it only vLLM's own time is measured.
        clock: Key of ``CLOCKS``.
    """
    chance = random.Random(1)
    now = CLOCKS[clock]
    stopwatch = Stopwatch(clock)
    folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)

    def factory(scheduler: Any) -> Any:
        return describe(scheduler, RingWriter(Path(folder.name) / "ring", time.monotonic_ns()), SystemClock())

    def live_class(base: type) -> type:
        cls = live_scheduler_class(base, factory)
        stopwatch.wrap(cls)
        return cls

    settings = EngineSettings(
        max_num_seqs=running,
        max_num_batched_tokens=8192,
        kv_blocks=running * 64,
        max_model_len=4096,
        asynchronous=asynchronous,
        prefix_caching=True,  # vLLM's default
    )
    scheduler: Any = SchedulerEngine(settings, scheduler_class=live_class if live else None).scheduler
    hasher = get_request_block_hasher(settings.block_size, sha256)
    if live:
        targets = {"ttft_seconds": 2.0, "itl_seconds": 0.05}
        change = {"operation_id": 1, "max_num_seqs": running, "max_num_batched_tokens": 4096, "targets": targets}
        scheduler.live.runtime.control.patch({**change, "lease_seconds": 3600})
    # To destroy vLLM's request is vLLM's own work, but falls to whoever lets go of it last: here nobody does.
    requests: list[Request] = []
    ours: list[float] = []
    whole: list[float] = []
    pending: Any = None
    while len(scheduler.waiting) < waiting + running:
        requests.append(add(scheduler, f"r{len(requests)}", chance, hasher))
    gc.collect()
    gc.freeze()  # as EngineCore does once it is up
    for step in range(steps + steps // 5):
        while len(scheduler.waiting) < waiting:
            requests.append(add(scheduler, f"r{len(requests)}", chance, hasher))
        stopwatch.read()
        began = now()
        output = scheduler.schedule()
        spent = now() - began
        # the device
        names = list(output.num_scheduled_tokens)
        sampled = [[] if scheduler.requests[name].is_prefill_chunk else [3] for name in names]
        result = ModelRunnerOutput(
            req_ids=names,
            req_id_to_index={name: index for index, name in enumerate(names)},
            sampled_token_ids=sampled,
        )
        ready, pending = ((output, result), None) if not asynchronous else (pending, (output, result))
        if ready is None:
            continue
        began = now()
        scheduler.update_from_output(*ready)
        spent += now() - began
        if step >= steps // 5:
            mine = stopwatch.read()
            ours.append(mine / 1000)
            whole.append((spent - mine) / 1000)
    gc.unfreeze()
    folder.cleanup()
    ours.sort()
    mean_ours, mean_whole = statistics.fmean(ours), statistics.fmean(whole)
    return {
        "running": running,
        "waiting": waiting,
        "asynchronous": asynchronous,
        "clock": clock,
        "plugin": live,
        "steps": len(ours),
        "plugin_mean_us": round(mean_ours, 1),
        "plugin_p50_us": round(ours[len(ours) // 2], 1),
        "plugin_p99_us": round(ours[int(len(ours) * 0.99)], 1),
        "arrival_mean_us": round(statistics.fmean(stopwatch.arrivals) / 1000, 1) if stopwatch.arrivals else 0.0,
        "vllm_mean_us": round(mean_whole, 1),
        "share": round(mean_ours / mean_whole, 4),
    }


def main() -> None:
    """Measure all settings and say whether the limits hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--running", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--waiting", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--clock", choices=CLOCKS, default="cpu", help="cpu: what other processes take does not count")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = []
    for running in options.running:
        for asynchronous in (False, True):
            result = measure(running, options.waiting, options.steps, asynchronous, live=True, clock=options.clock)
            results.append(result)
            verdict = result["plugin_p99_us"] <= LIMIT_P99_US and result["share"] <= LIMIT_SHARE
            print(json.dumps(result), "ok" if verdict else "ABOVE THE LIMIT", flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
