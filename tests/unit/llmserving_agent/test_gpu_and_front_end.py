"""Sensors with fallbacks: GPU facts by the best source, and the front end's share."""

from collections.abc import Sequence

import pytest

from llmserving_agent.sensors.front_end import FirstTokens, FrontEnd, parse_first_tokens
from llmserving_agent.sensors.gpu import EngineGPU
from llmserving_agent.sensors.none import NoGPU
from llmserving_agent.sensors.nvml import NVML, NVMLUnavailableError
from llmserving_agent.sensors.relay import Relay
from llmserving_api.control import DeviceMemory


def gpu(uuid: str, free: int = 10) -> DeviceMemory:
    return DeviceMemory(uuid=uuid, name="card", memory_total_bytes=100, memory_free_bytes=free, memory_used_bytes=90)


class FakeNVML(NVML):
    """Without a driver."""

    def __init__(self, *uuids: str) -> None:
        self.visible = uuids
        self.broken = False

    def uuids(self) -> tuple[str, ...]:
        return self.visible

    def read(self, uuids: Sequence[str]) -> tuple[DeviceMemory, ...]:
        missing = [uuid for uuid in uuids if uuid not in self.visible]
        if missing or self.broken:
            raise NVMLUnavailableError(f"NVML: {missing}: not found")
        return tuple(gpu(uuid) for uuid in uuids)


def no_nvml() -> NVML:
    raise NVMLUnavailableError("NVML: library not found")


def test_nvml_reads_the_gpus_the_engine_sees() -> None:
    relay = Relay()
    relay.devices = (gpu("GPU-b"),)
    reading = EngineGPU(relay, lambda: FakeNVML("GPU-a", "GPU-b", "GPU-c")).read(0.0)
    assert reading.source == "nvml"
    assert [device.uuid for device in reading.devices] == ["GPU-b"]


def test_a_single_visible_gpu_is_the_engines() -> None:
    reading = EngineGPU(Relay(), lambda: FakeNVML("GPU-a")).read(0.0)
    assert (reading.source, reading.devices[0].uuid) == ("nvml", "GPU-a")


def test_among_several_unknown_gpus_none_is_guessed() -> None:
    reading = EngineGPU(Relay(), lambda: FakeNVML("GPU-a", "GPU-b")).read(0.0)
    assert reading.source == "none"
    assert "2 GPUs visible" in reading.reason


def test_without_nvml_the_relay_serves_and_the_reason_is_kept() -> None:
    relay = Relay()
    relay.devices = (gpu("GPU-b", free=7),)
    reading = EngineGPU(relay, no_nvml).read(0.0)
    assert reading.source == "relay"
    assert reading.devices[0].memory_free_bytes == 7
    assert "library not found" in reading.reason


def test_without_both_there_is_none_with_both_reasons() -> None:
    reading = EngineGPU(Relay(), no_nvml).read(0.0)
    assert reading.source == "none"
    assert reading.reason == "NVML: library not found; relay: the engine has not answered yet"


def test_nvml_that_fails_later_gives_way_to_the_relay() -> None:
    relay, library = Relay(), FakeNVML("GPU-b")
    relay.devices = (gpu("GPU-b"),)
    sensor = EngineGPU(relay, lambda: library)
    assert sensor.read(0.0).source == "nvml"
    library.broken = True
    assert sensor.read(2.0).source == "relay"
    library.broken = False
    assert sensor.read(40.0).source == "nvml"


def test_a_sensor_that_is_not_there_says_why() -> None:
    reading = NoGPU("simulated").read(0.0)
    assert (reading.source, reading.reason, reading.devices) == ("none", "simulated", ())


METRICS = """\
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.1",model_name="m"} 3.0
vllm:time_to_first_token_seconds_count{engine="0",model_name="m"} 40.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="m"} 12.5
vllm:time_to_first_token_seconds_count{engine="1",model_name="m"} 10.0
vllm:time_to_first_token_seconds_sum{engine="1",model_name="m"} 2.5
vllm:time_to_first_token_seconds_created{engine="0",model_name="m"} 1.7e+09
"""


def test_vllms_own_series_is_summed_over_its_labels() -> None:
    assert parse_first_tokens(METRICS) == FirstTokens(count=50, seconds=15.0)
    assert parse_first_tokens("") == FirstTokens()


def test_the_share_is_the_difference_of_the_means_over_the_same_span() -> None:
    front_end = FrontEnd("http://engine/metrics")
    front_end.compare(FirstTokens(100, 50.0), FirstTokens(0, 0.0), 0.0)
    front_end.compare(FirstTokens(140, 70.0), FirstTokens(40, 18.0), 10.0)
    assert front_end.read().seconds == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("server", "engine"),
    [
        (FirstTokens(105, 60.0), FirstTokens(5, 1.0)),  # too few
        (FirstTokens(160, 90.0), FirstTokens(20, 9.0)),  # counts that do not belong together
        (FirstTokens(20, 9.0), FirstTokens(20, 9.0)),  # the server was restarted
    ],
)
def test_spans_that_cannot_be_compared_change_nothing(server: FirstTokens, engine: FirstTokens) -> None:
    front_end = FrontEnd("http://engine/metrics")
    front_end.compare(FirstTokens(100, 50.0), FirstTokens(0, 0.0), 0.0)
    front_end.compare(server, engine, 10.0)
    assert front_end.read().seconds == 0.0


def test_the_share_is_never_negative() -> None:
    front_end = FrontEnd("http://engine/metrics")
    front_end.compare(FirstTokens(0, 0.0), FirstTokens(0, 0.0), 0.0)
    front_end.compare(FirstTokens(40, 10.0), FirstTokens(40, 12.0), 10.0)
    assert front_end.read().seconds == 0.0
