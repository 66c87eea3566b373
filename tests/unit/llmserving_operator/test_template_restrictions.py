from collections.abc import Callable
from typing import Any

import pytest

from llmserving_api.v1alpha1 import LLMServingSpec
from llmserving_operator.children.identity import Identity
from llmserving_operator.children.template import render_template
from llmserving_operator.errors import RefusedError
from llmserving_operator.settings import Settings, TemplatePolicy


def engine(**fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "engine", **fields}]}}


def pod(**fields: Any) -> dict[str, Any]:
    return {"spec": fields}


HOST_PATH = {"name": "host", "hostPath": {"path": "/"}}

CONFINED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}

REFUSED = [
    (pod(hostNetwork=True), "spec.template.spec.hostNetwork"),
    (pod(hostPID=True), "spec.template.spec.hostPID"),
    (pod(hostIPC=True), "spec.template.spec.hostIPC"),
    (pod(hostUsers=True, shareProcessNamespace=True), "shareProcessNamespace"),
    (pod(volumes=[HOST_PATH]), "spec.volumes[host].hostPath"),
    (pod(volumes=[{"name": "nfs", "nfs": {"server": "x"}}]), "spec.volumes[nfs].nfs"),
    (pod(volumes=[{"name": "s", "secret": {"secretName": "other"}}]), "Secret 'other' is not named"),
    (
        pod(volumes=[{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]),
        "spec.volumes[t].projected.serviceAccountToken",
    ),
    (
        pod(volumes=[{"name": "t", "projected": {"sources": [{"secret": {"name": "other"}}]}}]),
        "Secret 'other' is not named",
    ),
    (
        pod(volumes=[{"name": "c", "csi": {"driver": "x", "nodePublishSecretRef": {"name": "other"}}}]),
        "spec.volumes[c].csi.nodePublishSecretRef",
    ),
    (pod(volumes=[{"name": "llmserving-control", "emptyDir": {"medium": ""}}]), "llmserving-control"),
    (pod(volumes=None), "spec.volumes"),
    (pod(serviceAccountName="admin"), "spec.serviceAccountName: must stay 'chat'"),
    (pod(serviceAccount="admin"), "spec.serviceAccount: must stay 'chat'"),
    (pod(automountServiceAccountToken=True), "spec.automountServiceAccountToken"),
    (pod(securityContext={"fsGroup": 0}), "spec.securityContext.fsGroup: must stay 65532"),
    (pod(securityContext={"sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}]}), "sysctls"),
    (pod(securityContext={"seccompProfile": {"type": "Unconfined"}}), "seccompProfile: must not be Unconfined"),
    (engine(securityContext={"privileged": True}), "spec.containers[engine].securityContext.privileged"),
    (engine(securityContext={"allowPrivilegeEscalation": True}), "allowPrivilegeEscalation: must stay false"),
    (engine(securityContext={"capabilities": {"add": ["SYS_PTRACE"]}}), "capabilities.add"),
    (engine(securityContext={"procMount": "Unmasked"}), "procMount: must be Default"),
    (engine(securityContext={"appArmorProfile": {"type": "Unconfined"}}), "appArmorProfile"),
    (engine(securityContext={"seLinuxOptions": {"type": "spc_t"}}), "seLinuxOptions"),
    (engine(ports=[{"containerPort": 8000, "hostPort": 80}]), "hostPort 80"),
    (
        engine(readinessProbe={"httpGet": {"host": "169.254.169.254"}}),
        "spec.containers[engine].readinessProbe.httpGet.host: must be unset",
    ),
    (
        engine(lifecycle={"postStart": {"tcpSocket": {"host": "10.0.0.1", "port": 1}}}),
        "spec.containers[engine].lifecycle.postStart.tcpSocket.host",
    ),
    (engine(args=["m", "--max-num-seqs=9999"]), "spec.containers[engine].args"),
    (engine(env=[{"name": "PYTHONPATH", "value": "/evil"}]), "spec.containers[engine].env[PYTHONPATH]"),
    (engine(env=[{"name": "LLMSERVING_CONTROL_DIR", "value": "/tmp"}]), "env[LLMSERVING_CONTROL_DIR]"),
    (
        engine(env=[{"name": "X", "valueFrom": {"secretKeyRef": {"name": "other", "key": "k"}}}]),
        "spec.containers[engine].env[X]: Secret 'other' is not named",
    ),
    (engine(envFrom=[{"secretRef": {"name": "other"}}]), "spec.containers[engine].envFrom: Secret 'other'"),
    (engine(volumeMounts=[{"mountPath": "/run/llmserving", "name": "llmserving-tmp"}]), "is the operator's"),
    (engine(volumeMounts=[{"mountPath": "/run", "name": "llmserving-tmp"}]), "touches the socket or the plug-in"),
    (
        engine(volumeMounts=[{"mountPath": "/opt/llmserving/plugin/vllm", "name": "llmserving-tmp"}]),
        "touches the socket or the plug-in",
    ),
    (
        engine(volumeMounts=[{"mountPath": "//opt//x/../llmserving/./plugin/", "name": "llmserving-tmp"}]),
        "touches the socket or the plug-in",
    ),
    (engine(volumeMounts=[{"mountPath": "/x", "name": "llmserving-control"}]), "touches the socket or the plug-in"),
    (
        pod(containers=[{"name": "spy", "volumeMounts": [{"mountPath": "/x", "name": "llmserving-control"}]}]),
        "spec.containers[spy].volumeMounts",
    ),
    (pod(initContainers=[{"name": "agent", "image": "other"}]), "spec.initContainers[agent]: is the operator's"),
    (pod(initContainers=[{"name": "plugin", "command": ["true"]}]), "spec.initContainers[plugin]: is the operator's"),
    (
        pod(initContainers=[{"name": "first", "securityContext": {"privileged": True}}]),
        "spec.initContainers[first].securityContext.privileged",
    ),
    (pod(containers=[{"name": "agent"}]), "spec.containers[agent]: the name is taken"),
    (engine(securityContext=None), "spec.containers[engine].securityContext.allowPrivilegeEscalation: must be false"),
    (engine(securityContext={"capabilities": None}), "spec.containers[engine].securityContext.capabilities.drop"),
    (engine(securityContext={"capabilities": {"drop": ["KILL"]}}), "capabilities.drop: must hold ALL"),
    (
        pod(
            securityContext={"seccompProfile": None},
            containers=[{"name": "engine", "securityContext": {"seccompProfile": None}}],
        ),
        "seccompProfile: must be RuntimeDefault or Localhost",
    ),
    (pod(containers=[{"name": "proxy", "image": "envoy"}]), "spec.containers[proxy].securityContext"),
    (pod(initContainers=[{"name": "fetch", "image": "x"}]), "spec.initContainers[fetch].securityContext"),
    (engine(env=[{"name": "VLLM_PLUGINS", "value": ""}]), "spec.containers[engine].env[VLLM_PLUGINS]"),
    ({"metadata": {"annotations": {"llmserving.io/policy": "{}"}}}, "metadata.annotations[llmserving.io/policy]"),
]

ALLOWED = [
    pod(nodeSelector={"gpu": "h100"}, tolerations=[{"key": "gpu", "operator": "Exists"}], runtimeClassName="nvidia"),
    pod(priorityClassName="high", imagePullSecrets=[{"name": "registry"}]),
    pod(securityContext={"runAsUser": 1000, "runAsNonRoot": True}),
    pod(volumes=[{"name": "cache", "persistentVolumeClaim": {"claimName": "cache"}}]),
    pod(volumes=[{"name": "token", "secret": {"secretName": "hub"}}]),
    pod(containers=[{"name": "proxy", "image": "envoy", "securityContext": CONFINED}]),
    pod(initContainers=[{"name": "fetch", "image": "fetcher", "securityContext": CONFINED}]),
    pod(securityContext={"supplementalGroups": [44]}),
    engine(command=["python3", "-m", "vllm.entrypoints.cli.main", "serve"]),
    engine(volumeMounts=[{"mountPath": "/home/llmserving", "name": "cache"}]),
    engine(env=[{"name": "VLLM_LOGGING_LEVEL", "value": "DEBUG"}]),
    {"metadata": {"annotations": {"prometheus.io/scrape": "true"}, "labels": {"team": "search"}}},
]


@pytest.mark.parametrize(("override", "words"), REFUSED)
def test_restricted_refuses_and_names_the_field(
    override: dict[str, Any],
    words: str,
    owner: Identity,
    settings: Settings,
    make_spec: Callable[..., LLMServingSpec],
) -> None:
    with pytest.raises(RefusedError) as caught:
        render_template(owner, make_spec(template=override), settings)

    assert words in str(caught.value)
    assert str(caught.value).startswith("spec.template.")
    assert caught.value.reason == "TemplateRefused"


@pytest.mark.parametrize("override", ALLOWED)
def test_restricted_allows_what_harms_nobody(
    override: dict[str, Any], owner: Identity, settings: Settings, make_spec: Callable[..., LLMServingSpec]
) -> None:
    model = {"uri": "hf://a/b", "tokenSecretRef": {"name": "hub"}}

    render_template(owner, make_spec(template=override, model=model), settings)


def test_unrestricted_lets_the_administrator_mount_the_host(
    owner: Identity, settings: Settings, make_spec: Callable[..., LLMServingSpec]
) -> None:
    unrestricted = settings.model_copy(update={"template_policy": TemplatePolicy.UNRESTRICTED})

    template = render_template(owner, make_spec(template=pod(volumes=[HOST_PATH])), unrestricted)

    assert HOST_PATH in template["spec"]["volumes"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"metadata": {"labels": {"llmserving.io/name": "other"}}}, "metadata.labels[llmserving.io/name]"),
        ({"metadata": {"labels": None}}, "metadata.labels"),
        (pod(containers=None), "the container 'engine' must stay"),
        (pod(initContainers=None), "spec.initContainers: must stay"),
    ],
)
def test_even_unrestricted_pods_stay_the_resources_own(
    override: dict[str, Any],
    words: str,
    owner: Identity,
    settings: Settings,
    make_spec: Callable[..., LLMServingSpec],
) -> None:
    unrestricted = settings.model_copy(update={"template_policy": TemplatePolicy.UNRESTRICTED})

    with pytest.raises(RefusedError, match=r"spec\.template") as caught:
        render_template(owner, make_spec(template=override), unrestricted)

    assert words in str(caught.value)


@pytest.mark.parametrize(
    "override",
    [
        engine(ports=[{"containerPort": 1, "hostPort": {}}], securityContext="none"),
        pod(volumes=[{"name": "s", "secret": "hub"}]),
        pod(containers=[{"name": "x", "env": ["A"]}]),
        pod(securityContext=7),
        pod(initContainers=[{"name": "x", "volumeMounts": [{"mountPath": "/a", "name": {}}], "envFrom": [1]}]),
    ],
)
def test_another_shape_than_a_pod_is_refused_not_a_crash(
    override: dict[str, Any], owner: Identity, settings: Settings, make_spec: Callable[..., LLMServingSpec]
) -> None:
    with pytest.raises(RefusedError, match=r"spec\.template"):
        render_template(owner, make_spec(template=override), settings)
