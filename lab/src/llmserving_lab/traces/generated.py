"""Generated requests: lengths drawn from distributions fitted to production traces, and loads that no public trace holds."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llmserving_lab.traces.arrival import Arrival
from llmserving_lab.traces.given import given_lengths

_LEVELS = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


@dataclass(frozen=True, slots=True)
class Lengths:
    """Prompt and output lengths by their quantiles at `_LEVELS`; the two are drawn independently.

    In the Azure traces of 2023 the rank correlation of prompt and output is 0.07 (conversation) and -0.02 (code).
    """

    prompt: tuple[int, ...]
    output: tuple[int, ...]

    def draw(self, generator: random.Random) -> tuple[int, int]:
        """One prompt and output length."""
        return _quantile(self.prompt, generator.random()), _quantile(self.output, generator.random())


CONVERSATION = Lengths(
    prompt=(2, 29, 181, 207, 387, 403, 703, 1020, 1071, 1130, 1315, 2735, 4083, 4142, 7930),
    output=(7, 16, 41, 54, 77, 91, 103, 129, 177, 384, 400, 424, 451, 601, 1000),
)
"""Fitted to the Azure LLM inference trace 2023, conversation (Azure Public Dataset, CC-BY)."""

CODE = Lengths(
    prompt=(3, 17, 75, 147, 385, 770, 1075, 1469, 1909, 2433, 3193, 5194, 7315, 7436, 7437),
    output=(6, 6, 6, 7, 8, 9, 11, 13, 16, 20, 29, 55, 90, 252, 1899),
)
"""Fitted to the Azure LLM inference trace 2023, code (Azure Public Dataset, CC-BY)."""


def _quantile(values: tuple[int, ...], level: float) -> int:
    for index in range(1, len(_LEVELS)):
        if level <= _LEVELS[index]:
            share = (level - _LEVELS[index - 1]) / (_LEVELS[index] - _LEVELS[index - 1])
            return max(1, round(values[index - 1] + share * (values[index] - values[index - 1])))
    return values[-1]


def _plain(lengths: Lengths) -> Callable[[Sequence[float], random.Random], list[Arrival]]:
    def make(times: Sequence[float], generator: random.Random) -> list[Arrival]:
        return [Arrival(time, *lengths.draw(generator)) for time in times]

    return make


def _long_context(times: Sequence[float], generator: random.Random) -> list[Arrival]:
    """Prompts of 32k to 128k tokens, log-uniform, with conversation outputs."""
    return [Arrival(time, int(32_768 * 3.9 ** generator.random()), CONVERSATION.draw(generator)[1]) for time in times]


def _reasoning(times: Sequence[float], generator: random.Random) -> list[Arrival]:
    """Conversation prompts with outputs around 10,000 tokens (log-normal, within 1,000 and 32,000)."""
    outputs = (int(min(32_000, max(1_000, generator.lognormvariate(9.1, 0.5)))) for _ in times)
    return [Arrival(time, CONVERSATION.draw(generator)[0], output) for time, output in zip(times, outputs, strict=True)]


def _mix_step(times: Sequence[float], generator: random.Random) -> list[Arrival]:
    """Conversation in the first half, code in the second."""
    middle = len(times) // 2
    return [
        Arrival(time, *(CONVERSATION if index < middle else CODE).draw(generator)) for index, time in enumerate(times)
    ]


def _sessions(times: Sequence[float], generator: random.Random) -> list[Arrival]:
    """Multi-turn conversations: each turn's prompt is the whole conversation so far and a new message.

    A new session begins with a system prompt of 400 tokens that all share; others go on with one of the last sessions, after
    a median of 30 s for reading and writing. Sessions end after 8 turns or 12,000 tokens.
    """
    system = (1, 400)
    arrivals: list[Arrival] = []
    open_sessions: list[tuple[float, int, int, int]] = []  # (ready, session, tokens so far, turns)
    sessions = 0
    for time in times:
        ready = [one for one in open_sessions if one[0] <= time]
        if ready and generator.random() < 0.8:
            chosen = generator.choice(ready)
            open_sessions.remove(chosen)
            _, session, tokens, turns = chosen
        else:
            session, tokens, turns = sessions, 0, 0
            sessions += 1
        message, output = CONVERSATION.draw(generator)
        own = tokens + max(8, message // 4)
        arrivals.append(Arrival(time, system[1] + own, output, content=(system, (1000 + session, own))))
        if turns < 7 and own + output < 12_000:
            pause = generator.lognormvariate(3.4, 0.6)
            open_sessions.append((time + 0.03 * output + pause, session, own + output, turns + 1))
    return arrivals


KINDS: dict[str, Callable[[Sequence[float], random.Random], list[Arrival]]] = {
    "conversation": _plain(CONVERSATION),
    "code": _plain(CODE),
    "sessions": _sessions,
    "long-context": _long_context,
    "reasoning": _reasoning,
    "mix-step": _mix_step,
}
"""Generated requests by the name that the command line uses."""


def generate(kind: str, times: Sequence[float], generator: random.Random) -> list[Arrival]:
    """Requests of a kind at the given times.

    Raises:
        ValueError: no such kind.
    """
    if ":" in kind:
        return given_lengths(kind, times, generator)
    if kind not in KINDS:
        raise ValueError(
            f"load {kind!r} is not known; known are {', '.join(KINDS)}, and lengths given as fixed:512x1000 or lognormal:68/0.4x345/0.5"
        )
    return KINDS[kind](times, generator)
