"""The heartbeat tells a dead engine from an idle or a slow one."""

from llmserving_engine.health import Heartbeat

SECOND = 10**9


def test_an_idle_engine_is_healthy_however_long():
    assert Heartbeat(0).verdict(10_000 * SECOND, runnable=False).healthy


def test_a_silent_engine_with_work_is_not():
    beat = Heartbeat(0)
    assert beat.verdict(60 * SECOND, runnable=True).healthy
    verdict = beat.verdict(61 * SECOND, runnable=True)
    assert not verdict.healthy
    assert verdict.age_seconds == 61


def test_an_engine_with_slow_steps_gets_longer():
    beat = Heartbeat(0)
    for _ in range(200):
        beat.step(10 * SECOND)
    assert beat.verdict(150 * SECOND, runnable=True).healthy
    assert not beat.verdict(250 * SECOND, runnable=True).healthy


def test_slow_steps_of_long_ago_fade():
    beat = Heartbeat(0)
    for _ in range(200):
        beat.step(10 * SECOND)
    for _ in range(400_000):
        beat.step(SECOND // 100)
    assert beat.p99_seconds() < 0.02
