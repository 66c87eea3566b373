"""The live scheduler: a mixin over vLLM's ``Scheduler`` or ``AsyncScheduler``.

``plugin.register`` puts it in by wrapping ``SchedulerConfig.get_scheduler_cls``; where that is not wanted,
``--scheduler-cls llmserving_engine.scheduler.make`` does the same.
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llmserving_engine.runtime import Runtime
from llmserving_engine.step_control import StepControl

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.outputs import ModelRunnerOutput
    from vllm.v1.request import Request

logger = logging.getLogger(__name__)

RuntimeFactory = Callable[[Any], Runtime]
"""Builds the runtime of a scheduler just constructed."""


class LiveScheduler:
    """Wraps the scheduler's own methods; always first among the bases, with one of vLLM's schedulers second."""

    runtime_factory: RuntimeFactory
    vllm_base: type
    """The class this one was made from."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.live: StepControl | None = None
        try:
            self.live = StepControl(self, type(self).runtime_factory(self))
        except Exception:
            logger.exception("llmserving: no live control; the engine runs with its start-up bounds")

    def schedule(self, *args: Any, **kwargs: Any) -> "SchedulerOutput":
        """One step: enforce, schedule, measure."""
        live = self.live
        if live is None:
            return super().schedule(*args, **kwargs)  # type: ignore[misc]
        self._guarded(live.before_schedule)
        try:
            output = super().schedule(*args, **kwargs)  # type: ignore[misc]
        except BaseException:
            live.restore()
            raise
        self._guarded(live.after_schedule, output)
        return output

    def update_from_output(
        self, scheduler_output: "SchedulerOutput", model_runner_output: "ModelRunnerOutput", *args: Any, **kwargs: Any
    ) -> dict[int, Any]:
        """The output of a step: let vLLM take it, count latencies."""
        live = self.live
        if live is not None:
            self._guarded(live.before_update)
        outputs: dict[int, Any] = super().update_from_output(  # type: ignore[misc]
            scheduler_output, model_runner_output, *args, **kwargs
        )
        if live is not None:
            self._guarded(live.after_update, scheduler_output, outputs)
        return outputs

    def get_grammar_bitmask(self, *args: Any, **kwargs: Any) -> Any:
        """Asked for each step once the device has begun to compute it (``EngineCore.step``)."""
        bitmask = super().get_grammar_bitmask(*args, **kwargs)  # type: ignore[misc]
        if self.live is not None:
            self._guarded(self.live.on_device)
        return bitmask

    def add_request(self, request: "Request", *args: Any, **kwargs: Any) -> None:
        """A request arrives."""
        super().add_request(request, *args, **kwargs)  # type: ignore[misc]
        if self.live is not None:
            self._guarded(self.live.arrived, request)

    def finish_requests(self, *args: Any, **kwargs: Any) -> Any:
        """Requests leave, though not with their last token."""
        if self.live is not None:
            self._guarded(self.live.before_removal)
        return super().finish_requests(*args, **kwargs)  # type: ignore[misc]

    def reset_prefix_cache(self, *args: Any, **kwargs: Any) -> bool:
        """All that run may be preempted, between two steps."""
        if self.live is not None:
            self._guarded(self.live.before_removal)
        return super().reset_prefix_cache(*args, **kwargs)  # type: ignore[misc,no-any-return]

    def _handle_blocked_waiting_request(self, request: "Request", *args: Any, **kwargs: Any) -> bool:
        """Whether to go on with a waiting request that the step has come to (vLLM 0.31 on); False: pass it over."""
        is_ready: bool = super()._handle_blocked_waiting_request(request, *args, **kwargs)  # type: ignore[misc]
        if not is_ready or self.live is None or not (self.lora_config and request.lora_request):  # type: ignore[attr-defined]
            return is_ready
        return self._guarded(self.live.may_admit, request) is True

    def _preempt_request(self, request: "Request", *args: Any, **kwargs: Any) -> None:
        computed_tokens = request.num_computed_tokens  # vLLM sets it to 0
        super()._preempt_request(request, *args, **kwargs)  # type: ignore[misc]
        if self.live is not None:
            self._guarded(self.live.preempted, request, computed_tokens)

    def _handle_stopped_request(self, request: "Request", *args: Any, **kwargs: Any) -> bool:
        computed_tokens = request.num_computed_tokens  # vLLM takes back those in flight
        is_over: bool = super()._handle_stopped_request(request, *args, **kwargs)  # type: ignore[misc]
        if not is_over and self.live is not None:
            self._guarded(self.live.suspended, request, computed_tokens)
        return is_over

    def _guarded(self, entry: Callable[..., Any], *args: Any) -> Any:
        """The one place where an exception of ours is caught: it ends control, never the engine."""
        try:
            return entry(*args)
        except Exception as error:
            if self.live is not None:
                self.live.surrender(entry.__name__, error)
            return None


def live_scheduler_class(base: type, runtime_factory: RuntimeFactory) -> type:
    """A scheduler class with live control.

    Args:
        base: vLLM's ``Scheduler`` or ``AsyncScheduler`` (or a subclass).
        runtime_factory: Builds the runtime once the scheduler is constructed.
    """
    members = {"runtime_factory": staticmethod(runtime_factory), "vllm_base": base}
    return type(f"Live{base.__name__}", (LiveScheduler, base), members)


def make(vllm_config: Any, *args: Any, **kwargs: Any) -> Any:
    """Factory for ``--scheduler-cls llmserving_engine.scheduler.make``: the live scheduler that fits the engine."""
    from llmserving_engine.process import start_runtime

    scheduler_config = vllm_config.scheduler_config
    if scheduler_config.async_scheduling:
        from vllm.v1.core.sched.async_scheduler import AsyncScheduler as Base
    else:
        from vllm.v1.core.sched.scheduler import Scheduler as Base
    return live_scheduler_class(Base, start_runtime)(vllm_config, *args, **kwargs)
