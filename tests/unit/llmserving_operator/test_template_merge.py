from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserving_operator.children.merge import MERGE_KEYS, merge_template
from llmserving_operator.errors import RefusedError

RENDERED: dict[str, Any] = {
    "metadata": {"labels": {"a": "1"}},
    "spec": {
        "containers": [{"name": "engine", "image": "x", "env": [{"name": "A", "value": "1"}], "args": ["m"]}],
        "initContainers": [{"name": "agent"}],
        "volumes": [{"name": "control", "emptyDir": {"medium": "Memory"}}],
    },
}


@pytest.mark.parametrize(
    ("override", "path", "expected"),
    [
        ({"spec": {"nodeSelector": {"gpu": "h100"}}}, ("spec", "nodeSelector"), {"gpu": "h100"}),
        ({"metadata": {"labels": {"b": "2"}}}, ("metadata", "labels"), {"a": "1", "b": "2"}),
        ({"metadata": {"labels": {"a": None}}}, ("metadata", "labels"), {}),
        ({"spec": {"volumes": [{"name": "data"}]}}, ("spec", "volumes", 1), {"name": "data"}),
        (
            {"spec": {"containers": [{"name": "engine", "command": ["python3"]}]}},
            ("spec", "containers", 0, "command"),
            ["python3"],
        ),
        (
            {"spec": {"containers": [{"name": "engine", "env": [{"name": "B", "value": "2"}]}]}},
            ("spec", "containers", 0, "env"),
            [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
        ),
        (
            {"spec": {"containers": [{"name": "engine", "env": [{"name": "A", "value": "9"}]}]}},
            ("spec", "containers", 0, "env"),
            [{"name": "A", "value": "9"}],
        ),
        (
            {"spec": {"containers": [{"name": "engine", "args": ["n"]}]}},
            ("spec", "containers", 0, "args"),
            ["n"],
        ),
        ({"spec": {"containers": [{"name": "proxy"}]}}, ("spec", "containers", 1), {"name": "proxy"}),
        (
            {"spec": {"containers": [{"name": "proxy", "env": [{"name": "A", "value": None}]}]}},
            ("spec", "containers", 1),
            {"name": "proxy", "env": [{"name": "A"}]},
        ),
        ({"spec": {"tolerations": [{"key": "gpu"}]}}, ("spec", "tolerations"), [{"key": "gpu"}]),
    ],
)
def test_merges_by_the_stated_table(override: dict[str, Any], path: tuple[Any, ...], expected: Any) -> None:
    found: Any = merge_template(RENDERED, override)
    for part in path:
        found = found[part]

    assert found == expected


def test_an_element_merges_into_its_own_and_leaves_the_rest() -> None:
    merged = merge_template(RENDERED, {"spec": {"containers": [{"name": "engine", "image": "y"}]}})

    assert merged["spec"]["containers"] == [{**RENDERED["spec"]["containers"][0], "image": "y"}]
    assert merged["spec"]["volumes"] == RENDERED["spec"]["volumes"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"spec": []}, "spec.template.spec: [] is not an object"),
        (
            {"spec": {"containers": {"name": "engine"}}},
            "spec.template.spec.containers: {'name': 'engine'} is not a list",
        ),
        ({"spec": {"containers": [{"image": "x"}]}}, "spec.template.spec.containers[0]: every element needs 'name'"),
        ({"spec": {"containers": ["engine"]}}, "spec.template.spec.containers[0]: 'engine' is not an object"),
        ({"spec": {"volumes": [{"name": ["x"]}]}}, "spec.template.spec.volumes[0].name: ['x'] is not a name"),
    ],
)
def test_another_shape_is_refused_with_the_field(override: dict[str, Any], words: str) -> None:
    with pytest.raises(RefusedError) as caught:
        merge_template(RENDERED, override)

    assert words in str(caught.value)


names = st.sampled_from(["engine", "agent", "a", "b"])
scalars = st.sampled_from(["", "x", 0, 7, True, None])
keyed = {
    field: st.lists(st.fixed_dictionaries({key: names}, optional={"x": scalars}), max_size=3)
    for field, key in MERGE_KEYS.items()
}
overrides = st.fixed_dictionaries(
    {}, optional={"spec": st.fixed_dictionaries({}, optional={**keyed, "other": scalars})}
)


@given(overrides)
def test_merging_twice_is_merging_once(override: dict[str, Any]) -> None:
    once = merge_template(RENDERED, override)

    assert merge_template(once, override) == once


@given(overrides)
def test_the_rendered_template_is_never_changed_in_place(override: dict[str, Any]) -> None:
    before = repr(RENDERED)
    merge_template(RENDERED, override)

    assert repr(RENDERED) == before


@given(overrides)
def test_keys_of_merged_lists_stay_unique(override: dict[str, Any]) -> None:
    merged = merge_template(RENDERED, override)["spec"]

    for field, key in MERGE_KEYS.items():
        keys = [element[key] for element in merged.get(field, [])]
        assert len(keys) == len(set(keys))
