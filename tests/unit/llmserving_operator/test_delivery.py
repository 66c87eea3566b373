from collections.abc import Callable

from llmserving_api.status import AgentStatus
from llmserving_operator.delivery import GIVE_UP_SECONDS, DeliveryLog
from llmserving_operator.observe import Delivery, Pod, Report
from llmserving_operator.plan import Deliver

MakePod = Callable[..., Pod]
MakeAgent = Callable[..., AgentStatus]


def test_the_first_revision_after_a_start_is_not_waited_for(make_pod: MakePod) -> None:
    log = DeliveryLog()
    log.note(7, (make_pod("a"),), (), 10.0)

    assert not log.pending
    assert log.entries == {"uid-a": Delivery(7, 10.0, 0)}


def test_an_edit_is_pending_until_every_agent_has_taken_it(make_pod: MakePod, make_agent: MakeAgent) -> None:
    pods = (make_pod("a"), make_pod("b"))
    log = DeliveryLog()
    log.note(7, pods, (), 0.0)
    log.note(8, pods, [Deliver("a", "uid-a", "{}", 0), Deliver("b", "uid-b", "{}", 0)], 10.0)
    old, new = Report(make_agent(policy_revision=7)), Report(make_agent(policy_revision=8))

    assert log.pending
    assert log.settle(pods, {"uid-a": new, "uid-b": old}, 10.5) is None
    assert log.settle(pods, {"uid-a": new, "uid-b": new}, 11.5) == 1.5
    assert not log.pending
    assert log.settle(pods, {"uid-a": new, "uid-b": new}, 12.0) is None


def test_an_agent_that_never_takes_it_is_given_up(make_pod: MakePod) -> None:
    pods = (make_pod("a"),)
    log = DeliveryLog()
    log.note(7, pods, (), 0.0)
    log.note(8, pods, (), 0.0)

    assert log.settle(pods, {"uid-a": Report(None, "no answer")}, GIVE_UP_SECONDS + 1) is None
    assert not log.pending


def test_without_running_pods_nothing_is_waited_for(make_pod: MakePod) -> None:
    log = DeliveryLog()
    log.note(7, (), (), 0.0)
    log.note(8, (), (), 1.0)

    assert log.settle((make_pod("a", running=False),), {}, 2.0) is None
    assert not log.pending


def test_pods_that_are_gone_are_forgotten(make_pod: MakePod) -> None:
    log = DeliveryLog()
    log.note(7, (make_pod("a"), make_pod("b")), (), 0.0)
    log.note(7, (make_pod("b"),), (), 1.0)

    assert log.entries.keys() == {"uid-b"}
