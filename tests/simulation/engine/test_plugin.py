"""Getting in by the environment: once, only when asked for, and never in the way."""

import pytest
from vllm.config.scheduler import SchedulerConfig
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler

from llmserving_engine import plugin
from llmserving_engine.scheduler import LiveScheduler, make

pytestmark = pytest.mark.engine


@pytest.fixture
def fresh(monkeypatch):
    monkeypatch.setattr(SchedulerConfig, "get_scheduler_cls", SchedulerConfig.get_scheduler_cls)
    return monkeypatch


def config(**fields):
    made = SchedulerConfig(max_model_len=512, is_encoder_decoder=False, **fields)
    made.async_scheduling = fields.get("async_scheduling", False)
    return made


def test_without_the_folder_nothing_is_touched(fresh):
    fresh.delenv("LLMSERVING_CONTROL_DIR", raising=False)
    before = SchedulerConfig.get_scheduler_cls
    plugin.register()
    assert SchedulerConfig.get_scheduler_cls is before


@pytest.mark.parametrize(("is_async", "base"), [(False, Scheduler), (True, AsyncScheduler)])
def test_the_engine_gets_a_live_scheduler_over_its_own_however_often_it_registers(fresh, tmp_path, is_async, base):
    fresh.setenv("LLMSERVING_CONTROL_DIR", str(tmp_path))
    plugin.register()
    wrapped = SchedulerConfig.get_scheduler_cls
    plugin.register()
    assert SchedulerConfig.get_scheduler_cls is wrapped
    made = config(async_scheduling=is_async).get_scheduler_cls()
    assert issubclass(made, LiveScheduler)
    assert made.__mro__[1:3] == (LiveScheduler, base)
    assert not list(tmp_path.iterdir()), "nothing starts before the scheduler is built"


def test_a_scheduler_of_another_kind_is_left_alone(fresh, tmp_path):
    fresh.setenv("LLMSERVING_CONTROL_DIR", str(tmp_path))
    plugin.register()
    other = type("Other", (), {})
    assert config(scheduler_cls=other).get_scheduler_cls() is other
    assert config(scheduler_cls="llmserving_engine.scheduler.make").get_scheduler_cls() is make


def test_a_plug_in_that_cannot_get_in_lets_vllm_start(fresh, tmp_path):
    fresh.setenv("LLMSERVING_CONTROL_DIR", str(tmp_path))
    fresh.setattr(plugin, "_wrap", lambda: 1 / 0)
    plugin.register()


def test_an_engine_whose_runtime_cannot_be_built_serves_without_control(engine):
    def broken(scheduler):
        raise RuntimeError("no runtime")

    sim = engine(prepare=broken)
    assert sim.live is None
    names = [sim.add(prompt=30, output=10) for _ in range(10)]
    sim.run()
    assert set(sim.finished) == set(names)
