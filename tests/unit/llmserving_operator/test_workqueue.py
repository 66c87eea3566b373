import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from llmserving_operator.workqueue import Backoff, WorkQueue

InVirtualTime = Callable[..., Any]


class Recorder:
    """Work that takes a second and notes when it began and ended."""

    def __init__(self, *, seconds: float = 1.0, failures: int = 0, again: float | None = None) -> None:
        self.began: list[tuple[str, float]] = []
        self.running: set[str] = set()
        self.most = 0
        self.overlapped = False
        self.errors: list[tuple[str, float]] = []
        self._seconds = seconds
        self._failures = failures
        self._again = again

    async def work(self, key: str) -> float | None:
        now = asyncio.get_running_loop().time()
        self.began.append((key, round(now, 6)))
        self.overlapped |= key in self.running
        self.running.add(key)
        self.most = max(self.most, len(self.running))
        await asyncio.sleep(self._seconds)
        self.running.discard(key)
        if self._failures > 0:
            self._failures -= 1
            raise RuntimeError("no")
        return self._again

    def on_error(self, key: str, error: Exception, delay: float) -> None:
        self.errors.append((key, delay))


def queue_of(recorder: Recorder, workers: int = 2) -> WorkQueue[str]:
    return WorkQueue(
        recorder.work, workers=workers, backoff=Backoff(1.0, 8.0), jitter=lambda: 0.0, on_error=recorder.on_error
    )


async def run_for(queue: WorkQueue[str], seconds: float) -> None:
    task = asyncio.create_task(queue.run())
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_a_key_added_often_is_worked_on_once(in_virtual_time: InVirtualTime) -> None:
    recorder = Recorder()

    async def scenario() -> None:
        queue = queue_of(recorder)
        for _ in range(5):
            queue.add("a")
        await run_for(queue, 10)

    in_virtual_time(scenario())

    assert recorder.began == [("a", 0.0)]


def test_a_key_added_while_it_is_worked_on_comes_again_afterwards(in_virtual_time: InVirtualTime) -> None:
    recorder = Recorder()

    async def scenario() -> None:
        queue = queue_of(recorder)
        queue.add("a")
        asyncio.get_running_loop().call_later(0.5, queue.add, "a")
        asyncio.get_running_loop().call_later(0.6, queue.add, "a")
        await run_for(queue, 10)

    in_virtual_time(scenario())

    assert recorder.began == [("a", 0.0), ("a", 1.0)]
    assert not recorder.overlapped


def test_failures_come_back_with_doubling_patience_up_to_a_limit(in_virtual_time: InVirtualTime) -> None:
    recorder = Recorder(seconds=0.0, failures=6)

    async def scenario() -> None:
        queue = queue_of(recorder)
        queue.add("a")
        await run_for(queue, 100)

    in_virtual_time(scenario())

    assert recorder.errors == [("a", delay) for delay in (1.0, 2.0, 4.0, 8.0, 8.0, 8.0)]
    assert [began for _, began in recorder.began] == pytest.approx([0, 1, 3, 7, 15, 23, 31])


def test_a_success_forgets_the_failures(in_virtual_time: InVirtualTime) -> None:
    recorder = Recorder(seconds=0.0, failures=2)

    async def scenario() -> None:
        queue = queue_of(recorder)
        queue.add("a")
        await asyncio.wait_for(run_for(queue, 10), 20)
        recorder._failures = 1
        queue.add("a")
        await run_for(queue, 10)

    in_virtual_time(scenario())

    assert [delay for _, delay in recorder.errors] == [1.0, 2.0, 1.0]


def test_an_event_ends_the_waiting_after_a_failure(in_virtual_time: InVirtualTime) -> None:
    """An edit that mends a bad resource is not made to wait for the backoff."""
    recorder = Recorder(seconds=0.0, failures=4)

    async def scenario() -> None:
        queue = queue_of(recorder)
        queue.add("a")
        asyncio.get_running_loop().call_later(8.0, queue.add, "a")
        await run_for(queue, 9)

    in_virtual_time(scenario())

    assert [began for _, began in recorder.began] == pytest.approx([0, 1, 3, 7, 8])


def test_work_is_looked_at_again_when_it_asks_for_it(in_virtual_time: InVirtualTime) -> None:
    recorder = Recorder(seconds=0.0, again=3.0)

    async def scenario() -> None:
        queue = queue_of(recorder)
        queue.add("a")
        await run_for(queue, 10)

    in_virtual_time(scenario())

    assert [began for _, began in recorder.began] == pytest.approx([0, 3, 6, 9])


def test_the_earliest_of_several_times_holds(in_virtual_time: InVirtualTime) -> None:
    recorder = Recorder(seconds=0.0)

    async def scenario() -> None:
        queue = queue_of(recorder)
        queue.add_after("a", 5.0)
        queue.add_after("a", 2.0)
        queue.add_after("a", 9.0)
        await run_for(queue, 20)

    in_virtual_time(scenario())

    assert [began for _, began in recorder.began] == pytest.approx([2])


def test_a_slow_key_does_not_hold_up_the_others(in_virtual_time: InVirtualTime) -> None:
    recorder = Recorder(seconds=5.0)

    async def scenario() -> None:
        queue = queue_of(recorder, workers=2)
        for key in "abc":
            queue.add(key)
        await run_for(queue, 20)

    in_virtual_time(scenario())

    assert recorder.began == [("a", 0.0), ("b", 0.0), ("c", 5.0)]
    assert recorder.most == 2


@given(
    adds=st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 20)), max_size=30),
    workers=st.integers(1, 3),
    failures=st.integers(0, 5),
)
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
def test_no_key_runs_twice_at_a_time_and_every_add_is_followed_by_work(
    adds: list[tuple[str, int]], workers: int, failures: int, in_virtual_time: InVirtualTime
) -> None:
    recorder = Recorder(failures=failures)

    async def scenario() -> None:
        queue = queue_of(recorder, workers)
        for key, when in adds:
            asyncio.get_running_loop().call_later(when, queue.add, key)
        await run_for(queue, 300)

    in_virtual_time(scenario())

    assert not recorder.overlapped
    assert recorder.most <= workers
    for key, when in adds:
        assert any(began >= when - 1e-6 for worked, began in recorder.began if worked == key)
