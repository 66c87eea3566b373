"""vLLM's own series: the state of its engines at one moment, from the text of `/metrics`. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
KV_USAGE = "vllm:kv_cache_usage_perc"
PROMPT_TOKENS = "vllm:prompt_tokens_total"
OUTPUT_TOKENS = "vllm:generation_tokens_total"
PREEMPTIONS = "vllm:num_preemptions_total"
QUEUE_TIME = "vllm:request_queue_time_seconds"
PREFILL_TIME = "vllm:request_prefill_time_seconds"
CACHE_CONFIG = "vllm:cache_config_info"


@dataclass(frozen=True, slots=True)
class EngineState:
    """All engines behind one server together, at one moment.

    Attributes:
        running: Requests in the batch.
        waiting: Requests in the queue.
        kv_usage: Share of KV cache in use, 0 to 1, mean over engines.
        prompt_tokens: Prompt tokens computed so far.
        output_tokens: Tokens generated so far.
        preemptions: Preemptions so far.
        finished: Requests finished so far.
        engine_ttft_seconds: Sum over finished requests of the time from the engine's queue to the first token.
        kv_tokens: Capacity of the KV cache in tokens, all engines; None where vLLM does not say.
        block_size: Tokens per block of KV cache; None where vLLM does not say.
        engines: Engines behind the server.
    """

    running: int
    waiting: int
    kv_usage: float
    prompt_tokens: int
    output_tokens: int
    preemptions: int
    finished: int
    engine_ttft_seconds: float
    kv_tokens: int | None
    block_size: int | None
    engines: int


def read_state(text: str) -> EngineState | None:
    """State of the engines, or None where the text is not that of a vLLM server."""
    totals: dict[str, float] = defaultdict(float)
    engines = 0
    blocks: list[Mapping[str, str]] = []
    for family in text_string_to_metric_families(text):
        if not family.name.startswith("vllm:"):
            continue
        for sample in family.samples:
            totals[sample.name] += sample.value
            engines += sample.name == RUNNING
            if sample.name == CACHE_CONFIG:
                blocks.append(sample.labels)
    if not engines:
        return None
    capacities = [_tokens(labels) for labels in blocks]
    sizes = {labels.get("block_size", "") for labels in blocks}
    return EngineState(
        running=round(totals[RUNNING]),
        waiting=round(totals[WAITING]),
        kv_usage=totals[KV_USAGE] / engines,
        prompt_tokens=round(totals[PROMPT_TOKENS]),
        output_tokens=round(totals[OUTPUT_TOKENS]),
        preemptions=round(totals[PREEMPTIONS]),
        finished=round(totals[f"{QUEUE_TIME}_count"]),
        engine_ttft_seconds=totals[f"{QUEUE_TIME}_sum"] + totals[f"{PREFILL_TIME}_sum"],
        kv_tokens=sum(capacities) if capacities and all(capacities) else None,
        block_size=int(next(iter(sizes))) if len(sizes) == 1 and next(iter(sizes)).isdigit() else None,
        engines=engines,
    )


def _tokens(labels: Mapping[str, str]) -> int:
    """Capacity of one engine; 0 where its labels do not say."""
    size, count = labels.get("block_size", ""), labels.get("num_gpu_blocks", "")
    return int(size) * int(count) if size.isdigit() and count.isdigit() else 0
