"""The rendered pods of typical resources, against golden files (``LLMSERVING_UPDATE_GOLDEN=1`` writes them anew)."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmserving_api.v1alpha1 import LLMServingSpec
from llmserving_operator.children.arguments import build_arguments, model_argument
from llmserving_operator.children.identity import Identity, Manifest
from llmserving_operator.children.template import render_template
from llmserving_operator.observe import Observation
from llmserving_operator.plan import Apply, make_plan
from llmserving_operator.settings import Settings

GOLDEN = Path(__file__).parents[2] / "golden" / "operator"

RESOURCES: dict[str, dict[str, Any]] = {
    "default": {},
    "non-root": {"template": {"spec": {"securityContext": {"runAsUser": 1000, "runAsNonRoot": True}}}},
    "api-key": {
        "model": {"uri": "hf://meta-llama/Llama-3.1-8B-Instruct", "name": "llama", "tokenSecretRef": {"name": "hub"}},
        "engine": {
            "image": "vllm/vllm-openai:v0.32.0",
            "args": ["--max-model-len=8192"],
            "apiKeySecretRef": {"name": "key", "key": "key"},
        },
        "networkPolicy": {"allowFrom": [{"podSelector": {"matchLabels": {"app": "gateway"}}}]},
    },
    "template-override": {
        "model": {"uri": "pvc://models/qwen"},
        "template": {
            "metadata": {"labels": {"team": "search"}},
            "spec": {
                "nodeSelector": {"gpu": "h100"},
                "containers": [{"name": "engine", "env": [{"name": "VLLM_LOGGING_LEVEL", "value": "DEBUG"}]}],
            },
        },
    },
}


class PlainDumper(yaml.SafeDumper):
    """Without anchors, and with text of several lines as such."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


PlainDumper.add_representer(str, _text)


@pytest.mark.parametrize("name", RESOURCES)
def test_objects_are_the_golden_ones(
    name: str,
    owner: Identity,
    settings: Settings,
    make_spec: Callable[..., LLMServingSpec],
    make_observation: Callable[..., Observation],
) -> None:
    plan = make_plan(owner, make_spec(**RESOURCES[name]), make_observation(), settings, now=0.0)
    objects = [step.manifest for stage in plan.stages for step in stage if isinstance(step, Apply)]
    found = yaml.dump_all(objects, Dumper=PlainDumper, sort_keys=False, width=120)
    golden = GOLDEN / f"{name}.yaml"
    if os.environ.get("LLMSERVING_UPDATE_GOLDEN"):
        golden.write_text(found)

    assert list(yaml.safe_load_all(golden.read_text())) == list(yaml.safe_load_all(found))


@pytest.fixture
def template(owner: Identity, settings: Settings, make_spec: Callable[..., LLMServingSpec]) -> Manifest:
    return render_template(owner, make_spec(), settings)


def container(template: Manifest, name: str) -> Manifest:
    everyone = [*template["spec"]["initContainers"], *template["spec"]["containers"]]
    return next(found for found in everyone if found["name"] == name)


def test_the_agent_is_a_sidecar_that_no_probe_ties_to_the_pod(template: Manifest) -> None:
    agent = container(template, "agent")

    assert agent["restartPolicy"] == "Always"
    assert not {"readinessProbe", "livenessProbe", "startupProbe"} & agent.keys()
    assert agent["resources"]["requests"] == agent["resources"]["limits"]


@pytest.mark.parametrize("name", ["agent", "plugin"])
def test_what_the_operator_brings_meets_the_restricted_standard(name: str, template: Manifest) -> None:
    security = container(template, name)["securityContext"]

    assert security["runAsNonRoot"]
    assert security["readOnlyRootFilesystem"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}


def test_no_container_gets_a_token(template: Manifest) -> None:
    assert template["spec"]["automountServiceAccountToken"] is False


def test_only_agent_and_engine_mount_the_control_folder(template: Manifest) -> None:
    spec = template["spec"]
    mounting = [
        found["name"]
        for found in [*spec["initContainers"], *spec["containers"]]
        if any(mount["name"] == "llmserving-control" for mount in found["volumeMounts"])
    ]

    assert mounting == ["agent", "engine"]
    assert {"name": "llmserving-control", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}} in spec["volumes"]


def test_an_interpreter_elsewhere_is_found_by_a_path_of_the_users(
    owner: Identity, settings: Settings, make_spec: Callable[..., LLMServingSpec]
) -> None:
    """The kubelet resolves the liveness probe's command on the container's PATH."""
    path = {"name": "PATH", "value": "/opt/conda/bin:/usr/bin:/bin"}
    engine = container(render_template(owner, make_spec(engine={"image": "x", "env": [path]}), settings), "engine")

    assert path in engine["env"]
    assert engine["livenessProbe"]["exec"]["command"][0] == "python3"


def test_the_policy_is_not_in_the_template(template: Manifest) -> None:
    assert "llmserving.io/policy" not in template["metadata"]["annotations"]


def test_stopping_takes_as_long_as_the_drain_and_no_longer(template: Manifest) -> None:
    engine = container(template, "engine")

    assert "--shutdown-timeout=90" in engine["args"]
    assert template["spec"]["terminationGracePeriodSeconds"] > 90 + engine["lifecycle"]["preStop"]["sleep"]["seconds"]


@pytest.mark.parametrize(
    ("uri", "argument"),
    [
        ("hf://Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-7B"),
        ("pvc://models/a/b", "/models/a/b"),
        ("pvc://models", "/models"),
        ("file:///opt/model", "/opt/model"),
    ],
)
def test_a_model_is_a_hub_name_or_a_path(uri: str, argument: str) -> None:
    assert model_argument(uri) == argument


@pytest.mark.parametrize(
    ("batching", "flags"),
    [
        ({}, []),
        ({"maxNumSeqs": {"min": 16}}, []),
        ({"maxNumSeqs": {"max": 64}}, ["--max-num-seqs=64"]),
        ({"maxNumBatchedTokens": {"max": 512}}, ["--max-num-batched-tokens=512"]),
    ],
)
def test_ceilings_that_nobody_names_are_left_to_vllm(
    batching: dict[str, Any], flags: list[str], make_spec: Callable[..., LLMServingSpec]
) -> None:
    arguments = build_arguments("chat", make_spec(batching=batching), 60)

    assert [argument for argument in arguments if argument.startswith("--max-num")] == flags


def test_the_ceilings_are_the_maxima_and_the_users_flags_come_last(make_spec: Callable[..., LLMServingSpec]) -> None:
    spec = make_spec(
        engine={"image": "x", "args": ["--no-enable-chunked-prefill"]},
        batching={"maxNumSeqs": {"max": 512}, "maxNumBatchedTokens": {"max": 16384}},
    )

    arguments = build_arguments("chat", spec, 60)

    assert "--max-num-seqs=512" in arguments
    assert "--max-num-batched-tokens=16384" in arguments
    assert "--served-model-name=chat" in arguments
    assert arguments[-1] == "--no-enable-chunked-prefill"
