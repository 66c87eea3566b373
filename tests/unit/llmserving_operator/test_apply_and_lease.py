"""The parts that write, against an API server of a dozen lines."""

import asyncio
import copy
from collections.abc import Callable
from typing import Any

import pytest

from llmserving_operator.apply import RESYNC_SECONDS, Applier
from llmserving_operator.children.identity import ChildKey, Identity, Manifest, child_key
from llmserving_operator.children.service import build_service
from llmserving_operator.errors import ConflictError, KubeError, NotFoundError, RejectedError
from llmserving_operator.kube.client import TIMEOUT_SECONDS
from llmserving_operator.kube.lease import DURATION_SECONDS, Lease, lead
from llmserving_operator.observe import Observation
from llmserving_operator.plan import Apply, Delete, Deliver

InVirtualTime = Callable[..., Any]


class FakeKube:
    """Objects with versions; calls are counted, and fail where told to."""

    def __init__(self) -> None:
        self.objects: dict[ChildKey, Manifest] = {}
        self.calls: list[str] = []
        self.failing: dict[str, KubeError] = {}
        self._version = 0

    def _store(self, key: ChildKey, manifest: Manifest) -> Manifest:
        stored = copy.deepcopy(manifest)
        old = self.objects.get(key)
        stored["metadata"].pop("resourceVersion", None)
        if old is not None and {**old, "metadata": {**old["metadata"], "resourceVersion": None}} == {
            **stored,
            "metadata": {**stored["metadata"], "resourceVersion": None},
        }:
            return copy.deepcopy(old)
        self._version += 1
        stored["metadata"]["resourceVersion"] = str(self._version)
        self.objects[key] = stored
        return copy.deepcopy(stored)

    def _call(self, what: str) -> None:
        self.calls.append(what)
        if what in self.failing:
            raise self.failing[what]

    async def apply(self, manifest: Manifest) -> Manifest:
        self._call(f"apply {manifest['kind']}")
        return self._store(child_key(manifest), manifest)

    async def get(self, namespace: str, key: ChildKey) -> Manifest | None:
        self._call(f"get {key.kind}")
        return copy.deepcopy(self.objects.get(key))

    async def create(self, namespace: str, manifest: Manifest) -> Manifest:
        if child_key(manifest) in self.objects:
            raise ConflictError("exists", 409)
        return self._store(child_key(manifest), manifest)

    async def replace(self, namespace: str, key: ChildKey, manifest: Manifest) -> Manifest:
        if manifest["metadata"]["resourceVersion"] != self.objects[key]["metadata"]["resourceVersion"]:
            raise ConflictError("changed", 409)
        return self._store(key, manifest)

    async def delete(self, namespace: str, key: ChildKey, uid: str) -> None:
        self._call(f"delete {key.kind} {uid}")

    async def deliver_policy(self, namespace: str, pod: str, uid: str, document: str, attempt: int) -> None:
        self._call(f"deliver {pod}")


@pytest.fixture
def kube() -> FakeKube:
    return FakeKube()


def observed(kube: FakeKube) -> Observation:
    return Observation(children=copy.deepcopy(kube.objects), foreign={}, pods=(), reports={}, deliveries={})


async def test_what_is_there_already_costs_no_call(kube: FakeKube, owner: Identity) -> None:
    applier = Applier(kube, lambda: 0.0)
    stages = [[Apply(build_service(owner, by_uid=True))]]

    first = await applier.apply(owner, observed(kube), stages)
    second = await applier.apply(owner, observed(kube), stages)

    assert first.changed == (ChildKey("Service", "chat"),)
    assert second.changed == ()
    assert kube.calls == ["apply Service"]


async def test_a_restarted_operator_applies_once_and_changes_nothing(kube: FakeKube, owner: Identity) -> None:
    stages = [[Apply(build_service(owner, by_uid=True))]]
    await Applier(kube, lambda: 0.0).apply(owner, observed(kube), stages)

    outcome = await Applier(kube, lambda: 0.0).apply(owner, observed(kube), stages)

    assert outcome.changed == ()
    assert kube.objects[ChildKey("Service", "chat")]["metadata"]["resourceVersion"] == "1"


async def test_what_others_changed_is_applied_again(kube: FakeKube, owner: Identity) -> None:
    applier = Applier(kube, lambda: 0.0)
    stages = [[Apply(build_service(owner, by_uid=True))]]
    await applier.apply(owner, observed(kube), stages)
    kube.objects[ChildKey("Service", "chat")]["spec"]["ports"][0]["port"] = 1

    outcome = await applier.apply(owner, observed(kube), stages)

    assert outcome.changed == (ChildKey("Service", "chat"),)


async def test_a_changed_status_is_nobodys_wish(kube: FakeKube, owner: Identity) -> None:
    applier = Applier(kube, lambda: 0.0)
    stages = [[Apply(build_service(owner, by_uid=True))]]
    await applier.apply(owner, observed(kube), stages)
    service = kube.objects[ChildKey("Service", "chat")]
    service["status"] = {"loadBalancer": {}}
    service["metadata"]["resourceVersion"] = "9"
    await applier.apply(owner, observed(kube), stages)

    assert kube.calls == ["apply Service"]


async def test_what_a_broken_watch_missed_is_put_right_in_time(kube: FakeKube, owner: Identity) -> None:
    """The Service is gone, and the watch still shows it."""
    now = [0.0]
    applier = Applier(kube, lambda: now[0])
    stages = [[Apply(build_service(owner, by_uid=True))]]
    await applier.apply(owner, observed(kube), stages)
    stale = observed(kube)
    kube.objects.clear()

    now[0] = RESYNC_SECONDS - 1
    await applier.apply(owner, stale, stages)
    assert kube.objects == {}

    now[0] = RESYNC_SECONDS
    await applier.apply(owner, stale, stages)
    assert ChildKey("Service", "chat") in kube.objects


async def test_a_failure_ends_the_plan_after_its_stage(kube: FakeKube, owner: Identity) -> None:
    kube.failing["apply Service"] = RejectedError("no", 422)
    stages = [
        [Deliver("a", "u", "{}", 0)],
        [Apply(build_service(owner, by_uid=True)), Delete(ChildKey("Service", "x"), "u")],
        [Deliver("b", "u", "{}", 0)],
    ]

    outcome = await Applier(kube, lambda: 0.0).apply(owner, observed(kube), stages)

    assert [str(failure) for failure in outcome.failures] == ["no"]
    assert kube.calls == ["deliver a", "apply Service", "delete Service u"]
    assert [step.pod for step in outcome.delivered] == ["a"]


async def test_a_pod_that_cannot_be_patched_holds_up_nothing_else(kube: FakeKube, owner: Identity) -> None:
    kube.failing["deliver a"] = RejectedError("a webhook denied it", 403)

    outcome = await Applier(kube, lambda: 0.0).apply(
        owner, observed(kube), [[Deliver("a", "u", "{}", 0)], [Apply(build_service(owner, by_uid=True))]]
    )

    assert outcome.changed == (ChildKey("Service", "chat"),)
    assert [str(failure) for failure in outcome.failures] == ["a webhook denied it"]


@pytest.mark.parametrize("error", [NotFoundError("gone", 404), ConflictError("another pod", 409)])
async def test_a_pod_that_is_gone_is_no_failure(error: KubeError, kube: FakeKube, owner: Identity) -> None:
    kube.failing["deliver a"] = error

    outcome = await Applier(kube, lambda: 0.0).apply(owner, observed(kube), [[Deliver("a", "u", "{}", 0)]])

    assert outcome.failures == ()


class TestLease:
    def lease(self, kube: FakeKube, identity: str) -> Lease:
        return Lease(kube, "system", "operator", identity, asyncio.get_running_loop().time)

    def test_the_first_takes_it_and_the_second_waits_until_it_runs_out(
        self, kube: FakeKube, in_virtual_time: InVirtualTime
    ) -> None:
        async def scenario() -> list[tuple[float, bool]]:
            first, second = self.lease(kube, "one"), self.lease(kube, "two")
            assert await first.take()
            answers = []
            for _ in range(10):
                answers.append((asyncio.get_running_loop().time(), await second.take()))
                await asyncio.sleep(2)
            return answers

        answers = in_virtual_time(scenario())

        assert [taken for when, taken in answers if when < DURATION_SECONDS] == [False] * 8
        assert [taken for when, taken in answers if when >= DURATION_SECONDS] == [True] * 2

    def test_a_holder_that_renews_keeps_it(self, kube: FakeKube, in_virtual_time: InVirtualTime) -> None:
        async def scenario() -> list[bool]:
            first, second = self.lease(kube, "one"), self.lease(kube, "two")
            answers = []
            for _ in range(20):
                assert await first.take()
                answers.append(await second.take())
                await asyncio.sleep(2)
            return answers

        assert not any(in_virtual_time(scenario()))

    def test_what_was_given_up_is_free_at_once(self, kube: FakeKube, in_virtual_time: InVirtualTime) -> None:
        async def scenario() -> bool:
            first, second = self.lease(kube, "one"), self.lease(kube, "two")
            await first.take()
            await first.give_up()
            return await second.take()

        assert in_virtual_time(scenario())

    def test_work_ends_when_leadership_is_lost(self, kube: FakeKube, in_virtual_time: InVirtualTime) -> None:
        """The API server does not answer: others may take over, so this one must stop in time."""
        stopped: list[float] = []

        async def scenario() -> bool:
            loop = asyncio.get_running_loop()

            async def work() -> None:
                try:
                    await asyncio.sleep(1000)
                finally:
                    stopped.append(loop.time())

            loop.call_later(20, kube.failing.update, {"get Lease": KubeError("no answer")})
            return await lead(self.lease(kube, "one"), work, loop.time, lambda: None)

        assert in_virtual_time(scenario()) is False
        assert 20 < stopped[0] < 20 + DURATION_SECONDS

    @pytest.mark.parametrize("call", ["get", "replace"])
    def test_a_call_that_hangs_does_not_keep_a_lost_leader_at_work(
        self, call: str, kube: FakeKube, in_virtual_time: InVirtualTime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The API server's address swallows requests: each takes until its own timeout, later than others take over."""
        stopped: list[float] = []

        async def scenario() -> bool:
            loop = asyncio.get_running_loop()

            async def work() -> None:
                try:
                    await asyncio.sleep(1000)
                finally:
                    stopped.append(loop.time())

            async def hang(*_: Any) -> None:
                await asyncio.sleep(TIMEOUT_SECONDS)
                raise KubeError("no answer")

            loop.call_later(20, monkeypatch.setattr, kube, call, hang)
            return await lead(self.lease(kube, "one"), work, loop.time, lambda: None)

        assert in_virtual_time(scenario()) is False
        assert 20 < stopped[0] < 20 + DURATION_SECONDS

    def test_work_that_ends_gives_the_lease_up(self, kube: FakeKube, in_virtual_time: InVirtualTime) -> None:
        async def scenario() -> bool:
            async def work() -> None:
                await asyncio.sleep(1)

            return await lead(self.lease(kube, "one"), work, asyncio.get_running_loop().time, lambda: None)

        assert in_virtual_time(scenario()) is True
        assert kube.objects[ChildKey("Lease", "operator")]["spec"]["holderIdentity"] == ""

    def test_who_waits_says_so_and_who_leads_does_not(self, kube: FakeKube, in_virtual_time: InVirtualTime) -> None:
        async def scenario() -> list[str]:
            loop = asyncio.get_running_loop()
            said: list[str] = []

            def worker(name: str) -> Any:
                async def work() -> None:
                    said.append(f"{name} works")
                    await asyncio.sleep(30)

                return lead(self.lease(kube, name), work, loop.time, lambda: said.append(f"{name} waits"))

            await asyncio.gather(worker("one"), worker("two"))
            return said

        assert in_virtual_time(scenario()) == ["two waits", "one works", "two works"]
