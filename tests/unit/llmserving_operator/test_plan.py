from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from llmserving_api.names import LABEL_RESOURCE, LABEL_RESOURCE_UID
from llmserving_api.status import AgentStatus
from llmserving_api.v1alpha1 import LLMServingSpec
from llmserving_operator.children.identity import ChildKey, Identity, Manifest, child_key
from llmserving_operator.observe import Delivery, Observation, Pod, Report
from llmserving_operator.plan import Apply, Delete, Deliver, Plan, make_plan, named_children
from llmserving_operator.settings import Settings

MakeSpec = Callable[..., LLMServingSpec]
MakeObservation = Callable[..., Observation]

LIVE_EDITS: list[dict[str, Any]] = [
    {"sla": {"interTokenLatency": {"target": "33ms", "percentile": 99}}},
    {"sla": {}},
    {"batching": {"mode": "Off"}},
    {"batching": {"policy": "SLA"}},
    {"batching": {"maxNumSeqs": {"min": 64}, "maxNumBatchedTokens": {"min": 1024}}},
    {"replicas": 5},
    {"rollout": {"maxSurge": 1}},
    {"networkPolicy": {"allowFrom": []}},
    {"paused": True},
]
RESTARTING_EDITS: list[dict[str, Any]] = [
    {"model": {"uri": "hf://other/model"}},
    {"engine": {"image": "vllm/vllm-openai:v0.33.0"}},
    {"engine": {"image": "vllm/vllm-openai:v0.32.0", "args": ["--max-model-len=4096"]}},
    {"batching": {"maxNumSeqs": {"max": 128}}},
    {"batching": {"maxNumBatchedTokens": {"max": 4096}}},
    {"batching": {"maxNumSeqs": {"max": 128}, "maxNumBatchedTokens": {"max": 4096}}},
    {"template": {"spec": {"nodeSelector": {"gpu": "h100"}}}},
]


def applied(plan: Plan) -> dict[ChildKey, Manifest]:
    steps = [step for stage in plan.stages for step in stage]
    return {child_key(step.manifest): step.manifest for step in steps if isinstance(step, Apply)}


def delivered(plan: Plan) -> list[Deliver]:
    return [step for stage in plan.stages for step in stage if isinstance(step, Deliver)]


def template(plan: Plan) -> Manifest:
    found: Manifest = applied(plan)[ChildKey("Deployment", "chat")]["spec"]["template"]
    return found


def after(plan: Plan, make_observation: MakeObservation, **fields: Any) -> Observation:
    """What there is once a plan was carried out."""
    return make_observation(children=as_stored(applied(plan)), **fields)


def as_stored(manifests: dict[ChildKey, Manifest]) -> dict[ChildKey, Manifest]:
    """Objects as the API server would show them."""
    return {
        key: {**manifest, "metadata": {**manifest["metadata"], "uid": f"uid-{key.name}"}}
        for key, manifest in manifests.items()
    }


def test_a_new_resource_gets_every_child_and_the_deployment_last(
    owner: Identity, settings: Settings, make_spec: MakeSpec, make_observation: MakeObservation
) -> None:
    plan = make_plan(owner, make_spec(), make_observation(), settings, now=0.0)

    kinds = [[step.manifest["kind"] for step in stage if isinstance(step, Apply)] for stage in plan.stages]
    assert set(named_children(owner)) <= applied(plan).keys()
    assert kinds[2] == ["Deployment"]
    assert sorted(kinds[1]) == [
        "ConfigMap",
        "ControllerRevision",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "ServiceAccount",
    ]


def test_every_child_belongs_to_the_resource(
    owner: Identity, settings: Settings, make_spec: MakeSpec, make_observation: MakeObservation
) -> None:
    plan = make_plan(owner, make_spec(), make_observation(), settings, now=0.0)

    for manifest in applied(plan).values():
        (reference,) = manifest["metadata"]["ownerReferences"]
        assert (reference["uid"], reference["controller"]) == ("uid-1", True)


@pytest.mark.parametrize("edit", LIVE_EDITS)
def test_a_live_edit_leaves_the_pod_template_as_it_is(
    edit: dict[str, Any], owner: Identity, settings: Settings, make_spec: MakeSpec, make_observation: MakeObservation
) -> None:
    before = make_plan(owner, make_spec(), make_observation(), settings, now=0.0)
    plan = make_plan(owner, make_spec(**edit), after(before, make_observation), settings, now=1.0)

    assert template(plan) == template(before)
    assert not plan.update_pending


@pytest.mark.parametrize("edit", RESTARTING_EDITS)
def test_a_restarting_edit_renders_and_remembers_a_new_template(
    edit: dict[str, Any], owner: Identity, settings: Settings, make_spec: MakeSpec, make_observation: MakeObservation
) -> None:
    before = make_plan(owner, make_spec(), make_observation(), settings, now=0.0)
    plan = make_plan(owner, make_spec(**edit), after(before, make_observation), settings, now=1.0)

    (revision,) = [manifest for key, manifest in applied(plan).items() if key.kind == "ControllerRevision"]
    assert template(plan) != template(before)
    assert revision["data"]["template"] == template(plan)
    assert revision["revision"] == 2


@pytest.mark.parametrize("bound", ["maxNumSeqs", "maxNumBatchedTokens"])
def test_a_maximum_taken_back_renders_a_template_without_its_flag(
    bound: str, owner: Identity, settings: Settings, make_spec: MakeSpec, make_observation: MakeObservation
) -> None:
    named = make_plan(owner, make_spec(batching={bound: {"max": 1024}}), make_observation(), settings, now=0.0)
    plan = make_plan(owner, make_spec(), after(named, make_observation), settings, now=1.0)

    never = make_plan(owner, make_spec(), make_observation(), settings, now=0.0)
    assert template(plan) == template(never) != template(named)


def test_the_revision_before_is_deleted_by_uid(
    owner: Identity, settings: Settings, make_spec: MakeSpec, make_observation: MakeObservation
) -> None:
    before = make_plan(owner, make_spec(), make_observation(), settings, now=0.0)
    (old,) = [key for key in applied(before) if key.kind == "ControllerRevision"]
    plan = make_plan(owner, make_spec(**RESTARTING_EDITS[0]), after(before, make_observation), settings, now=1.0)

    assert plan.stages[-1] == (Delete(old, f"uid-{old.name}"),)


def test_going_back_to_an_earlier_spec_makes_it_the_newest_revision(
    owner: Identity, settings: Settings, make_spec: MakeSpec, make_observation: MakeObservation
) -> None:
    first = make_plan(owner, make_spec(), make_observation(), settings, now=0.0)
    second = make_plan(owner, make_spec(**RESTARTING_EDITS[0]), after(first, make_observation), settings, now=1.0)
    both = {
        **applied(second),
        **{key: body for key, body in applied(first).items() if key.kind == "ControllerRevision"},
    }
    third = make_plan(owner, make_spec(), make_observation(children=as_stored(both)), settings, now=2.0)

    assert template(third) == template(first)
    (revision,) = [manifest for key, manifest in applied(third).items() if key.kind == "ControllerRevision"]
    assert revision["revision"] == 3


def test_taking_a_refused_edit_back_under_a_newer_operator_restarts_nothing(
    owner: Identity, settings: Settings, make_spec: MakeSpec, make_observation: MakeObservation
) -> None:
    """The API server refused the edit's Deployment, so the revision before it was not deleted."""
    first = make_plan(owner, make_spec(), make_observation(), settings, now=0.0)
    newer = settings.model_copy(update={"agent_image": "llmserving/agent:2"})
    refused = make_plan(owner, make_spec(**RESTARTING_EDITS[0]), after(first, make_observation), newer, now=1.0)
    written = {key: body for key, body in applied(refused).items() if key.kind == "ControllerRevision"}
    seen = make_observation(children=as_stored({**applied(first), **written}))
    taken_back = make_plan(owner, make_spec(), seen, newer, now=2.0)

    assert template(taken_back) == template(first)
    assert taken_back.update_pending
    (revision,) = [manifest for key, manifest in applied(taken_back).items() if key.kind == "ControllerRevision"]
    assert revision["revision"] == 3
    assert [step.key for step in taken_back.stages[-1] if isinstance(step, Delete)] == list(written)


def test_a_newer_agent_waits_for_the_next_restart(
    owner: Identity, settings: Settings, make_spec: MakeSpec, make_observation: MakeObservation
) -> None:
    before = make_plan(owner, make_spec(), make_observation(), settings, now=0.0)
    newer = settings.model_copy(update={"agent_image": "llmserving/agent:2"})
    waiting = make_plan(owner, make_spec(sla={}), after(before, make_observation), newer, now=1.0)
    restarted = make_plan(
        owner, make_spec(replicas=1, **RESTARTING_EDITS[1]), after(before, make_observation), newer, 1.0
    )

    assert template(waiting) == template(before)
    assert waiting.update_pending
    assert template(restarted)["spec"]["initContainers"][1]["image"] == "llmserving/agent:2"
    assert not restarted.update_pending


def test_a_newer_agent_rolls_at_once_where_the_resource_says_so(
    owner: Identity, settings: Settings, make_spec: MakeSpec, make_observation: MakeObservation
) -> None:
    spec = make_spec(rollout={"sidecarUpgrade": "Rolling"})
    before = make_plan(owner, spec, make_observation(), settings, now=0.0)
    newer = settings.model_copy(update={"agent_image": "llmserving/agent:2"})
    plan = make_plan(owner, spec, after(before, make_observation), newer, now=1.0)

    assert template(plan)["spec"]["initContainers"][1]["image"] == "llmserving/agent:2"
    assert not plan.update_pending


def test_the_deployment_selects_by_name_alone_whatever_the_pods_bear(
    owner: Identity, settings: Settings, make_spec: MakeSpec, make_observation: MakeObservation
) -> None:
    """Its selector can never change, and that of Deployments of before the label cannot have it."""
    manifests = applied(make_plan(owner, make_spec(), make_observation(), settings, now=0.0))
    deployment = manifests[ChildKey("Deployment", "chat")]["spec"]

    assert deployment["template"]["metadata"]["labels"][LABEL_RESOURCE_UID] == owner.uid
    assert deployment["selector"]["matchLabels"] == {LABEL_RESOURCE: "chat"}


@pytest.fixture
def before_the_label(
    owner: Identity, settings: Settings, make_spec: MakeSpec, make_observation: MakeObservation
) -> MakeObservation:
    """What an operator left that knew no uid label."""
    observation = after(make_plan(owner, make_spec(), make_observation(), settings, now=0.0), make_observation)
    (remembered,) = (body for key, body in observation.children.items() if key.kind == "ControllerRevision")
    del remembered["data"]["template"]["metadata"]["labels"][LABEL_RESOURCE_UID]
    return lambda **fields: replace(observation, **fields)


def test_pods_of_before_the_uid_label_are_not_restarted_for_it(
    owner: Identity, settings: Settings, make_spec: MakeSpec, before_the_label: MakeObservation
) -> None:
    observation = before_the_label()
    plan = make_plan(owner, make_spec(), observation, settings, now=1.0)

    assert template(plan) == observation.revisions[0].template
    assert LABEL_RESOURCE_UID not in template(plan)["metadata"]["labels"]
    assert plan.update_pending


class TestServiceSelector:
    BY_NAME: ClassVar = {LABEL_RESOURCE: "chat"}
    BY_UID: ClassVar = {LABEL_RESOURCE: "chat", LABEL_RESOURCE_UID: "uid-1"}

    def selected(self, plan: Plan) -> dict[str, str]:
        found: dict[str, str] = applied(plan)[ChildKey("Service", "chat")]["spec"]["selector"]
        return found

    def test_pods_of_a_deleted_namesake_are_not_selected(
        self, owner: Identity, settings: Settings, make_spec: MakeSpec, make_observation: MakeObservation
    ) -> None:
        plan = make_plan(owner, make_spec(), make_observation(), settings, now=0.0)

        assert self.selected(plan) == self.BY_UID

    @pytest.mark.parametrize("pods", [0, 1])
    def test_pods_of_before_the_uid_label_stay_behind_the_service(
        self,
        pods: int,
        owner: Identity,
        settings: Settings,
        make_spec: MakeSpec,
        before_the_label: MakeObservation,
        make_pod: Callable[..., Pod],
    ) -> None:
        observation = before_the_label(pods=(make_pod("a", bears_uid=False),)[:pods])

        assert self.selected(make_plan(owner, make_spec(), observation, settings, now=1.0)) == self.BY_NAME

    @pytest.mark.parametrize(("stopping", "expected"), [(False, BY_NAME), (True, BY_UID)])
    def test_a_roll_to_labelled_pods_is_waited_for(
        self,
        stopping: bool,
        expected: dict[str, str],
        owner: Identity,
        settings: Settings,
        make_spec: MakeSpec,
        before_the_label: MakeObservation,
        make_pod: Callable[..., Pod],
    ) -> None:
        pods = (make_pod("new"), make_pod("old", bears_uid=False, terminating=stopping))
        plan = make_plan(owner, make_spec(**RESTARTING_EDITS[0]), before_the_label(pods=pods), settings, now=1.0)

        assert LABEL_RESOURCE_UID in template(plan)["metadata"]["labels"]
        assert self.selected(plan) == expected


def test_replicas_are_always_the_resources(
    owner: Identity, settings: Settings, make_spec: MakeSpec, make_observation: MakeObservation
) -> None:
    plan = make_plan(owner, make_spec(replicas=7), make_observation(), settings, now=0.0)

    assert applied(plan)[ChildKey("Deployment", "chat")]["spec"]["replicas"] == 7


@pytest.mark.parametrize("kind", ["Service", "NetworkPolicy", "PodDisruptionBudget"])
def test_a_foreign_object_is_left_alone_and_the_rest_goes_on(
    kind: str, owner: Identity, settings: Settings, make_spec: MakeSpec, make_observation: MakeObservation
) -> None:
    observation = make_observation(foreign={ChildKey(kind, "chat"): "which no LLMServing owns"})
    plan = make_plan(owner, make_spec(), observation, settings, now=0.0)

    assert ChildKey(kind, "chat") not in applied(plan)
    assert ChildKey("Deployment", "chat") in applied(plan)


@pytest.mark.parametrize(
    "key", [ChildKey("Deployment", "chat"), ChildKey("ConfigMap", "chat-policy"), ChildKey("ServiceAccount", "chat")]
)
def test_without_what_pods_need_there_is_no_deployment(
    key: ChildKey, owner: Identity, settings: Settings, make_spec: MakeSpec, make_observation: MakeObservation
) -> None:
    observation = make_observation(foreign={key: "which no LLMServing owns"})
    plan = make_plan(owner, make_spec(), observation, settings, now=0.0)

    assert key not in applied(plan)
    assert ChildKey("Deployment", "chat") not in applied(plan)


def test_what_a_deleted_namesake_left_is_waited_for(
    owner: Identity, settings: Settings, make_spec: MakeSpec, make_observation: MakeObservation
) -> None:
    """Applied to, it would be adopted while it is being deleted."""
    observation = make_observation(leaving=frozenset({ChildKey("Deployment", "chat"), ChildKey("Service", "chat")}))
    plan = make_plan(owner, make_spec(), observation, settings, now=0.0)

    assert not {ChildKey("Deployment", "chat"), ChildKey("Service", "chat")} & applied(plan).keys()
    assert ChildKey("ConfigMap", "chat-policy") in applied(plan)


def test_a_refused_template_changes_nothing(
    owner: Identity,
    settings: Settings,
    make_spec: MakeSpec,
    make_observation: MakeObservation,
    make_pod: Callable[..., Pod],
) -> None:
    spec = make_spec(template={"spec": {"hostNetwork": True}})
    plan = make_plan(owner, spec, make_observation(pods=(make_pod(),)), settings, now=0.0)

    assert plan.stages == ()
    assert plan.refusal is not None
    assert plan.refusal.reason == "TemplateRefused"


class TestDelivery:
    def test_live_pods_without_the_policy_get_it_first_of_all(
        self,
        owner: Identity,
        settings: Settings,
        make_spec: MakeSpec,
        make_observation: MakeObservation,
        make_pod: Callable[..., Pod],
    ) -> None:
        pods = (make_pod("a"), make_pod("b", terminating=True), make_pod("c", policy="{}"))
        plan = make_plan(owner, make_spec(), make_observation(pods=pods), settings, now=0.0)

        assert [(step.pod, step.attempt) for step in delivered(plan)] == [("a", 0), ("c", 0)]
        assert plan.stages[0] == tuple(delivered(plan))

    @pytest.mark.parametrize(
        ("taken", "attempt", "age", "expected"),
        [
            (2, 0, 1.9, []),
            (2, 0, 2.0, [1]),
            (None, 0, 2.0, [1]),
            (3, 0, 60.0, []),
            (2, 1, 3.9, []),
            (2, 1, 4.0, [2]),
            (2, 20, 60.0, []),
            (2, 20, 64.0, [21]),
        ],
    )
    def test_a_pod_that_lags_is_patched_again_with_growing_patience(
        self,
        taken: int | None,
        attempt: int,
        age: float,
        expected: list[int],
        owner: Identity,
        settings: Settings,
        make_spec: MakeSpec,
        make_observation: MakeObservation,
        make_pod: Callable[..., Pod],
        make_agent: Callable[..., AgentStatus],
    ) -> None:
        (first,) = delivered(make_plan(owner, make_spec(), make_observation(pods=(make_pod("a"),)), settings, now=0.0))
        observation = make_observation(
            pods=(make_pod("a", policy=first.document),),
            reports={"uid-a": Report(make_agent(policy_revision=taken))},
            deliveries={"uid-a": Delivery(owner.generation, 100.0, attempt)},
        )
        plan = make_plan(owner, make_spec(), observation, settings, now=100.0 + age)

        assert [step.attempt for step in delivered(plan)] == expected

    def test_an_agent_that_has_read_the_policy_is_left_to_its_engine(
        self,
        owner: Identity,
        settings: Settings,
        make_spec: MakeSpec,
        make_observation: MakeObservation,
        make_pod: Callable[..., Pod],
        make_agent: Callable[..., AgentStatus],
    ) -> None:
        (first,) = delivered(make_plan(owner, make_spec(), make_observation(pods=(make_pod("a"),)), settings, now=0.0))
        observation = make_observation(
            pods=(make_pod("a", policy=first.document),),
            reports={"uid-a": Report(make_agent(policy_revision=None, policy_seen_revision=owner.generation))},
            deliveries={"uid-a": Delivery(owner.generation, 100.0, 0)},
        )
        assert delivered(make_plan(owner, make_spec(), observation, settings, now=160.0)) == []

    @pytest.mark.parametrize("silent", [True, False])
    def test_an_agent_that_is_silent_or_refused_the_policy_is_not_patched_again(
        self,
        silent: bool,
        owner: Identity,
        settings: Settings,
        make_spec: MakeSpec,
        make_observation: MakeObservation,
        make_pod: Callable[..., Pod],
        make_agent: Callable[..., AgentStatus],
    ) -> None:
        (first,) = delivered(make_plan(owner, make_spec(), make_observation(pods=(make_pod("a"),)), settings, now=0.0))
        refused = make_agent(policy_revision=1, policy_error="version 9 is unknown")
        observation = make_observation(
            pods=(make_pod("a", policy=first.document),),
            reports={"uid-a": Report(None, "no answer") if silent else Report(refused)},
            deliveries={"uid-a": Delivery(owner.generation, 0.0, 0)},
        )

        assert delivered(make_plan(owner, make_spec(), observation, settings, now=1000.0)) == []


@given(
    first=st.sampled_from([{}, *LIVE_EDITS, *RESTARTING_EDITS]),
    second=st.sampled_from([{}, *LIVE_EDITS, *RESTARTING_EDITS]),
)
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
def test_planning_again_for_what_was_applied_changes_nothing(
    first: dict[str, Any],
    second: dict[str, Any],
    owner: Identity,
    settings: Settings,
    make_spec: MakeSpec,
    make_observation: MakeObservation,
) -> None:
    """From any resource to any other: a second plan is the first; the template follows the restarting fields alone."""
    before = make_plan(owner, make_spec(**first), make_observation(), settings, now=0.0)
    plan = make_plan(owner, make_spec(**second), after(before, make_observation), settings, now=1.0)
    again = make_plan(owner, make_spec(**second), after(plan, make_observation), settings, now=2.0)

    assert applied(again) == applied(plan)
    restarts = (first in RESTARTING_EDITS or second in RESTARTING_EDITS) and first != second
    assert (template(plan) != template(before)) == restarts
