"""Alerts name series that exist, say how bad it is, and lead to a section of the runbook."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmserving_api import series
from llmserving_api.conditions import ConditionType

ROOT = Path(__file__).parents[3]
ALERTS = yaml.safe_load((ROOT / "observability" / "rules" / "llmserving.yaml").read_text())["groups"][0]["rules"]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
KNOWN = {definition.name: definition for definition in series.ALL}

each = pytest.mark.parametrize("alert", ALERTS, ids=[alert["alert"] for alert in ALERTS])


@each
def test_series_and_labels_exist(alert: dict[str, Any]) -> None:
    found = re.findall(r"(llmserving_[a-z_]+)(?:\{([^}]*)\})?", alert["expr"])
    assert found
    for name, matchers in found:
        assert set(re.findall(r"(\w+)=", matchers)) <= set(KNOWN[name].labels)
    for kind in re.findall(r'type="(\w+)"', alert["expr"]):
        assert kind in set(ConditionType)


@each
def test_every_alert_waits_and_has_a_severity(alert: dict[str, Any]) -> None:
    assert alert["alert"].startswith("LLMServing")
    assert alert["labels"]["severity"] in {"warning", "critical"}
    assert alert["for"].endswith("m")


@each
def test_every_alert_leads_to_its_section_of_the_runbook(alert: dict[str, Any]) -> None:
    assert alert["annotations"]["runbook_url"] == f"docs/runbook.md#{alert['alert'].lower()}"
    section = RUNBOOK.partition(f"## {alert['alert']}\n")[2].partition("\n## ")[0]
    for part in ("**Impact.**", "**Look.**", "**Do.**"):
        assert part in section


def test_the_runbook_has_no_section_without_an_alert() -> None:
    assert re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE) == [alert["alert"] for alert in ALERTS]


def test_latency_thresholds_come_from_the_resource() -> None:
    missed = next(alert for alert in ALERTS if alert["alert"] == "LLMServingTargetMissed")
    assert {series.MISSES.name, series.MISSES_ALLOWED.name} == set(re.findall(r"llmserving_[a-z_]+", missed["expr"]))
    assert missed["expr"].split()[-2:] == [">", "1"]
