"""Series of vLLM's own that the boards query, named as its /metrics shows them (counters end in _total).

Source: ``vllm/v1/metrics/loggers.py`` of the release ``READ_IN``. All carry the labels ``model_name`` and ``engine``.
"""

from typing import Final

from llmserving_api.series import Series

READ_IN: Final = "0.32.0"
LABELS: Final = ("model_name", "engine")

TIME_TO_FIRST_TOKEN: Final = Series("vllm:time_to_first_token_seconds", "histogram", "Time to first token.", LABELS)
INTER_TOKEN_LATENCY: Final = Series("vllm:inter_token_latency_seconds", "histogram", "Inter-token latency.", LABELS)
END_TO_END: Final = Series("vllm:e2e_request_latency_seconds", "histogram", "End-to-end latency.", LABELS)
QUEUE_TIME: Final = Series("vllm:request_queue_time_seconds", "histogram", "Time spent waiting.", LABELS)
GENERATION_TOKENS: Final = Series("vllm:generation_tokens_total", "counter", "Tokens generated.", LABELS)
PREFIX_HITS: Final = Series(
    "vllm:prefix_cache_hits_total", "counter", "Prompt tokens found in the prefix cache.", LABELS
)
PREFIX_QUERIES: Final = Series(
    "vllm:prefix_cache_queries_total", "counter", "Prompt tokens looked up in the prefix cache.", LABELS
)

ALL: Final = (
    TIME_TO_FIRST_TOKEN,
    INTER_TOKEN_LATENCY,
    END_TO_END,
    QUEUE_TIME,
    GENERATION_TOKENS,
    PREFIX_HITS,
    PREFIX_QUERIES,
)
