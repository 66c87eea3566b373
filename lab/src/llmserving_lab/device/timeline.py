"""The simulated device in real time: when each step ends, and what vLLM's scheduler output asks of the device."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from llmserving_lab.device.batch import StepBatch
from llmserving_lab.device.model import DeviceModel


class DeviceTimeline:
    """Steps follow one another on the device: one dispatched early waits for the step before it.

    Args:
        device: Cost of steps. Only the device's share counts: the host's share is spent for real.
        now: Start of the time line in seconds.
    """

    def __init__(self, device: DeviceModel, *, now: float) -> None:
        self._device = device
        self._origin = now
        self._free_at = now

    def dispatch(self, batch: StepBatch, *, now: float) -> float:
        """Time at which a step dispatched now has finished."""
        start = max(now, self._free_at)
        self._free_at = start + self._device.step_seconds(batch, now=start - self._origin).device_seconds
        return self._free_at


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its work, and the tokens each request gets (none while a prompt is unfinished)."""

    batch: StepBatch
    tokens: dict[str, list[int]]


class StepReader:
    """Reads vLLM's `SchedulerOutput` as a worker would, keeping only the prompt lengths between steps.

    Args:
        sentence: Token ids that requests are answered with, over and over.
    """

    def __init__(self, sentence: Sequence[int]) -> None:
        self._sentence = list(sentence)
        self._prompts: dict[str, int] = {}

    def forget(self, finished: Iterable[str]) -> None:
        """Drop requests that have ended."""
        for request in finished:
            self._prompts.pop(request, None)

    def read(self, output: Any) -> Step:
        """The step's batch and the tokens it will produce.

        A request samples when all its tokens so far (prompt and outputs, those of a step still running included) are
        computed by this step; one that computes exactly one token of an answer under way is a decode, all else is
        prefill.
        """
        self.forget(output.finished_req_ids)
        prefill: list[tuple[int, int]] = []
        tokens: dict[str, list[int]] = {}
        decodes = context_sum = context_max = sampled = 0
        scheduled = output.num_scheduled_tokens
        for new in output.scheduled_new_reqs:
            known = new.prefill_token_ids or new.prompt_token_ids
            self._prompts[new.req_id] = len(new.prompt_token_ids)
            count = scheduled[new.req_id]
            prefill.append((count, new.num_computed_tokens))
            done = new.num_computed_tokens + count >= len(known)
            tokens[new.req_id] = self._next(len(known) - len(new.prompt_token_ids)) if done else []
            sampled += done
        cached = output.scheduled_cached_reqs
        for request, computed, outputs in zip(
            cached.req_ids, cached.num_computed_tokens, cached.num_output_tokens, strict=True
        ):
            count = scheduled[request]
            length = self._prompts[request] + outputs
            done = computed + count >= length
            if count == 1 and outputs and done:
                decodes += 1
                context_sum += length
                context_max = max(context_max, length)
            else:
                prefill.append((count, computed))
            tokens[request] = self._next(outputs) if done else []
            sampled += done
        return Step(StepBatch(tuple(prefill), decodes, context_sum, context_max, sampled), tokens)

    def _next(self, outputs: int) -> list[int]:
        return [self._sentence[outputs % len(self._sentence)]]


class ReadyAt(Future[Any]):
    """A result that is there at a given time of the monotonic clock; waiting for it sleeps until then."""

    def __init__(
        self,
        value: Any,
        ready_at: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__()
        self._value = value
        self._ready_at = ready_at
        self._clock = clock
        self._sleep = sleep

    def done(self) -> bool:
        """Whether the time has come."""
        return self._clock() >= self._ready_at

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the time and return the value.

        Raises:
            TimeoutError: the time lies further ahead than `timeout` seconds.
        """
        wait = self._ready_at - self._clock()
        if timeout is not None and wait > timeout:
            self._sleep(max(0.0, timeout))
            raise TimeoutError
        if wait > 0:
            self._sleep(wait)
        return self._value
