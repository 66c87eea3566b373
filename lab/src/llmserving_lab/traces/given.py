"""Lengths that are given, not fitted: loads of papers, which print means and medians and no trace.

`fixed:512x1000` has prompts of 512 and outputs of 1,000 tokens, all of them. `lognormal:68.4/0.35x344.5/0.5` draws both from
log-normal distributions with these means and coefficients of variation.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from math import exp, log, sqrt

from llmserving_lab.traces.arrival import Arrival

Draw = Callable[[random.Random], int]

_NUMBER = r"(\d+(?:\.\d+)?)"
_LOGNORMAL = re.compile(rf"{_NUMBER}(?:/{_NUMBER})?x{_NUMBER}(?:/{_NUMBER})?")
_FIXED = re.compile(r"(\d+)x(\d+)")
_VARIATION = 1.0


def given_lengths(kind: str, times: Sequence[float], generator: random.Random) -> list[Arrival]:
    """Requests of `fixed:PROMPTxOUTPUT` or `lognormal:PROMPT/VARIATIONxOUTPUT/VARIATION` at the given times.

    Raises:
        ValueError: the lengths are not given so.
    """
    prompt, output = _draws(kind)
    return [Arrival(time, prompt(generator), output(generator)) for time in times]


def _draws(kind: str) -> tuple[Draw, Draw]:
    name, _, lengths = kind.partition(":")
    fixed, drawn = _FIXED.fullmatch(lengths), _LOGNORMAL.fullmatch(lengths)
    if name == "fixed" and fixed and min(int(fixed[1]), int(fixed[2])) > 0:
        return _always(int(fixed[1])), _always(int(fixed[2]))
    if name == "lognormal" and drawn and min(float(drawn[1]), float(drawn[3])) >= 1:
        prompt_variation, output_variation = float(drawn[2] or _VARIATION), float(drawn[4] or _VARIATION)
        return _lognormal(float(drawn[1]), prompt_variation), _lognormal(float(drawn[3]), output_variation)
    raise ValueError(
        f"load {kind}: should be fixed:PROMPTxOUTPUT such as fixed:512x1000, or lognormal:MEAN/VARIATIONxMEAN/VARIATION "
        "such as lognormal:68.4/0.35x344.5/0.5"
    )


def _always(tokens: int) -> Draw:
    return lambda _: tokens


def _lognormal(mean: float, variation: float) -> Draw:
    sigma = sqrt(log(1 + variation**2))
    scale = mean * exp(-(sigma**2) / 2)
    return lambda generator: max(1, round(scale * generator.lognormvariate(0.0, sigma)))
