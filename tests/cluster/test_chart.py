"""The chart, rendered by the pinned helm and judged by a real API server."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmserving_lab.cluster.embedded import EmbeddedCluster
from llmserving_lab.cluster.tools import Toolchain
from llmserving_lab.demo.prometheus import UNTRUSTED

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "llmserving"

Render = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def helm() -> Path:
    return Toolchain().find(["helm"])["helm"]


@pytest.fixture(scope="module")
def render(helm: Path) -> Render:
    """The chart's objects with some values set."""

    def rendered(*values: str) -> list[dict[str, Any]]:
        settings = [f"--set={value}" for value in values]
        command = [helm, "template", "llmserving", CHART, "--namespace=serving", *settings]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        assert finished.returncode == 0, finished.stderr
        return [document for document in yaml.safe_load_all(finished.stdout) if document]

    return rendered


def kinds(documents: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return sorted((d["kind"], d["metadata"].get("namespace", "")) for d in documents)


def test_helm_finds_nothing_to_complain_of(helm: Path) -> None:
    finished = subprocess.run([helm, "lint", "--strict", CHART], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("operator.templatePolicy=Open", "value must be one of 'Restricted', 'Unrestricted'"),
        ("operator.replica=2", "additional properties 'replica' not allowed"),
        ("serviceAccount.create=false", "serviceAccount.name is needed when serviceAccount.create is false"),
    ],
)
def test_bad_values_are_refused_with_words(helm: Path, value: str, says: str) -> None:
    command = [helm, "template", "llmserving", CHART, f"--set={value}"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode != 0
    assert says in finished.stderr


def test_watching_some_namespaces_needs_no_right_in_others(render: Render) -> None:
    documents = render("operator.watchNamespaces={a,b}", "rbac.userRoles=false")
    found = kinds(documents)
    assert not [kind for kind, _ in found if kind.startswith("ClusterRole")]
    assert [namespace for kind, namespace in found if kind == "RoleBinding"] == ["a", "b", "serving"]
    deployment = next(d for d in documents if d["kind"] == "Deployment")
    environment = {e["name"]: e.get("value") for e in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert environment["LLMSERVING_OPERATOR_NAMESPACES"] == "a,b"


def test_the_crd_can_be_left_out_or_left_behind(render: Render) -> None:
    assert "CustomResourceDefinition" not in dict(kinds(render("crds.install=false")))
    for value, kept in (("crds.keep=true", "keep"), ("crds.keep=false", None)):
        crd = next(d for d in render(value) if d["kind"] == "CustomResourceDefinition")
        assert (crd["metadata"].get("annotations") or {}).get("helm.sh/resource-policy") == kept


def test_images_can_be_pinned_by_digest(render: Render) -> None:
    digest = "sha256:" + "0" * 64
    deployment = next(d for d in render(f"operator.image.digest={digest}") if d["kind"] == "Deployment")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == f"llmserving/operator@{digest}"


def test_monitors_are_opt_in_and_name_the_resource(render: Render) -> None:
    assert "PodMonitor" not in dict(kinds(render()))
    monitors = [d for d in render("podMonitor.enabled=true") if d["kind"] == "PodMonitor"]
    engines = next(d for d in monitors if d["metadata"]["name"].endswith("engines"))
    for endpoint in engines["spec"]["podMetricsEndpoints"]:
        assert endpoint["relabelings"][0]["targetLabel"] == "name"


def test_no_pod_of_a_tenant_can_speak_for_another_namespace(render: Render) -> None:
    """What these settings do, a real Prometheus shows in test_promql.py."""
    monitors = [d for d in render("podMonitor.enabled=true") if d["kind"] == "PodMonitor"]
    engines = next(d for d in monitors if d["metadata"]["name"].endswith("engines"))
    for endpoint in engines["spec"]["podMetricsEndpoints"]:
        assert endpoint.get("honorLabels", False) is UNTRUSTED["honor_labels"]
    agent = next(e for e in engines["spec"]["podMetricsEndpoints"] if e["port"] == "agent")
    assert agent["metricRelabelings"] == UNTRUSTED["metric_relabel_configs"]


def test_alerts_are_opt_in_and_not_rendered_as_templates(render: Render) -> None:
    assert "PrometheusRule" not in dict(kinds(render()))
    rule = next(d for d in render("prometheusRule.enabled=true") if d["kind"] == "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((ROOT / "observability" / "rules" / "llmserving.yaml").read_text())


@pytest.mark.parametrize("slash", ["", "/"])
def test_alerts_lead_to_the_runbook_where_it_is_kept(render: Render, slash: str) -> None:
    base = "https://example.org/llmserving/blob/main"
    values = ("prometheusRule.enabled=true", f"prometheusRule.runbookBase={base}{slash}")
    rule = next(d for d in render(*values) if d["kind"] == "PrometheusRule")
    for alert in rule["spec"]["groups"][0]["rules"]:
        assert alert["annotations"]["runbook_url"] == f"{base}/docs/runbook.md#{alert['alert'].lower()}"


def test_the_api_server_takes_every_object(render: Render, control_plane: EmbeddedCluster) -> None:
    control_plane.kubectl("create", "namespace", "serving")
    documents = render("podDisruptionBudget.enabled=true", "networkPolicy.metricsFrom[0].podSelector.matchLabels.a=b")
    control_plane.kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump_all(documents))


def test_the_install_manifest_installs_twice_without_a_change(control_plane: EmbeddedCluster) -> None:
    manifest = str(ROOT / "manifests" / "install.yaml")
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", manifest)
    before = control_plane.kubectl("get", "deploy,cm,sa,netpol,role", "-n", "llmserving-system", "-o", "name")
    generation = "jsonpath={.metadata.generation}"
    first = control_plane.kubectl("get", "deploy/llmserving-operator", "-n", "llmserving-system", "-o", generation)
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", manifest)
    second = control_plane.kubectl("get", "deploy/llmserving-operator", "-n", "llmserving-system", "-o", generation)
    assert first == second
    assert "deployment.apps/llmserving-operator" in before


def test_the_operators_account_can_do_what_it_needs_and_no_more(control_plane: EmbeddedCluster) -> None:
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "manifests" / "install.yaml"))

    def may(verb: str, group: str, resource: str, subresource: str = "") -> bool:
        attributes = {"verb": verb, "group": group, "resource": resource, "subresource": subresource}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": "system:serviceaccount:llmserving-system:llmserving-operator",
                "resourceAttributes": {**attributes, "namespace": "default"},
            },
        }
        stdin = yaml.safe_dump(review)
        return control_plane.kubectl("create", "-o", "jsonpath={.status.allowed}", "-f", "-", stdin=stdin) == "true"

    assert may("patch", "llmserving.io", "llmservings", "status")
    assert may("create", "apps", "deployments")
    assert not may("patch", "llmserving.io", "llmservings")
    assert not may("get", "", "secrets")
    assert not may("create", "", "pods")
    assert not may("create", "", "pods", "exec")
    assert may("delete", "apps", "controllerrevisions")
    for group, resource in (("apps", "deployments"), ("", "services"), ("", "configmaps"), ("", "pods")):
        assert not may("delete", group, resource)
