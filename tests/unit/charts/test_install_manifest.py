"""What manifests/install.yaml, the rendered chart, installs: least rights, restricted pods, nothing forgotten."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from llmserving_api import names
from llmserving_operator.handlers import CHILD_RESOURCES
from llmserving_operator.settings import PREFIX, read_settings

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts" / "llmserving"
DOCUMENTS = [d for d in yaml.safe_load_all((ROOT / "manifests" / "install.yaml").read_text()) if d]
OURS = "llmserving-operator"


def one(kind: str, name: str | None = None) -> dict[str, Any]:
    found = [d for d in DOCUMENTS if d["kind"] == kind and name in (None, d["metadata"]["name"])]
    assert len(found) == 1, [d["metadata"]["name"] for d in found]
    return found[0]


def pod() -> dict[str, Any]:
    return dict(one("Deployment")["spec"]["template"]["spec"])


def rights(role: dict[str, Any]) -> dict[str, set[str]]:
    """Verbs by group/resource."""
    return {
        f"{group}/{resource}": set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def test_the_operator_has_these_rights_and_no_others() -> None:
    child = {"get", "list", "watch", "create", "patch"}
    assert rights(one("ClusterRole", OURS)) == {
        "llmserving.io/llmservings": {"get", "list", "watch"},
        "llmserving.io/llmservings/status": {"get", "patch"},
        "/pods": {"get", "list", "watch", "patch"},
        "/events": {"create"},
        **{f"{group}/{plural}": child for group, _version, plural, _kind in CHILD_RESOURCES},
        "apps/controllerrevisions": {*child, "delete"},
    }


def test_the_lease_is_the_only_right_in_its_own_namespace() -> None:
    role = one("Role")
    assert role["metadata"]["namespace"] == "llmserving-system"
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"create", "get", "update"}
    held = next(rule for rule in role["rules"] if "get" in rule["verbs"])
    lease = next(e["value"] for e in pod()["containers"][0]["env"] if e["name"] == f"{PREFIX}LEASE_NAME")
    assert held["resourceNames"] == [lease]


def test_nothing_is_granted_by_wildcard_nor_any_secret() -> None:
    for document in DOCUMENTS:
        for rule in document.get("rules", ()):
            assert "*" not in (*rule["verbs"], *rule["resources"], *rule["apiGroups"])
            assert "secrets" not in rule["resources"]


def test_people_gain_rights_by_the_built_in_roles() -> None:
    view, edit = one("ClusterRole", f"{OURS}-view"), one("ClusterRole", f"{OURS}-edit")
    assert view["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] == "true"
    assert {verb for rule in view["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert edit["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-edit"] == "true"
    assert "patch" in rights(edit)["llmserving.io/llmservings/scale"]


def test_the_pod_is_restricted_as_its_namespace_demands() -> None:
    assert one("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert pod()["securityContext"]["runAsUser"] == names.AGENT_UID
    assert pod()["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod()["containers"]:
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}
    assert all(set(volume) <= {"name", "emptyDir"} for volume in pod()["volumes"])


def test_the_operator_understands_its_environment() -> None:
    environment = {e["name"]: e.get("value", "llmserving-system") for e in pod()["containers"][0]["env"]}
    assert all(name.startswith(PREFIX) for name in environment)
    settings = read_settings(environment)
    assert settings.agent_image == "llmserving/agent:0.1.0"
    assert settings.namespaces == ()
    assert settings == read_settings(
        {
            f"{PREFIX}AGENT_IMAGE": settings.agent_image,
            f"{PREFIX}LEASE_NAMESPACE": settings.lease_namespace,
            f"{PREFIX}IDENTITY": settings.identity,
        }
    ), "the chart's defaults are the operator's"
    assert settings.lease_namespace == "llmserving-system"


def test_probes_and_policy_agree_on_the_port() -> None:
    container = pod()["containers"][0]
    port = container["ports"][0]
    assert port["containerPort"] == names.PORT_OPERATOR
    assert container["livenessProbe"]["httpGet"]["port"] == port["name"]
    assert container["readinessProbe"]["httpGet"]["port"] == port["name"]
    assert one("NetworkPolicy")["spec"]["ingress"][0]["ports"] == [{"port": port["name"]}]


def test_selectors_find_the_operator() -> None:
    labels = one("Deployment")["spec"]["template"]["metadata"]["labels"]
    for selector in (
        one("Deployment")["spec"]["selector"]["matchLabels"],
        one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()


def test_the_crd_is_the_generated_one() -> None:
    installed = one("CustomResourceDefinition")
    generated = yaml.safe_load((ROOT / "crds" / "llmservings.yaml").read_text())
    assert installed["spec"] == generated["spec"]
    assert installed["metadata"]["name"] == generated["metadata"]["name"]


def test_the_boards_are_shipped_and_labelled_for_grafana() -> None:
    boards = one("ConfigMap")
    assert boards["metadata"]["labels"]["grafana_dashboard"] == "1"
    for name, text in boards["data"].items():
        assert json.loads(text) == json.loads((CHART / "files" / "dashboards" / name).read_text())


def test_every_object_is_the_charts_and_lives_in_its_namespace() -> None:
    for document in DOCUMENTS:
        if document["kind"] in {"Namespace", "CustomResourceDefinition"}:
            continue
        assert document["metadata"]["labels"]["app.kubernetes.io/part-of"] == "llmserving"
        if not document["kind"].startswith("Cluster"):
            assert document["metadata"]["namespace"] == "llmserving-system"


VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def leaves(schema: dict[str, Any], path: str = "") -> list[str]:
    found = []
    for name, value in schema.get("properties", {}).items():
        inner = f"{path}.{name}".lstrip(".")
        found += leaves(value, inner) if "properties" in value else [inner]
    return found


def test_the_default_values_keep_their_schema() -> None:
    jsonschema.validate(VALUES, SCHEMA)


@pytest.mark.parametrize("path", [path for path in leaves(SCHEMA) if path != "global"])
def test_every_value_of_the_schema_has_a_default(path: str) -> None:
    value = VALUES
    for part in path.split("."):
        assert part in value
        value = value[part]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("operator.templatePolicy", "Open"),
        ("operator.replicas", 0),
        ("operator.watchNamespaces", ["UPPER"]),
        ("operator.image.digest", "sha256:123"),
        ("agent.resources.memory", "much"),
        ("podMonitor.interval", "5"),
        ("operator.logLevel", "loud"),
        ("prometheusRule.runbookBase", "docs"),
    ],
)
def test_bad_values_are_refused(path: str, value: Any) -> None:
    values = json.loads(json.dumps(VALUES))
    *parents, last = path.split(".")
    place = values
    for part in parents:
        place = place[part]
    place[last] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, SCHEMA)
