import random
from statistics import mean, pstdev

import pytest

from llmserving_lab.traces.generated import generate


def test_fixed_lengths_are_those_given() -> None:
    drawn = generate("fixed:512x1000", [0.0, 1.0], random.Random(1))
    assert [(one.time, one.prompt_tokens, one.output_tokens) for one in drawn] == [(0.0, 512, 1000), (1.0, 512, 1000)]


def test_lognormal_lengths_have_the_means_and_variations_given() -> None:
    drawn = generate("lognormal:68.4/0.35x344.5/0.5", [0.0] * 20_000, random.Random(1))
    for lengths, wanted, variation in (
        ([one.prompt_tokens for one in drawn], 68.4, 0.35),
        ([one.output_tokens for one in drawn], 344.5, 0.5),
    ):
        assert mean(lengths) == pytest.approx(wanted, rel=0.02)
        assert pstdev(lengths) / mean(lengths) == pytest.approx(variation, rel=0.05)


@pytest.mark.parametrize("kind", ["fixed:512", "fixed:0x5", "lognormal:abcx3", "normal:3x4", "lognormal:0.2x5"])
def test_lengths_given_wrongly_get_an_example(kind: str) -> None:
    with pytest.raises(ValueError, match="such as fixed:512x1000"):
        generate(kind, [0.0], random.Random(1))
