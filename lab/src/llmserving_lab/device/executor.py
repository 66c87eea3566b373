"""vLLM executor whose device is a `DeviceModel`: real scheduler, KV cache and server; simulated step times.

Start vLLM with `--distributed-executor-backend llmserving_lab.device.executor.SimulatedExecutor`. No weights are loaded
and no kernel runs; a step's output becomes ready when the device's time line has reached the step's end. The
environment variables are those of `Settings`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllm.v1.executor.abstract import Executor
from vllm.v1.kv_cache_interface import FullAttentionSpec
from vllm.v1.outputs import EMPTY_MODEL_RUNNER_OUTPUT, ModelRunnerOutput

from llmserving_lab.device.card_defaults import take_defaults_of
from llmserving_lab.device.model import DeviceModel, load_device
from llmserving_lab.device.timeline import DeviceTimeline, ReadyAt, StepReader
from llmserving_lab.nvml.state import STATE_FILE, DeviceState, write_state

ENV_DEVICE = "SIMULATED_DEVICE"
ENV_CONTROL_DIR = "LLMSERVING_CONTROL_DIR"

_DEFAULT_TOKEN = 1000


@dataclass(frozen=True, slots=True)
class Settings:
    """Environment variables of the simulated device.

    Attributes:
        device: `SIMULATED_DEVICE`: a profile folder, a coefficient file or the name of a shipped device.
        state: The file for the stand-in NVML library, in the folder `LLMSERVING_CONTROL_DIR`; None without that folder.
    """

    device: str
    state: Path | None

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read them.

        Raises:
            ValueError: the device is not named.
        """
        device = environ.get(ENV_DEVICE, "")
        if not device:
            raise ValueError(f"{ENV_DEVICE} is not set: name a shipped device or the folder of a measured one")
        control = environ.get(ENV_CONTROL_DIR)
        return cls(device, Path(control) / STATE_FILE if control else None)


class SimulatedExecutor(Executor):
    """One simulated device behind vLLM's executor interface.

    KV capacity is what the device model leaves at the engine's ceilings (`--num-gpu-blocks-override` overrides it as
    usual). Every output token is the next of the sentence in the model's `simulated_output` (`llmserving_lab.model`);
    outputs end by `max_tokens`.
    """

    uses_ray = False
    supports_pp = False

    @classmethod
    def supports_async_scheduling(cls) -> bool:
        """Steps may be dispatched while one runs: they queue on the device's time line."""
        return True

    def _init_executor(self) -> None:
        settings = Settings.read()
        self.device: DeviceModel = load_device(settings.device)
        take_defaults_of(self.device)
        self._timeline = DeviceTimeline(self.device, now=time.monotonic())
        self._reader = StepReader(getattr(self.model_config.hf_config, "simulated_output", None) or [_DEFAULT_TOKEN])
        self._pending: tuple[ModelRunnerOutput, float] | None = None
        if settings.state is not None:
            write_state(settings.state, DeviceState.of(self.device))

    def _kv_cache_spec(self) -> dict[str, FullAttentionSpec]:
        spec = FullAttentionSpec(
            block_size=self.cache_config.block_size,
            num_kv_heads=self.model_config.get_num_kv_heads(self.parallel_config),
            head_size=self.model_config.get_head_size(),
            dtype=self.model_config.dtype,
        )
        layers = self.model_config.get_num_layers(self.parallel_config)
        return {f"model.layers.{layer}.self_attn.attn": spec for layer in range(layers)}

    def _available_bytes(self) -> int:
        tokens = self.device.kv_capacity_tokens(
            self.scheduler_config.max_num_seqs, self.scheduler_config.max_num_batched_tokens
        )
        blocks: int = tokens // self.cache_config.block_size
        return int(blocks * sum(spec.page_size_bytes for spec in self._kv_cache_spec().values()))

    def collective_rpc(
        self,
        method: str | Callable[..., Any],
        timeout: float | None = None,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        non_block: bool = False,
    ) -> Any:
        """Answer what EngineCore asks of workers at start-up; everything else has nothing to do here."""
        answers: dict[str, Callable[[], Any]] = {
            "get_kv_cache_spec": self._kv_cache_spec,
            "get_supported_kv_cache_layouts": lambda: ["NHD"],
            "determine_available_memory": self._available_bytes,
            "get_supported_tasks": lambda: ("generate",),
            "supports_draft_weight_updates": lambda: False,
        }
        if method == "compile_or_warm_up_model":
            return []
        answer = [answers[method]()] if isinstance(method, str) and method in answers else [None]
        if not non_block:
            return answer
        future: Future[Any] = Future()
        future.set_result(answer)
        return future

    def execute_model(self, scheduler_output: Any, non_block: bool = False) -> Any:
        """Put the step on the device's time line; `sample_tokens` hands out its output, as with a real worker."""
        if scheduler_output.total_num_scheduled_tokens == 0:
            self._reader.forget(scheduler_output.finished_req_ids)
            return _ready(EMPTY_MODEL_RUNNER_OUTPUT) if non_block else EMPTY_MODEL_RUNNER_OUTPUT
        step = self._reader.read(scheduler_output)
        end = self._timeline.dispatch(step.batch, now=time.monotonic())
        requests = list(scheduler_output.num_scheduled_tokens)
        output = ModelRunnerOutput(
            req_ids=requests,
            req_id_to_index={request: index for index, request in enumerate(requests)},
            sampled_token_ids=[step.tokens[request] for request in requests],
        )
        self._pending = (output, end)
        return _ready(None) if non_block else None

    def sample_tokens(self, grammar_output: Any, non_block: bool = False) -> Any:
        """The output of the step dispatched last, ready when the device has finished it."""
        if self._pending is None:
            raise RuntimeError("sample_tokens() without execute_model() before it")
        output, end = self._pending
        self._pending = None
        future = ReadyAt(output, end)
        return future if non_block else future.result()

    def check_health(self) -> None:
        """Always healthy."""

    def shutdown(self) -> None:
        """Nothing to release."""


def _ready(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future
