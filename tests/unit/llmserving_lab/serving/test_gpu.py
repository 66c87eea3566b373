"""What is missing for tests on a GPU is said in one line."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from llmserving_agent.sensors.nvml import NVML, NVMLUnavailableError
from llmserving_api.control import DeviceMemory
from llmserving_lab.serving import gpu
from llmserving_lab.serving.gpu import GPUUnavailableError, cuda_vllm_version, first_card, main, profiles_for

CARDS = tuple(
    DeviceMemory(
        uuid=uuid, name="NVIDIA Card", memory_total_bytes=80 << 30, memory_free_bytes=80 << 30, memory_used_bytes=0
    )
    for uuid in ("GPU-a", "GPU-b")
)


class PlayedNVML(NVML):
    """Without a driver."""

    def __init__(self, cards: Sequence[DeviceMemory] = CARDS) -> None:
        self._cards = {card.uuid: card for card in cards}
        self.closed = False

    def uuids(self) -> tuple[str, ...]:
        return tuple(self._cards)

    def read(self, uuids: Sequence[str]) -> tuple[DeviceMemory, ...]:
        return tuple(self._cards[uuid] for uuid in uuids)

    def close(self) -> None:
        self.closed = True


def no_driver() -> NVML:
    raise NVMLUnavailableError("NVML: NVML Shared Library Not Found")


def test_the_first_card_is_taken_and_nvml_is_left_closed() -> None:
    played = PlayedNVML()
    assert first_card(lambda: played).uuid == "GPU-a"
    assert played.closed


@pytest.mark.parametrize(
    ("open_nvml", "message"),
    [
        (no_driver, "no NVIDIA GPU here: NVML: NVML Shared Library Not Found"),
        (lambda: PlayedNVML(()), "no NVIDIA GPU here: NVML shows none"),
    ],
)
def test_a_machine_without_a_card_is_told_so(open_nvml: Callable[[], NVML], message: str) -> None:
    with pytest.raises(GPUUnavailableError, match=f"^{message}$"):
        first_card(open_nvml)


def fake_python(folder: Path, code: str) -> Path:
    script = folder / "python"
    script.write_text(f"#!{sys.executable}\nimport sys\n{code}\n")
    script.chmod(0o755)
    return script


def test_the_version_of_a_vllm_that_runs_is_read(tmp_path: Path) -> None:
    assert cuda_vllm_version(fake_python(tmp_path, "print('loading'); print('0.32.0')"), {}) == "0.32.0"


def test_a_python_without_a_vllm_for_the_card_is_named_with_the_last_line_it_said(tmp_path: Path) -> None:
    python = fake_python(tmp_path, "sys.exit('first\\nModuleNotFoundError: No module named vllm')")
    with pytest.raises(GPUUnavailableError, match=rf"^{python} has no vLLM .*: ModuleNotFoundError: No module named"):
        cuda_vllm_version(python, {})
    with pytest.raises(GPUUnavailableError, match=r"^/no/python: No such file"):
        cuda_vllm_version(Path("/no/python"), {})


def test_the_command_says_it_in_one_line_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing() -> None:
        raise GPUUnavailableError("no NVIDIA GPU here: NVML shows none")

    monkeypatch.setattr(gpu, "find_gpu_host", missing)
    assert main() == 1
    assert capsys.readouterr().err == "make test-gpu: no NVIDIA GPU here: NVML shows none\n"


def test_a_recording_is_validated_against_the_shipped_device_of_its_card_and_model() -> None:
    card = "NVIDIA RTX PRO 6000 Blackwell Server Edition"
    assert profiles_for(card, "Llama-3.1-8B", {}) == ("rtxpro6000-llama-3.1-8b",)
    assert profiles_for(card, "Qwen3-8B", {}) == ()
    assert profiles_for("NVIDIA L4", "Llama-3.1-8B", {}) == ()
    assert profiles_for("NVIDIA L4", "Llama-3.1-8B", {"LLMSERVING_GPU_PROFILE": "/my/profile"}) == ("/my/profile",)
