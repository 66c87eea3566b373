"""The CRD on a real API server: CEL compiled and within its cost budget, each resource of a table judged."""

import time
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from llmserving_api.names import GROUP, PLURAL, VERSION
from llmserving_api.policy import DEFAULT_LAW
from llmserving_api.v1alpha1 import LLMServingSpec
from llmserving_lab.cluster.embedded import EmbeddedCluster

ROOT = Path(__file__).parents[2]
TABLE = yaml.safe_load((ROOT / "tests" / "golden" / "resources.yaml").read_text())
NAMESPACE = "crd-rules"
SAMPLES = sorted((ROOT / "manifests" / "samples").glob("*.yaml"))


@pytest.fixture(scope="module")
def resources(control_plane: EmbeddedCluster) -> client.CustomObjectsApi:
    """A client for LLMServings; applying the CRD at all shows that every rule compiles within the cost budget."""
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds" / "llmservings.yaml"))
    established = 'jsonpath={.status.conditions[?(@.type=="Established")].status}=True'
    control_plane.kubectl("wait", f"--for={established}", f"crd/{PLURAL}.{GROUP}", "--timeout=30s")
    control_plane.kubectl("create", "namespace", NAMESPACE)
    return client.CustomObjectsApi(config.new_client_from_config(str(control_plane.kubeconfig)))


def merge(base: Any, change: Any) -> Any:
    """JSON merge patch: null removes."""
    if not isinstance(change, dict) or not isinstance(base, dict):
        return change
    merged = {**base, **{key: merge(base.get(key, {}), value) for key, value in change.items()}}
    return {key: value for key, value in merged.items() if change.get(key, ...) is not None}


def refusal(resources: client.CustomObjectsApi, resource: dict[str, Any]) -> str | None:
    """What the API server says to a resource; None when it takes it. Nothing is stored."""
    try:
        resources.create_namespaced_custom_object(GROUP, VERSION, NAMESPACE, PLURAL, resource, dry_run="All")
    except ApiException as error:
        if error.status != HTTPStatus.UNPROCESSABLE_ENTITY:
            raise
        return str(error.body)
    return None


@pytest.mark.parametrize("name", TABLE["cases"])
def test_the_api_server_judges_each_resource(resources: client.CustomObjectsApi, name: str) -> None:
    case = TABLE["cases"][name]
    said = refusal(resources, merge(TABLE["base"], case["change"]))
    if "message" not in case:
        assert said is None
    else:
        assert said is not None, "it was accepted"
        assert case["message"] in yaml.safe_load(said)["message"]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_samples_are_good(resources: client.CustomObjectsApi, sample: Path) -> None:
    for resource in yaml.safe_load_all(sample.read_text()):
        assert refusal(resources, resource) is None


def test_an_edit_of_the_sla_is_judged_too(resources: client.CustomObjectsApi, control_plane: EmbeddedCluster) -> None:
    resource = merge(TABLE["base"], {"metadata": {"name": "edited"}, "spec": {"sla": {"window": "1m"}}})
    resources.create_namespaced_custom_object(GROUP, VERSION, NAMESPACE, PLURAL, resource)
    try:
        bad = {"spec": {"sla": {"interTokenLatency": {"target": "fast"}}}}
        with pytest.raises(ApiException, match="write a duration from 1ms to 15m"):
            resources.patch_namespaced_custom_object(GROUP, VERSION, NAMESPACE, PLURAL, "edited", bad)
        assert "1m" in control_plane.kubectl(
            "get", PLURAL, "--namespace", NAMESPACE, "edited", "-o", "jsonpath={.spec.sla}"
        )
    finally:
        resources.delete_namespaced_custom_object(GROUP, VERSION, NAMESPACE, PLURAL, "edited")


def test_defaults_are_those_of_the_models(resources: client.CustomObjectsApi) -> None:
    stored = resources.create_namespaced_custom_object(GROUP, VERSION, NAMESPACE, PLURAL, TABLE["base"], dry_run="All")
    assert stored["spec"] == LLMServingSpec.model_validate(TABLE["base"]["spec"]).manifest()


def crd_with_default(policy: str) -> dict[str, Any]:
    """The CRD as it is or was, with this default of `batching.policy`."""
    crd: dict[str, Any] = yaml.safe_load((ROOT / "crds" / "llmservings.yaml").read_text())
    (version,) = crd["spec"]["versions"]
    batching = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["batching"]
    batching["default"]["policy"] = batching["properties"]["policy"]["default"] = policy
    return crd


def test_an_upgrade_leaves_stored_resources_the_policy_they_had_until_it_is_taken_out(
    resources: client.CustomObjectsApi, control_plane: EmbeddedCluster, tmp_path: Path
) -> None:
    crd, manifest = tmp_path / "crd.yaml", tmp_path / "stored.yaml"
    manifest.write_text(yaml.safe_dump(merge(TABLE["base"], {"metadata": {"name": "stored", "namespace": NAMESPACE}})))

    def install(policy: str) -> None:
        crd.write_text(yaml.safe_dump(crd_with_default(policy)))
        control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(crd))
        for _ in range(100):  # the API server takes a new schema a moment later
            new = resources.create_namespaced_custom_object(
                GROUP, VERSION, NAMESPACE, PLURAL, TABLE["base"], dry_run="All"
            )
            if new["spec"]["batching"]["policy"] == policy:
                return
            time.sleep(0.1)
        pytest.fail(f"{policy} did not become the default")

    def policy() -> str:
        stored = resources.get_namespaced_custom_object(GROUP, VERSION, NAMESPACE, PLURAL, "stored")
        return str(stored["spec"]["batching"]["policy"])

    install("MemorySLA")
    try:
        control_plane.kubectl("apply", "-f", str(manifest))
        install(DEFAULT_LAW.value)
        assert policy() == "MemorySLA"
        control_plane.kubectl("apply", "-f", str(manifest))
        assert policy() == "MemorySLA"
        take_out = '{"spec": {"batching": {"policy": null}}}'
        control_plane.kubectl("patch", PLURAL, "stored", "-n", NAMESPACE, "--type=merge", f"--patch={take_out}")
        assert policy() == DEFAULT_LAW.value
    finally:
        install(DEFAULT_LAW.value)
        resources.delete_namespaced_custom_object(GROUP, VERSION, NAMESPACE, PLURAL, "stored")


def test_kubectl_scale_moves_replicas(resources: client.CustomObjectsApi, control_plane: EmbeddedCluster) -> None:
    resource = merge(TABLE["base"], {"metadata": {"name": "scaled"}})
    resources.create_namespaced_custom_object(GROUP, VERSION, NAMESPACE, PLURAL, resource)
    try:
        control_plane.kubectl("scale", "--namespace", NAMESPACE, f"{PLURAL}/scaled", "--replicas=3")
        assert (
            control_plane.kubectl("get", PLURAL, "--namespace", NAMESPACE, "scaled", "-o", "jsonpath={.spec.replicas}")
            == "3"
        )
        with pytest.raises(Exception, match="greater than or equal to 1"):
            control_plane.kubectl("scale", "--namespace", NAMESPACE, f"{PLURAL}/scaled", "--replicas=0")
    finally:
        resources.delete_namespaced_custom_object(GROUP, VERSION, NAMESPACE, PLURAL, "scaled")


def test_the_largest_resource_is_judged_within_the_cost_budget(resources: client.CustomObjectsApi) -> None:
    flag = "--f" + "x" * 1021
    peer = {"podSelector": {"matchLabels": {f"label-{n}": "v" * 63 for n in range(32)}}}
    change = {
        "spec": {
            "engine": {
                "args": [flag] * 64,
                "env": [{"name": f"{'N' * 120}_{n}", "value": "v" * 4096} for n in range(64)],
                "resources": {
                    "limits": {f"example.com/{'r' * 40}-{n}": 2 for n in range(32)},
                    "requests": {f"example.com/{'r' * 40}-{n}": 1 for n in range(32)},
                },
            },
            "networkPolicy": {"allowFrom": [peer] * 32},
        }
    }
    assert refusal(resources, merge(TABLE["base"], change)) is None
