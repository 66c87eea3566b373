"""Which pod was given which policy when, and whether its agent has taken it."""

from collections.abc import Iterable, Mapping
from typing import Final

from llmserving_operator.observe import Delivery, Pod, Report
from llmserving_operator.plan import Deliver

GIVE_UP_SECONDS: Final = 120.0
"""An edit that some agent has not taken after this long is no longer waited for."""


class DeliveryLog:
    """The deliveries of one resource.

    Attributes:
        entries: the last delivery to each pod, by pod uid.
        pending: an edit is on its way: not every agent has said that it acts on it.
    """

    def __init__(self) -> None:
        self.entries: dict[str, Delivery] = {}
        self.pending = False
        self._revision: int | None = None
        self._since = 0.0

    def note(self, revision: int, pods: Iterable[Pod], delivered: Iterable[Deliver], now: float) -> None:
        """Remember what was patched at ``now``.

        The revision that is met first, after a restart of the operator, counts as delivered before.
        """
        if revision != self._revision:
            self.pending = self._revision is not None
            self._revision, self._since = revision, now
        kept = {pod.uid: self.entries.get(pod.uid) or Delivery(revision, now, 0) for pod in pods}
        patched = {step.uid: Delivery(revision, now, step.attempt) for step in delivered}
        self.entries = {**kept, **{uid: entry for uid, entry in patched.items() if uid in kept}}

    def settle(self, pods: Iterable[Pod], reports: Mapping[str, Report], now: float) -> float | None:
        """Seconds from seeing the edit to hearing of it from the last agent, once; None before and after."""
        if not self.pending or self._revision is None:
            return None
        live = [reports.get(pod.uid) for pod in pods if pod.running and not pod.terminating]
        taken = [report is not None and _has_taken(report, self._revision) for report in live]
        if taken and all(taken):
            self.pending = False
            return now - self._since
        if not taken or now - self._since > GIVE_UP_SECONDS:
            self.pending = False
        return None


def _has_taken(report: Report, revision: int) -> bool:
    return report.status is not None and (report.status.policy_revision or 0) >= revision
