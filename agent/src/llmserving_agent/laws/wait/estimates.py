"""Online estimates the thresholds need: survival of decodes from finished and running requests, with censoring."""

from collections.abc import Iterable, Sequence


def survival_curve(finished: Iterable[int], running: Iterable[int], depth: int) -> list[float]:
    """Kaplan-Meier estimate of the share of requests that outlive each decode depth.

    A running request is censored: it has produced so many tokens and its end is unknown. Leaving it out would make long
    outputs, which are running at any time more often than short ones, look rare.

    Args:
        finished: output tokens of finished requests.
        running: output tokens produced so far by running requests.
        depth: the curve covers depths 0 to ``depth``.

    Returns:
        ``depth + 1`` shares, not rising, the first 1.0 for outputs of at least one token.
    """
    ended = [0] * (depth + 2)
    censored = [0] * (depth + 2)
    for tokens in finished:
        ended[min(max(tokens, 0), depth + 1)] += 1
    for tokens in running:
        censored[min(max(tokens, 0), depth + 1)] += 1
    at_risk = sum(ended) + sum(censored)
    share, curve = 1.0, []
    for tokens in range(depth + 1):
        if at_risk > 0:
            share *= 1 - ended[tokens] / at_risk
        at_risk -= ended[tokens] + censored[tokens]
        curve.append(share)
    return curve


def linear_fit(tokens: Sequence[float], seconds: Sequence[float]) -> tuple[float, float] | None:
    """Least squares of step seconds on KV tokens, as (base, slope); None when the tokens do not vary."""
    n = len(tokens)
    if n < 2:
        return None
    mean_x, mean_y = sum(tokens) / n, sum(seconds) / n
    spread = sum((x - mean_x) ** 2 for x in tokens)
    if spread <= 1e-9 * max(1.0, mean_x) ** 2:
        return None
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(tokens, seconds, strict=True)) / spread
    return mean_y - slope * mean_x, slope
