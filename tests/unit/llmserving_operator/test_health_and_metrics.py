import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from llmserving_api import series
from llmserving_api.conditions import ConditionType
from llmserving_api.v1alpha1 import LLMServingStatus
from llmserving_operator.conditions import Verdict, set_conditions
from llmserving_operator.errors import SettingsError
from llmserving_operator.health import serve_health
from llmserving_operator.metrics import Metrics

NOW = "2026-01-01T00:00:00Z"


async def test_ready_only_once_the_watches_are_filled(unused_tcp_port: int) -> None:
    filled = False
    async with (
        serve_health("127.0.0.1", unused_tcp_port, CollectorRegistry(), lambda: filled),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{unused_tcp_port}") as client,
    ):
        before = await client.get("/readyz")
        filled = True
        after = await client.get("/readyz")

        assert (before.status_code, after.status_code) == (503, 200)
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/metrics")).headers["Content-Type"].startswith("text/plain")


async def test_where_it_cannot_listen_the_variables_are_named(unused_tcp_port: int) -> None:
    registry = CollectorRegistry()
    async with serve_health("127.0.0.1", unused_tcp_port, registry, lambda: True):
        for bind in ("127.0.0.1", "300.1.1.1"):
            words = f"LLMSERVING_OPERATOR_BIND={bind}, LLMSERVING_OPERATOR_PORT={unused_tcp_port}: cannot listen there"
            with pytest.raises(SettingsError, match=words):
                async with serve_health(bind, unused_tcp_port, registry, lambda: True):
                    pass


def status(ready: bool) -> LLMServingStatus:
    return LLMServingStatus(conditions=set_conditions((), {ConditionType.READY: Verdict(ready, "x")}, 1, NOW))


def test_every_series_of_the_operator_is_exported_under_its_name() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.begin(["prod"], {"prod"})
    metrics.count_reconcile("changed")
    metrics.seconds.labels("plan").observe(0.1)
    metrics.delivery.observe(0.5)
    metrics.show_conditions("prod", "chat", status(True))
    text = generate_latest(registry).decode()

    for known in series.ALL:
        if known.name.startswith("llmserving_operator_"):
            assert f"# TYPE {known.name.removesuffix('_total')}" in text
            assert all(f"{label}=" in text for label in known.labels)


def test_a_condition_has_one_status_and_goes_with_its_resource() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)

    def value(word: str) -> float | None:
        labels = {"namespace": "prod", "name": "chat", "type": "Ready", "status": word}
        return registry.get_sample_value(series.OPERATOR_CONDITION.name, labels)

    metrics.show_conditions("prod", "chat", status(True))
    metrics.show_conditions("prod", "chat", status(False))
    assert (value("True"), value("False"), value("Unknown")) == (0.0, 1.0, 0.0)

    metrics.forget("prod", "chat")
    assert value("False") is None
