"""What the plug-in costs a whole engine: throughput and inter-token gaps with and without it, in turn.

    .venv/bin/python -m llmserving_lab.environment lab/benchmarks/plugin_overhead.py --pairs 5

Each run is a process of its own with real vLLM (asynchronous scheduling) on the simulated device, in real time. A ratio
is taken within each pair, so that a change of the machine's speed falls on both sides; the median pair is printed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

REQUESTS, PROMPT, OUTPUT, SEQS = 384, 200, 150, 128


def measure(folder: Path) -> dict[str, float]:
    """One run: tokens a second and the 99th percentile of the gaps, in milliseconds."""
    from vllm import LLM, SamplingParams

    from llmserving_lab.device.executor import SimulatedExecutor
    from llmserving_lab.model.folder import make_model_folder

    make_model_folder(folder)
    llm = LLM(
        model=str(folder),
        load_format="dummy",
        enforce_eager=True,
        distributed_executor_backend=SimulatedExecutor,
        async_scheduling=True,
        max_model_len=4096,
        max_num_seqs=SEQS,
        max_num_batched_tokens=2048,
    )
    engine: Any = llm.llm_engine
    parameters = SamplingParams(max_tokens=OUTPUT, ignore_eos=True, detokenize=False)
    for index in range(REQUESTS):
        tokens = [10 + (index * 7 + place) % 240 for place in range(PROMPT)]
        engine.add_request(str(index), {"prompt_token_ids": tokens}, parameters)
    produced: Counter[str] = Counter()
    last: dict[str, float] = {}
    gaps: list[float] = []
    start = time.perf_counter()
    while engine.has_unfinished_requests():
        outputs = engine.step()
        now = time.perf_counter()
        for output in outputs:
            count = len(output.outputs[0].token_ids)
            if count > produced[output.request_id]:
                if output.request_id in last:
                    gaps.append(now - last[output.request_id])
                last[output.request_id], produced[output.request_id] = now, count
    elapsed = time.perf_counter() - start
    p99 = statistics.quantiles(gaps, n=100)[98]
    scheduler = type(engine.engine_core.engine_core.scheduler).__name__
    if scheduler.startswith("Live") != ("LLMSERVING_CONTROL_DIR" in os.environ):
        raise RuntimeError(f"the scheduler is {scheduler}: not what this run was to measure")
    return {"tokens_per_second": sum(produced.values()) / elapsed, "gap_p99_ms": p99 * 1000}


def child(with_plugin: bool) -> dict[str, float]:
    """A run in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        environment = os.environ | {
            "SIMULATED_DEVICE": "rtxpro6000-llama-3.1-8b",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_LOGGING_LEVEL": "ERROR",
        }
        environment.pop("LLMSERVING_CONTROL_DIR", None)
        if with_plugin:
            environment["LLMSERVING_CONTROL_DIR"] = scratch
        done = subprocess.run(
            [sys.executable, __file__, "--child", f"{scratch}/model"],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def main() -> None:
    """Print one row for each pair, and the median ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5, help="runs of each kind")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(arguments.child)))
        return
    ratios: dict[str, list[float]] = {"tokens_per_second": [], "gap_p99_ms": []}
    for pair in range(arguments.pairs):
        order = (True, False) if pair % 2 else (False, True)
        runs = {with_plugin: child(with_plugin) for with_plugin in order}
        for name, values in ratios.items():
            values.append(runs[True][name] / runs[False][name])
            print(f"pair {pair + 1}: {name} {runs[True][name]:.1f} with, {runs[False][name]:.1f} without", flush=True)
    for name, values in ratios.items():
        print(f"{name}: with / without {statistics.median(values):.4f} (from {min(values):.4f} to {max(values):.4f})")


if __name__ == "__main__":
    main()
