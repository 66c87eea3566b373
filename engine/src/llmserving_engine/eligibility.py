"""Which waiting requests vLLM's scheduler could admit in the coming step, if the token budget let it.

One rule here is obeyed by the scheduler itself (``LiveScheduler._handle_blocked_waiting_request``): the LoRA adapters of
all running requests together never exceed ``max_loras``. vLLM counts those of the requests that the step serves, which
is all it needs as long as nobody is passed over; then a parked request's adapter would be forgotten, another one be
admitted in its place, and once both are served ``schedule()`` fails its own assertion.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from llmserving_engine.waiting_queue import OrderedQueue

_READY = frozenset({"WAITING", "PREEMPTED"})


class Eligibility:
    """Judges the waiting requests of one scheduler; used by the engine's thread alone."""

    def __init__(self, scheduler: Any) -> None:
        lora_config = getattr(scheduler, "lora_config", None)
        self._scheduler = scheduler
        self._taken_first = "kv_holding_waiting" if hasattr(scheduler, "kv_holding_waiting") else "skipped_waiting"
        self._max_adapters = 0 if lora_config is None else int(lora_config.max_loras)
        self._adapters: set[int] = set()  # of the running requests
        self._seen = 0  # so many of them

    def begin(self) -> None:
        """A step is about to be scheduled; from here on requests are only added to the running ones, at their end."""
        self._adapters.clear()
        self._seen = 0

    def has_adapter_room(self, request: Any) -> bool:
        """Whether the adapters of the running requests leave room for this one's."""
        if not self._max_adapters or not request.lora_request:
            return True
        running, adapters = self._scheduler.running, self._adapters
        for other in running[self._seen :]:
            if other.lora_request:
                adapters.add(other.lora_request.lora_int_id)
        self._seen = len(running)
        return request.lora_request.lora_int_id in adapters or len(adapters) < self._max_adapters

    def first(self) -> Any | None:
        """The first of those offered that vLLM could admit, had it a slot, tokens and memory.

        It passes over requests that wait for something else than those: a grammar being compiled, the next input of a
        streaming session, an output still in flight, room for their adapter. While it is paused it admits nobody.
        """
        scheduler = self._scheduler
        if scheduler.pause_state:
            return None
        holding: Iterable[Any] = getattr(scheduler, self._taken_first, ())
        waiting = scheduler.waiting
        offered: Iterable[Any] = waiting.offered() if isinstance(waiting, OrderedQueue) else waiting
        return next((request for request in chain(holding, offered) if self._is_ready(request)), None)

    def ready(self) -> Iterator[Any]:
        """Those of the whole queue that vLLM could admit, offered or not; no more are looked at than are asked for."""
        waiting = self._scheduler.waiting
        everyone: Iterable[Any] = waiting.everyone() if isinstance(waiting, OrderedQueue) else waiting
        return (request for request in everyone if self._is_ready(request))

    def _is_ready(self, request: Any) -> bool:
        status = request.status.name
        if status == "WAITING_FOR_STRUCTURED_OUTPUT_GRAMMAR":
            if getattr(request.structured_output_request, "grammar", None) is None:
                return False
        elif status not in _READY:
            return False
        if getattr(request, "num_stale_output_tokens", 0) and not request.drop_stale_output:
            return False
        return self.has_adapter_room(request)
