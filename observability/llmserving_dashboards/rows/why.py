"""Why the bounds moved and latencies are as they are."""

from typing import Any

from llmserving_api import series
from llmserving_dashboards import vllm_series as vllm
from llmserving_dashboards.panels import NO_DATA, Line, plot
from llmserving_dashboards.promql import quantile, rate, ratio, select


def panels() -> list[Any]:
    """Decisions, results, and what else moves latencies."""
    hits = f"sum({rate(vllm.PREFIX_HITS)})"
    lookups = f"sum({rate(vllm.PREFIX_QUERIES)})"
    return [
        plot(
            "Decisions",
            "Decisions per minute by reason; those carried out are also marked on the plots above.",
            "cpm",
            [Line(f"60 * sum by (reason, acted) ({rate(series.DECISIONS)})", "{{reason}}, acted: {{acted}}")],
            absent=NO_DATA,
        ),
        plot(
            "Requests by result",
            "Requests that left the engines per second: good, missed a target, failed, aborted by the client.",
            "reqps",
            [Line(f"sum by (result) ({rate(series.REQUESTS)})", "{{result}}")],
        ),
        plot(
            "Requests by class",
            "Requests that left the engines per second, by the class that clients named and by result.",
            "reqps",
            [Line(f"sum by (class, result) ({rate(series.CLASS_REQUESTS)})", "{{class}}, {{result}}")],
        ),
        plot(
            "Queue time and prefix cache",
            "95th percentile of the time requests wait before they are scheduled, and the share of prompt tokens found "
            "in the prefix cache.",
            "s",
            [
                Line(quantile(0.95, vllm.QUEUE_TIME), "queue time p95"),
                Line(ratio(hits, lookups), "prefix cache hits"),
            ],
            right=("^prefix.*", "percentunit"),
        ),
        plot(
            "Device memory",
            "Memory of the GPUs as the driver reports it. vLLM takes its share at the start, so used memory is flat by "
            "design; free memory is what bounds the token budget.",
            "bytes",
            [Line(f"max by (pod, uuid, kind) ({select(series.GPU_MEMORY)})", "{{kind}} {{pod}} {{uuid}}")],
            absent=NO_DATA,
        ),
        plot(
            "Health of the control loop",
            "Age of the newest telemetry record (on old ones the agent holds still) and 99th percentile of the time a "
            "step of the agent's pass takes; records lost before they were read and policies refused, per second.",
            "s",
            [
                Line(f"max by (pod, engine) ({select(series.TELEMETRY_AGE)})", "age {{pod}}/{{engine}}"),
                Line(quantile(0.99, series.TICK_SECONDS), "step of a pass p99"),
                Line(f"sum({rate(series.TELEMETRY_DROPPED)})", "records lost per second"),
                Line(f"sum({rate(series.POLICY_ERRORS)})", "policies refused per second"),
            ],
            right=(".*per second$", "ops"),
            absent=NO_DATA,
        ),
    ]
