"""Puts the operator and the resource into a cluster, with kubectl as a user would."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from llmserving_api.names import LABEL_RESOURCE
from llmserving_lab.cluster.errors import ClusterError
from llmserving_lab.cluster.locations import cache_root, repository_root
from llmserving_lab.cluster.progress import step
from llmserving_lab.demo.settings import MODEL, NAME, NAMESPACE
from llmserving_lab.demo.site import Site
from llmserving_lab.environment import EngineEnvironment
from llmserving_lab.images.build import Image
from llmserving_lab.nvml.library import build_library

OPERATOR_NAMESPACE = "llmserving-system"
OPERATOR_SELECTOR = "app.kubernetes.io/name=llmserving-operator"
OPERATOR_SECONDS = 90
READY_SECONDS = 240
POLL_SECONDS = 0.5
STUCK = frozenset({"CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "CreateContainerError"})
MOST_RESTARTS = 3


def install_operator(site: Site, images: Mapping[str, Image], folder: Path) -> None:
    """Apply `manifests/install.yaml` with the built images, as a kustomization, and wait until the operator runs.

    Raises:
        ClusterError: it does not start; the message says why.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "install.yaml").write_text((repository_root() / "manifests" / "install.yaml").read_text())
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(_kustomization(images), sort_keys=False))
    with step("installing the operator"):
        site.kubectl("apply", "--server-side", f"--kustomize={folder}")
        start = time.monotonic()
        while not _available(site):
            fail_if_stuck(site, OPERATOR_NAMESPACE, OPERATOR_SELECTOR)
            if time.monotonic() - start > OPERATOR_SECONDS:
                pods = site.kubectl("get", "pods", f"--namespace={OPERATOR_NAMESPACE}")
                raise ClusterError(f"the operator does not start within {OPERATOR_SECONDS} s:\n{pods}")
            time.sleep(POLL_SECONDS)


def _available(site: Site) -> bool:
    status = site.objects("deployments", OPERATOR_NAMESPACE)[0].get("status", {})
    return int(status.get("availableReplicas", 0)) > 0


def fail_if_stuck(site: Site, namespace: str, selector: str) -> None:
    """Look for containers that will not start by waiting.

    Raises:
        ClusterError: there is one; the message holds the last lines it printed.
    """
    for pod in site.objects("pods", namespace, selector):
        status = pod["status"]
        for container in status.get("initContainerStatuses", []) + status.get("containerStatuses", []):
            waiting = container["state"].get("waiting", {})
            if waiting.get("reason") not in STUCK and container["restartCount"] < MOST_RESTARTS:
                continue
            name = pod["metadata"]["name"]
            said = waiting.get("message", "")
            with contextlib.suppress(ClusterError):
                previous = ["--previous"] if container["restartCount"] else []
                logs = ("logs", name, f"--container={container['name']}", f"--namespace={namespace}", "--tail=15")
                said = site.kubectl(*logs, *previous).strip() or said
            raise ClusterError(
                f"container {container['name']} of pod {name} does not start "
                f"({waiting.get('reason', 'it ends again and again')}); it says:\n{said}"
            )


def _kustomization(images: Mapping[str, Image]) -> dict[str, Any]:
    operator, _, tag = images["operator"].name.rpartition(":")
    environment = {
        "LLMSERVING_OPERATOR_AGENT_IMAGE": images["agent"].name,
        "LLMSERVING_OPERATOR_PLUGIN_IMAGE": "",
        # The demo's resource brings vLLM in by a hostPath volume.
        "LLMSERVING_OPERATOR_TEMPLATE_POLICY": "Unrestricted",
    }
    container = {"name": "operator", "env": [{"name": name, "value": value} for name, value in environment.items()]}
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["install.yaml"],
        "images": [{"name": "llmserving/operator", "newName": operator, "newTag": tag}],
        "patches": [
            {
                "target": {"kind": "Deployment", "name": "llmserving-operator"},
                "patch": yaml.safe_dump(
                    {
                        "apiVersion": "apps/v1",
                        "kind": "Deployment",
                        "metadata": {"name": "llmserving-operator"},
                        "spec": {"template": {"spec": {"containers": [container]}}},
                    }
                ),
            }
        ],
    }


def make_model(environment: EngineEnvironment) -> Path:
    """The folder of served models, made where it is missing; pods mount it."""
    models = cache_root() / "models"
    if not (models / MODEL / "config.json").is_file():
        with step("making the model's folder"):
            command = [str(environment.python), "-m", "llmserving_lab.model.folder", str(models / MODEL)]
            subprocess.run(command, env=environment.variables(), check=True, capture_output=True)
    return models


def resource_text() -> str:
    """The manifest with names in place of this machine's paths."""
    return files("llmserving_lab.demo").joinpath("chat.yaml").read_text()


def resource(images: Mapping[str, Image], environment: EngineEnvironment, *, replicas: int) -> dict[str, Any]:
    """The manifest the demo applies, with this machine's paths in it."""
    places = {
        "ENGINE_IMAGE": images["engine"].name,
        "VLLM_SITE_PACKAGES": str(environment.site_packages.resolve()),
        "MODELS": str(make_model(environment).resolve()),
        "NVML_LIBRARY": str(build_library().resolve()),
    }
    text = resource_text()
    for place, value in places.items():
        text = text.replace(place, value)
    manifest: dict[str, Any] = yaml.safe_load(text)
    manifest["spec"]["replicas"] = replicas
    return manifest


def apply(site: Site, manifest: Mapping[str, Any], path: Path) -> float:
    """Write the manifest and `kubectl apply` it; returns when that began (`time.monotonic`).

    Raises:
        ClusterError: there is a resource of that name, which is not the demo's to change.
    """
    if any(one["metadata"]["name"] == NAME for one in site.objects("llmservings", NAMESPACE)):
        raise ClusterError(
            f"LLMServing {NAME} is already in namespace {NAMESPACE}; the demo leaves it alone. If an earlier demo left "
            f"it there: kubectl delete llmserving {NAME} --namespace={NAMESPACE}, then run the demo again"
        )
    path.write_text(yaml.safe_dump(dict(manifest), sort_keys=False))
    start = time.monotonic()
    site.kubectl("apply", f"--filename={path}", f"--namespace={NAMESPACE}")
    return start


def delete(site: Site) -> None:
    """Delete the resource; nothing happens where it is gone already, or its cluster is."""
    with contextlib.suppress(ClusterError):
        site.kubectl("delete", "llmserving", NAME, f"--namespace={NAMESPACE}", "--ignore-not-found", "--wait=false")


def wait_ready(site: Site, start: float) -> float:
    """Wait until the resource is Ready; returns the seconds since `start` (`time.monotonic`).

    Raises:
        ClusterError: it is not Ready in time; the message holds its conditions and the pods' state.
    """
    conditions: list[dict[str, Any]] = []
    with step(f"waiting until {NAME} is Ready"):
        while time.monotonic() - start < READY_SECONDS:
            found = [one for one in site.objects("llmservings", NAMESPACE) if one["metadata"]["name"] == NAME]
            conditions = found[0].get("status", {}).get("conditions", []) if found else []
            if any(one["type"] == "Ready" and one["status"] == "True" for one in conditions):
                return time.monotonic() - start
            fail_if_stuck(site, NAMESPACE, f"{LABEL_RESOURCE}={NAME}")
            time.sleep(POLL_SECONDS)
    said = "\n".join(f"  {one['type']}={one['status']} {one['reason']}: {one.get('message', '')}" for one in conditions)
    pods = site.kubectl("get", "pods", f"--namespace={NAMESPACE}")
    raise ClusterError(f"{NAME} is not Ready after {READY_SECONDS} s:\n{said}\n{pods}")


def engine_pods(site: Site) -> list[dict[str, Any]]:
    """Pods of the resource."""
    return site.objects("pods", NAMESPACE, f"{LABEL_RESOURCE}={NAME}")
