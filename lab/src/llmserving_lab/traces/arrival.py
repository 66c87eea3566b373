"""One request of a load, before any engine has seen it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request as the client sends it, and the output length that the model will turn out to produce.

    Attributes:
        time: Seconds since the load began.
        prompt_tokens: Length of the prompt.
        output_tokens: Tokens generated until the model stops; unknown to the engine beforehand.
        content: The prompt's content as `(token id, count)` runs whose counts add up to the prompt; requests with equal
            beginnings share prefix cache. Empty: content of its own. Generated tokens continue the last run.
        request_class: Class of the request (`vllm_xargs`), empty where the load has none.
        priority: vLLM priority; smaller is served first.
        abort_after: Seconds after which the client gives up if the request is not finished; None: never.
        retries: How often the client sends an aborted request again at once.
    """

    time: float
    prompt_tokens: int
    output_tokens: int
    content: tuple[tuple[int, int], ...] = ()
    request_class: str = ""
    priority: int = 0
    abort_after: float | None = None
    retries: int = 0
