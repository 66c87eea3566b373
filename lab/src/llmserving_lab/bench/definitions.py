"""What the words of a result file mean; every file carries them."""

from __future__ import annotations

DEFINITIONS = {
    "good": "TTFT (and end-to-end time) within target, the percentile of the request's own gaps (nearest rank) within target, and "
    "no gap over five times the target; one-token outputs count by TTFT",
    "attainment": "good requests over all that arrived; undone ones count as missed, aborted ones are left out",
    "goodput": "good requests per second of the arrivals, from the first to the last: attainment times the offered rate",
    "capacity": "geometric mean over the slices of each slice's own capacity: the highest rate with attainment of at least 0.95, the first "
    "tenth left out, queue not growing; by bisection on a ladder of rates 3 % apart",
    "pooled": "highest rate with attainment of at least 0.95 over all slices together at that rate",
    "overload": "goodput at 1.5 times its own capacity over that capacity, geometric mean over the slices",
    "limit": "saturated throughput without targets, best bounds, over the middle 80 % of completions, geometric mean over the slices",
}
