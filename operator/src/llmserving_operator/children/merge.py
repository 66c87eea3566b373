"""Merging a pod-template override into the rendered template.

Objects merge field by field and ``null`` removes a field. A list in ``MERGE_KEYS`` merges element by element: an
element with the key of a rendered one merges into it, others are appended. Any other list replaces the rendered one.
"""

from collections.abc import Mapping
from typing import Any, Final

from llmserving_api.conditions import ConditionReason
from llmserving_operator.errors import RefusedError

REASON: Final = ConditionReason.TEMPLATE_REFUSED

MERGE_KEYS: Final = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "resourceClaims": "name",
    "topologySpreadConstraints": "topologyKey",
}
"""Lists that merge, by the key of their elements (Kubernetes' own keys of strategic merge)."""


def merge_template(rendered: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """The rendered template with the override merged in.

    Raises:
        RefusedError: the override has another shape than a pod template; the message names the field.
    """
    return _merge_object(rendered, override, "spec.template")


def _merge_object(base: Mapping[str, Any], change: Mapping[str, Any], path: str) -> dict[str, Any]:
    merged = dict(base)
    for field, value in change.items():
        here = f"{path}.{field}"
        old = base.get(field)
        if value is None:
            merged.pop(field, None)
        elif isinstance(old, Mapping):
            merged[field] = _merge_object(old, _expect(value, Mapping, here, "an object"), here)
        elif field in MERGE_KEYS and (old is None or isinstance(old, list)):
            merged[field] = _merge_list(old or [], _expect(value, list, here, "a list"), MERGE_KEYS[field], here)
        elif isinstance(old, list):
            merged[field] = list(_expect(value, list, here, "a list"))
        else:
            merged[field] = value
    return merged


def _merge_list(base: list[Any], change: list[Any], key: str, path: str) -> list[Any]:
    merged = list(base)
    places = {item[key]: index for index, item in enumerate(base)}
    for number, item in enumerate(change):
        here = f"{path}[{number}]"
        element = _expect(item, Mapping, here, "an object")
        if key not in element:
            raise RefusedError(REASON, f"{here}: every element needs {key!r}, by which the list is merged")
        if not isinstance(element[key], str | int):
            raise RefusedError(REASON, f"{here}.{key}: {element[key]!r} is not a name")
        if element[key] in places:
            place = places[element[key]]
            merged[place] = _merge_object(merged[place], element, here)
        else:
            places[element[key]] = len(merged)
            merged.append(_merge_object({}, element, here))
    return merged


def _expect(value: Any, kind: Any, path: str, words: str) -> Any:
    if not isinstance(value, kind):
        raise RefusedError(REASON, f"{path}: {value!r} is not {words}")
    return value
