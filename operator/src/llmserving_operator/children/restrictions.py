"""What a pod-template override may not do, checked on the merged template.

``check_structure`` holds always: without it the resource would lose its own pods. ``check_template`` is the operator's
``Restricted`` template policy: who may create an LLMServing gains no right by it that they lack.
"""

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, Final

from llmserving_api import names
from llmserving_api.v1alpha1 import LLMServingSpec
from llmserving_operator.children.identity import Manifest
from llmserving_operator.children.merge import REASON
from llmserving_operator.errors import RefusedError

ALLOWED_VOLUMES: Final = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
"""Volume types of the Pod Security Standards' restricted profile."""
ALLOWED_PROJECTIONS: Final = frozenset({"configMap", "downwardAPI", "secret"})
HOST_NAMESPACES: Final = ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace")
PROBES: Final = ("startupProbe", "readinessProbe", "livenessProbe")
OWN_VOLUMES: Final = (names.VOLUME_CONTROL, names.VOLUME_PLUGIN, names.VOLUME_POLICY)
OWN_CONTAINERS: Final = (names.CONTAINER_AGENT, names.CONTAINER_PLUGIN)
OWN_VARIABLES: Final = ("PYTHONPATH", names.ENV_CONTROL_DIR, "VLLM_PLUGINS")


def check_structure(rendered: Manifest, merged: Manifest) -> None:
    """Refuse an override without which the pods would not be found, named or served.

    Raises:
        RefusedError: naming the field.
    """
    for label, value in rendered["metadata"]["labels"].items():
        if merged.get("metadata", {}).get("labels", {}).get(label) != value:
            _refuse(f"metadata.labels[{label}]", f"must stay {value!r}, the operator finds its pods by it")
    engines = [c for c in merged.get("spec", {}).get("containers", ()) if c.get("name") == names.CONTAINER_ENGINE]
    if not engines:
        _refuse("spec.containers", f"the container {names.CONTAINER_ENGINE!r} must stay")
    if not isinstance(merged["spec"].get("initContainers"), list):
        _refuse("spec.initContainers", "must stay, the plug-in and the agent are among them")


def check_template(rendered: Manifest, merged: Manifest, spec: LLMServingSpec) -> None:
    """Refuse what the ``Restricted`` template policy forbids.

    Raises:
        RefusedError: naming the field, the value and the rule.
    """
    pod = merged["spec"]
    _check_metadata(merged["metadata"])
    _check_pod(rendered["spec"], pod)
    _check_volumes(rendered["spec"], pod, named_secrets(spec))
    _check_own_containers(rendered["spec"], pod)
    for place, container in _containers(pod):
        _check_security(place, container.get("securityContext") or {})
        _check_secrets(place, container, named_secrets(spec))
        _check_probes(place, container)
        for port in container.get("ports") or ():
            if port.get("hostPort"):
                _refuse(f"{place}.ports", f"hostPort {port['hostPort']} opens a port of the node")
        if container["name"] in OWN_CONTAINERS and not place.startswith("spec.initContainers"):
            _refuse(place, "the name is taken by the operator")
        if container["name"] not in (*OWN_CONTAINERS, names.CONTAINER_ENGINE):
            for mount in container.get("volumeMounts") or ():
                if mount.get("name") in OWN_VOLUMES:
                    _refuse(f"{place}.volumeMounts", f"{mount['name']} is for the agent and the engine only")
        _check_confined(place, container, pod)


def named_secrets(spec: LLMServingSpec) -> frozenset[str]:
    """Secrets that the resource names itself."""
    secrets = {ref.name for ref in (spec.model.token_secret_ref, spec.engine.api_key_secret_ref) if ref is not None}
    for variable in spec.engine.env or []:
        if variable.value_from is not None and variable.value_from.secret_key_ref is not None:
            secrets.add(variable.value_from.secret_key_ref.name)
    return frozenset(secrets)


def _check_metadata(metadata: Mapping[str, Any]) -> None:
    for annotation in metadata.get("annotations") or {}:
        if annotation.partition("/")[0].endswith(names.GROUP):
            _refuse(f"metadata.annotations[{annotation}]", f"annotations of {names.GROUP} are the operator's")


def _check_pod(rendered: Mapping[str, Any], pod: Mapping[str, Any]) -> None:
    for field in HOST_NAMESPACES:
        if pod.get(field):
            _refuse(f"spec.{field}", "shares a namespace of the node or of the agent")
    for field in ("serviceAccountName", "automountServiceAccountToken"):
        if pod.get(field) != rendered[field]:
            _refuse(f"spec.{field}", f"must stay {rendered[field]!r}, engines need no right in the cluster")
    if pod.get("serviceAccount") not in (None, rendered["serviceAccountName"]):
        _refuse("spec.serviceAccount", f"must stay {rendered['serviceAccountName']!r}")
    security = pod.get("securityContext") or {}
    if security.get("fsGroup") != names.AGENT_UID:
        _refuse(
            "spec.securityContext.fsGroup", f"must stay {names.AGENT_UID}, the control socket belongs to that group"
        )
    if security.get("sysctls"):
        _refuse("spec.securityContext.sysctls", "kernel settings are the node's")
    _check_security("spec", security)


def _check_security(place: str, security: Mapping[str, Any]) -> None:
    """Rules of the Pod Security Standards that hold for pods and containers alike."""
    here = f"{place}.securityContext"
    if security.get("privileged"):
        _refuse(f"{here}.privileged", "gives the container the node")
    if security.get("allowPrivilegeEscalation"):
        _refuse(f"{here}.allowPrivilegeEscalation", "must stay false")
    added = (security.get("capabilities") or {}).get("add")
    if added:
        _refuse(f"{here}.capabilities.add", f"{added} are not to be had")
    if security.get("procMount") not in (None, "Default"):
        _refuse(f"{here}.procMount", "must be Default")
    for profile in ("seccompProfile", "appArmorProfile"):
        if (security.get(profile) or {}).get("type") == "Unconfined":
            _refuse(f"{here}.{profile}", "must not be Unconfined")
    for field in ("seLinuxOptions", "windowsOptions"):
        if security.get(field):
            _refuse(f"{here}.{field}", "is the administrator's")


def _check_confined(place: str, container: Mapping[str, Any], pod: Mapping[str, Any]) -> None:
    """What the restricted standard wants said: a null in the override would otherwise take it away."""
    security = container.get("securityContext") or {}
    here = f"{place}.securityContext"
    if security.get("allowPrivilegeEscalation") is not False:
        _refuse(f"{here}.allowPrivilegeEscalation", "must be false")
    if "ALL" not in ((security.get("capabilities") or {}).get("drop") or ()):
        _refuse(f"{here}.capabilities.drop", "must hold ALL")
    profiles = [(level or {}).get("seccompProfile") or {} for level in (security, pod.get("securityContext"))]
    kind = next((profile["type"] for profile in profiles if profile.get("type")), None)
    if kind not in ("RuntimeDefault", "Localhost"):
        _refuse(f"{here}.seccompProfile", "must be RuntimeDefault or Localhost, here or for the pod")


def _check_probes(place: str, container: Mapping[str, Any]) -> None:
    """Probes and hooks ask the container itself: the kubelet must not be sent elsewhere."""
    handlers = {field: container.get(field) for field in PROBES}
    handlers |= {f"lifecycle.{hook}": action for hook, action in (container.get("lifecycle") or {}).items()}
    for field, handler in handlers.items():
        for kind in ("httpGet", "tcpSocket"):
            if ((handler or {}).get(kind) or {}).get("host"):
                _refuse(f"{place}.{field}.{kind}.host", "must be unset, the kubelet asks the pod itself")


def _check_volumes(rendered: Mapping[str, Any], pod: Mapping[str, Any], secrets: frozenset[str]) -> None:
    own = {volume["name"]: volume for volume in rendered["volumes"] if volume["name"] in OWN_VOLUMES}
    found = {volume["name"]: volume for volume in pod.get("volumes") or () if volume["name"] in own}
    if own != found:
        _refuse("spec.volumes", f"{', '.join(own)} are the operator's")
    for volume in pod.get("volumes") or ():
        place = f"spec.volumes[{volume['name']}]"
        for kind in volume:
            if kind not in (*ALLOWED_VOLUMES, "name"):
                _refuse(f"{place}.{kind}", f"only {', '.join(sorted(ALLOWED_VOLUMES))} volumes are allowed")
        secret = (volume.get("secret") or {}).get("secretName")
        if "secret" in volume:
            _check_secret(f"{place}.secret", secret, secrets)
        if "nodePublishSecretRef" in (volume.get("csi") or {}):
            _refuse(f"{place}.csi.nodePublishSecretRef", "reads a Secret")
        for source in (volume.get("projected") or {}).get("sources") or ():
            for kind in source:
                if kind not in ALLOWED_PROJECTIONS:
                    _refuse(f"{place}.projected.{kind}", f"only {', '.join(sorted(ALLOWED_PROJECTIONS))} are allowed")
            if "secret" in source:
                _check_secret(f"{place}.projected.secret", source["secret"].get("name"), secrets)


def _check_own_containers(rendered: Mapping[str, Any], pod: Mapping[str, Any]) -> None:
    for kept in rendered["initContainers"]:
        found = [c for c in pod["initContainers"] if c["name"] == kept["name"]]
        if found != [kept]:
            _refuse(f"spec.initContainers[{kept['name']}]", "is the operator's")
    before, after = (_named(template["containers"], names.CONTAINER_ENGINE) for template in (rendered, pod))
    place = f"spec.containers[{names.CONTAINER_ENGINE}]"
    if after.get("args") != before["args"]:
        _refuse(f"{place}.args", "are the operator's; write further flags into spec.engine.args")
    if after.get("restartPolicy") is not None:
        _refuse(f"{place}.restartPolicy", "must stay unset")
    for variable in OWN_VARIABLES:
        if _all_named(after.get("env"), variable) != _all_named(before["env"], variable):
            _refuse(f"{place}.env[{variable}]", "is the operator's")
    for mount in before["volumeMounts"]:
        if mount["name"] in OWN_VOLUMES and mount not in (after.get("volumeMounts") or ()):
            _refuse(f"{place}.volumeMounts[{mount['mountPath']}]", "is the operator's")
    for mount in after.get("volumeMounts") or ():
        touches = any(_overlap(mount["mountPath"], path) for path in (names.PATH_CONTROL, names.PATH_PLUGIN))
        if mount not in before["volumeMounts"] and (touches or mount["name"] in OWN_VOLUMES):
            _refuse(f"{place}.volumeMounts[{mount['mountPath']}]", "touches the socket or the plug-in")


def _overlap(one: str, other: str) -> bool:
    """Whether one of two folders is, or is inside, the other."""
    first, second = (PurePosixPath(posixpath.normpath("/" + path.lstrip("/"))) for path in (one, other))
    return first.is_relative_to(second) or second.is_relative_to(first)


def _check_secrets(place: str, container: Mapping[str, Any], secrets: frozenset[str]) -> None:
    for source in container.get("envFrom") or ():
        if "secretRef" in source:
            _check_secret(f"{place}.envFrom", source["secretRef"].get("name"), secrets)
    for variable in container.get("env") or ():
        reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
        if reference:
            _check_secret(f"{place}.env[{variable['name']}]", reference.get("name"), secrets)


def _check_secret(place: str, secret: str | None, secrets: frozenset[str]) -> None:
    if secret not in secrets:
        _refuse(place, f"Secret {secret!r} is not named in the resource's model or engine")


def _containers(pod: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for container in pod.get(field) or ():
            yield f"spec.{field}[{container['name']}]", container


def _named(items: Iterable[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    return next(item for item in items if item["name"] == name)


def _all_named(items: Iterable[Mapping[str, Any]] | None, name: str) -> list[Mapping[str, Any]]:
    return [item for item in items or () if item.get("name") == name]


def _refuse(place: str, rule: str) -> None:
    raise RefusedError(REASON, f"spec.template.{place}: {rule}")
