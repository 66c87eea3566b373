"""Every metric of the operator; names and help come from ``llmserving_api.series``."""

from collections.abc import Container, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from llmserving_api import series
from llmserving_api.conditions import ConditionType
from llmserving_api.v1alpha1 import LLMServingStatus

RECONCILE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15)
DELIVERY_BUCKETS = (0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60)
STATUSES = ("True", "False", "Unknown")
RESULTS = ("changed", "unchanged", "failed")


class Metrics:
    """The operator's metrics on a registry of their own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._reconciles = Counter(
            series.OPERATOR_RECONCILES.name.removesuffix("_total"),
            series.OPERATOR_RECONCILES.help,
            series.OPERATOR_RECONCILES.labels,
            registry=registry,
        )
        self.seconds = Histogram(
            series.OPERATOR_RECONCILE_SECONDS.name,
            series.OPERATOR_RECONCILE_SECONDS.help,
            series.OPERATOR_RECONCILE_SECONDS.labels,
            buckets=RECONCILE_BUCKETS,
            registry=registry,
        )
        self._condition = Gauge(
            series.OPERATOR_CONDITION.name,
            series.OPERATOR_CONDITION.help,
            series.OPERATOR_CONDITION.labels,
            registry=registry,
        )
        self.delivery = Histogram(
            series.OPERATOR_POLICY_DELIVERY_SECONDS.name,
            series.OPERATOR_POLICY_DELIVERY_SECONDS.help,
            buckets=DELIVERY_BUCKETS,
            registry=registry,
        )
        self._forbidden = Gauge(
            series.OPERATOR_NAMESPACE_FORBIDDEN.name,
            series.OPERATOR_NAMESPACE_FORBIDDEN.help,
            series.OPERATOR_NAMESPACE_FORBIDDEN.labels,
            registry=registry,
        )
        for result in RESULTS:
            self._reconciles.labels(result)

    def begin(self, namespaces: Iterable[str], forbidden: Container[str]) -> None:
        """The watches begin: nothing is known of any resource; some of the namespaces may not be read."""
        self._condition.clear()
        for namespace in namespaces:
            self._forbidden.labels(namespace).set(namespace in forbidden)

    def count_reconcile(self, result: str) -> None:
        """One reconcile with its result: changed, unchanged, failed."""
        self._reconciles.labels(result).inc()

    def show_conditions(self, namespace: str, name: str, status: LLMServingStatus) -> None:
        """Conditions of a resource as they are now."""
        for condition in status.conditions:
            for value in STATUSES:
                self._condition.labels(namespace, name, condition.type, value).set(condition.status == value)

    def forget(self, namespace: str, name: str) -> None:
        """A resource is gone."""
        for kind in ConditionType:
            for value in STATUSES:
                self._condition.remove(namespace, name, kind, value)
