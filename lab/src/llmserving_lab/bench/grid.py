"""The grid of static settings. Pure."""

from __future__ import annotations

SEQUENCES = (16, 32, 64, 128, 256, 512, 1024)
TOKENS = (128, 256, 512, 1024, 2048, 4096, 8192)
TILE = 64
"""Matrix tiles: most token budgets that are no multiple of it, or just above one, are slower per token."""

Point = tuple[int, int]
"""A static setting: sequences and tokens."""


def grid_points() -> list[Point]:
    """All log-spaced points that vLLM accepts (no fewer tokens than sequences), those in the middle first."""
    points = [(seqs, tokens) for seqs in SEQUENCES for tokens in TOKENS if tokens >= seqs]
    return sorted(points, key=lambda point: (abs(TOKENS.index(point[1]) - 2), -point[0]))


def neighbours(point: Point) -> list[Point]:
    """Points around one: token budgets a tile or less, an eighth and a quarter away, and half an octave of sequences."""
    seqs, tokens = point
    budgets = {tokens + step for step in (-2 * TILE, -TILE, -TILE // 2, -TILE // 4)}
    budgets |= {tokens + step for step in (2 * TILE, TILE, TILE // 2, TILE // 4)}
    budgets |= {round(tokens * factor / TILE) * TILE for factor in (0.75, 0.875, 1.125, 1.25)}
    counts = {round(seqs * 2**0.5), round(seqs / 2**0.5)}
    around = {(seqs, budget) for budget in budgets} | {(count, tokens) for count in counts}
    return sorted(other for other in around if 1 <= other[0] <= other[1] and other != point)


def policy_name(point: Point) -> str:
    """The point as a policy of the command line."""
    return f"static:{point[0]}x{point[1]}"
