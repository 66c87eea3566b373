"""Replaying a recorded run of a real engine on the simulated device."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from llmserving_lab.bench.engine import EngineSettings, SchedulerEngine
from llmserving_lab.bench.machine import BLOCK_SIZE, make_device
from llmserving_lab.bench.outcome import Targets
from llmserving_lab.bench.plan import ReplayPlan
from llmserving_lab.bench.simulation import Simulation
from llmserving_lab.bench.surroundings import TargetChange
from llmserving_lab.traces.arrival import Arrival
from llmserving_lab.validate.comparison import compare
from llmserving_lab.validate.recording import read_recording


def execute_replay(plan: ReplayPlan) -> dict[str, Any]:
    """Replay a recorded run and compare."""
    started = time.perf_counter()
    recording = read_recording(Path(plan.run))
    device = make_device(plan.device, asynchronous=plan.asynchronous, seed=0)
    kv_tokens = recording.kv_tokens or device.kv_capacity_tokens(
        recording.max_num_seqs, recording.max_num_batched_tokens
    )
    engine = SchedulerEngine(
        EngineSettings(
            recording.max_num_seqs,
            recording.max_num_batched_tokens,
            kv_blocks=kv_tokens // BLOCK_SIZE,
            asynchronous=plan.asynchronous,
        )
    )
    arrivals = [Arrival(one.queued, one.prompt_tokens, one.output_tokens) for one in recording.requests]
    record = Simulation(engine, device, arrivals, [TargetChange(0.0, Targets(None, None))]).run()
    states = [(at, running, waiting) for at, running, waiting, _ in record.states]
    figures, differences = compare(recording, record.outcomes, states)
    return {
        "run": recording.name,
        "model": recording.model,
        "vllm_version": recording.vllm_version,
        "device": device.name,
        "requests": len(recording.requests),
        "max_num_seqs": recording.max_num_seqs,
        "max_num_batched_tokens": recording.max_num_batched_tokens,
        "figures": [
            {
                "name": figure.name,
                "unit": figure.unit,
                "real": round(figure.real, 6),
                "replayed": round(figure.replayed, 6),
                "error": round(figure.error, 5),
                "limit": figure.limit,
                "within": figure.within,
            }
            for figure in figures
        ],
        **differences,
        "has_token_times": any(request.token_times for request in recording.requests),
        "steps": record.steps,
        "extrapolated_steps": record.extrapolated_steps,
        "caveats": list(device.caveats),
        "within": all(figure.within for figure in figures),
        "wall_s": round(time.perf_counter() - started, 3),
    }
