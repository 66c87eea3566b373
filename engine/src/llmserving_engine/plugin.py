"""Entry point of ``vllm.general_plugins``: puts the live scheduler into the engine by the environment alone.

vLLM calls ``register`` in the API server, the engine core and every worker, and may call it again. Only the engine core
ever asks for its scheduler class, so only there anything is started.
"""

import functools
import logging
import os
from typing import Any, Final

ENV_CONTROL_DIR: Final = "LLMSERVING_CONTROL_DIR"
_MARK: Final = "__llmserving_wrapped__"

logger = logging.getLogger(__name__)


def register() -> None:
    """Wrap vLLM's choice of scheduler class; does nothing unless ``LLMSERVING_CONTROL_DIR`` is set.

    Never raises: a plug-in that raises stops vLLM, and the agent notices a missing socket by itself.
    """
    if not os.environ.get(ENV_CONTROL_DIR):
        return
    try:
        _wrap()
    except Exception:
        logger.exception("llmserving: the plug-in could not be put in; vLLM goes on without it")


def _wrap() -> None:
    from vllm.config.scheduler import SchedulerConfig

    original = SchedulerConfig.get_scheduler_cls
    if hasattr(original, _MARK):
        return

    @functools.wraps(original)
    def get_scheduler_cls(config: Any) -> Any:
        base = original(config)
        try:
            return _live(base)
        except Exception:
            logger.exception("llmserving: no live control; vLLM goes on with %r", base)
            return base

    setattr(get_scheduler_cls, _MARK, True)
    SchedulerConfig.get_scheduler_cls = get_scheduler_cls


def _live(base: Any) -> Any:
    from vllm.v1.core.sched.scheduler import Scheduler

    from llmserving_engine.process import start_runtime
    from llmserving_engine.scheduler import LiveScheduler, live_scheduler_class, make

    if base is make:  # chosen on the command line
        return base
    if not isinstance(base, type) or not issubclass(base, Scheduler):
        logger.warning("llmserving: %r is not one of vLLM's schedulers; no live control", base)
        return base
    if issubclass(base, LiveScheduler):
        return base
    return live_scheduler_class(base, start_runtime)
