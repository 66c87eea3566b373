"""Greedy answers of a server, and whether two servers say the same.

Floating-point sums depend on the shape of a batch, so where the untouched engine itself held two tokens for equally likely, up to
rounding, either may come. Such an answer is compared up to that token and counted as tied; any other difference is a fault.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from llmserving_lab.serving.server import SERVED_NAME

TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt as token ids, and the length of the answer."""

    prompt: tuple[int, ...]
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A greedy answer.

    Attributes:
        tokens: Token ids.
        margins: For each token, how much likelier it was than the second best, in nats.
    """

    tokens: tuple[int, ...]
    margins: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two lists of answers compare: answers that are equal, that part at a tie, and (by index) that differ."""

    identical: int
    tied: int
    different: tuple[int, ...]


def random_questions(count: int, *, seed: int, token_ids: range = range(10, 250)) -> list[Question]:
    """Questions of 1 to 200 tokens with answers of 5 to 60."""
    chance = random.Random(seed)
    return [
        Question(tuple(chance.choices(token_ids, k=chance.randint(1, 200))), chance.randint(5, 60))
        for _ in range(count)
    ]


async def ask(url: str, questions: Sequence[Question]) -> list[Answer]:
    """All answers, asked at once.

    Raises:
        httpx.HTTPError: a request failed.
    """
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, limits=limits) as client:
        return list(await asyncio.gather(*(_ask(client, url, question) for question in questions)))


async def _ask(client: httpx.AsyncClient, url: str, question: Question) -> Answer:
    body = {
        "model": SERVED_NAME,
        "prompt": list(question.prompt),
        "max_tokens": question.output_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "logprobs": 2,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }
    response = await client.post(f"{url}/v1/completions", json=body)
    response.raise_for_status()
    choice = response.json()["choices"][0]
    margins = []
    for likeliest in choice["logprobs"]["top_logprobs"]:
        best = sorted(likeliest.values(), reverse=True)
        margins.append(best[0] - best[1])
    return Answer(tuple(choice["token_ids"]), tuple(margins))


def agreement(reference: Sequence[Answer], others: Sequence[Answer], *, tie_nats: float) -> Agreement:
    """Compare answer by answer; the reference's margins say what is a tie."""
    identical = tied = 0
    different = []
    for index, (one, other) in enumerate(zip(reference, others, strict=True)):
        if one.tokens == other.tokens:
            identical += 1
            continue
        pairs = zip(one.tokens, other.tokens, strict=False)
        parted = next((at for at, (mine, theirs) in enumerate(pairs) if mine != theirs), None)
        if parted is not None and len(one.tokens) == len(other.tokens) and one.margins[parted] <= tie_nats:
            tied += 1
        else:
            different.append(index)
    return Agreement(identical, tied, tuple(different))
