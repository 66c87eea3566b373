from collections.abc import Callable
from typing import Any

import pytest

from llmserving_api.control import Contract
from llmserving_api.status import AgentStatus, GPUSource
from llmserving_api.v1alpha1 import LLMServingSpec
from llmserving_api.v1alpha1.status import SLAStatus, TargetStatus
from llmserving_operator import verdicts
from llmserving_operator.children.identity import ChildKey
from llmserving_operator.errors import KubeError, RefusedError, RejectedError
from llmserving_operator.observe import Pod, Trouble

MakeSpec = Callable[..., LLMServingSpec]
MakePod = Callable[..., Pod]
MakeAgent = Callable[..., AgentStatus]


def test_acceptance_names_what_was_refused() -> None:
    refused = verdicts.judge_acceptance(RefusedError("TemplateRefused", "spec.template: no"), ())
    rejected = verdicts.judge_acceptance(None, (KubeError("timeout"), RejectedError("PATCH Deployment: invalid", 422)))

    assert (refused.status, refused.reason, refused.message) == (False, "TemplateRefused", "spec.template: no")
    assert (rejected.status, rejected.reason, rejected.message) == (
        False,
        "RejectedByAPIServer",
        "PATCH Deployment: invalid",
    )
    assert verdicts.judge_acceptance(None, (KubeError("timeout"),)).status is True


def test_a_conflict_says_what_is_in_the_way_and_what_to_do() -> None:
    verdict = verdicts.judge_conflict({ChildKey("Service", "chat"): "which no LLMServing owns"})

    assert verdict.status is True
    assert verdict.message.startswith("Service chat exists, which no LLMServing owns: delete or rename")


@pytest.mark.parametrize(
    ("replicas", "pods", "expected"),
    [
        (2, [{}, {}], (True, "AllReady")),
        (2, [{}, {"ready": False}], (True, "EnoughReady")),
        (3, [{}, {"ready": False}, {"ready": False}], (False, "Starting")),
        (1, [{"ready": False}], (False, "Starting")),
        (1, [], (False, "Starting")),
        (1, [{"terminating": True}], (False, "Starting")),
        (1, [{"ready": False, "trouble": Trouble("CrashLooping", "exit code 1")}], (False, "CrashLooping")),
        (2, [{}, {"ready": False, "trouble": Trouble("Unschedulable", "no GPU")}], (True, "Unschedulable")),
    ],
)
def test_engines_are_available_when_the_rollout_keeps_its_promise(
    replicas: int,
    pods: list[dict[str, Any]],
    expected: tuple[bool, str],
    make_spec: MakeSpec,
    make_pod: MakePod,
) -> None:
    verdict = verdicts.judge_engines(
        make_spec(replicas=replicas), [make_pod(f"p{number}", **pod) for number, pod in enumerate(pods)]
    )

    assert (verdict.status, verdict.reason) == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}, (True, "RollingOut")),
        ({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}, (False, "Complete")),
        ({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 2}, (True, "RollingOut")),
        ({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 2}, (True, "RollingOut")),
        ({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}, (True, "Scaling")),
        ({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 1}, (True, "Scaling")),
        (
            {"conditions": [{"type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": "late"}]},
            (False, "DeadlineExceeded"),
        ),
    ],
)
def test_progress_is_read_from_the_deployment(
    status: dict[str, Any], expected: tuple[bool, str], make_spec: MakeSpec
) -> None:
    verdict = verdicts.judge_progress({"metadata": {"generation": 2}, "status": status}, make_spec(replicas=2))

    assert (verdict.status, verdict.reason) == expected


@pytest.mark.parametrize(
    ("batching", "agent", "expected"),
    [
        ({}, {}, (True, "Tuning")),
        ({"mode": "Off"}, {}, (False, "ModeOff")),
        ({"mode": "Advise"}, {}, (False, "ModeAdvise")),
        ({"policy": "Static"}, {}, (False, "PolicyStatic")),
        ({}, {"policy_revision": 2}, (None, "PolicyOnItsWay")),
        ({}, {"policy_revision": None}, (None, "PolicyOnItsWay")),
        ({}, {"policy_error": "version 2 is unknown"}, (False, "PolicyRefused")),
        ({}, {"engines": ()}, (False, "EngineUnreachable")),
        ({}, {"engine": {"reachable": False, "message": "refused"}}, (False, "EngineUnreachable")),
        (
            {},
            {"engine": {"contract": Contract(mode="observe", ok=False, reason="no attribute")}},
            (False, "EngineUnsupported"),
        ),
        ({}, {"engine": {"contract": Contract(mode="caps", ok=True, reason="0.27")}}, (True, "CapsOnly")),
    ],
)
def test_tuning_is_active_or_says_why_not(
    batching: dict[str, Any],
    agent: dict[str, Any],
    expected: tuple[bool | None, str],
    make_spec: MakeSpec,
    make_agent: MakeAgent,
) -> None:
    verdict = verdicts.judge_tuning(make_spec(batching=batching), 3, {"chat-a": make_agent(**agent)}, {})

    assert (verdict.status, verdict.reason) == expected


def test_while_paused_agents_tune_by_the_policy_they_have(make_spec: MakeSpec, make_agent: MakeAgent) -> None:
    verdict = verdicts.judge_tuning(make_spec(paused=True), 4, {"chat-a": make_agent(policy_revision=3)}, {})

    assert (verdict.status, verdict.reason) == (True, "Tuning")


def test_an_unsupported_feature_is_the_reason(make_spec: MakeSpec, make_agent: MakeAgent) -> None:
    facts = {
        "vllm_version": "0.32.0",
        "scheduler_class": "Scheduler",
        "rank": 0,
        "pid": 1,
        "model": "m",
        "max_model_len": 1,
        "block_size": 16,
        "num_gpu_blocks": 1,
        "async_scheduling": True,
        "chunked_prefill": True,
        "prefix_caching": True,
        "tensor_parallel_size": 1,
        "pipeline_parallel_size": 2,
        "data_parallel_size": 1,
        "unsupported": ("PipelineParallel",),
    }
    observed = Contract(mode="observe", ok=True, reason="not tested on real hardware")  # as the plug-in says it
    agent = make_agent(engine={"facts": facts, "contract": observed})
    verdict = verdicts.judge_tuning(make_spec(), 3, {"chat-a": agent}, {})

    assert (verdict.status, verdict.reason) == (False, "UnsupportedPipelineParallel")
    assert verdict.message == "pod chat-a: rank 0: advice only with PipelineParallel"
    unknown = make_agent(engine={"facts": facts, "contract": Contract(mode="observe", ok=False, reason="no attribute")})
    verdict = verdicts.judge_tuning(make_spec(), 3, {"chat-a": unknown}, {})
    assert (verdict.reason, verdict.message) == ("EngineUnsupported", "pod chat-a: rank 0: no attribute")


def test_without_engines_nothing_is_known_of_tuning(make_spec: MakeSpec) -> None:
    assert verdicts.judge_tuning(make_spec(), 3, {}, {}).status is None
    assert verdicts.judge_tuning(make_spec(), 3, {}, {"chat-a": "no answer"}).reason == "AgentUnreachable"


def target(met: bool | None) -> TargetStatus:
    return TargetStatus(observed=None if met is None else "1s", target="2s", met=met)


@pytest.mark.parametrize(
    ("sla", "requests", "busy", "expected"),
    [
        (SLAStatus(), 5, False, (None, "NoTargets")),
        (SLAStatus(time_to_first_token=target(True)), 5, False, (True, "TargetsMet")),
        (
            SLAStatus(time_to_first_token=target(True), inter_token_latency=target(False)),
            5,
            False,
            (False, "TargetMissed"),
        ),
        (SLAStatus(time_to_first_token=target(True), inter_token_latency=target(None)), 5, False, (True, "TargetsMet")),
        (SLAStatus(time_to_first_token=target(None)), 0, False, (None, "NoTraffic")),
        (SLAStatus(time_to_first_token=target(None)), 0, True, (None, "Measuring")),
    ],
)
def test_the_sla_is_met_missed_or_unknown(
    sla: SLAStatus, requests: int, busy: bool, expected: tuple[bool | None, str], make_spec: MakeSpec
) -> None:
    verdict = verdicts.judge_sla(make_spec().sla, sla, requests, busy)

    assert (verdict.status, verdict.reason) == expected


def test_a_missed_target_is_said_with_its_percentile(make_spec: MakeSpec) -> None:
    targets = make_spec(sla={"interTokenLatency": {"percentile": 99, "target": "50ms"}}).sla
    found = SLAStatus(inter_token_latency=TargetStatus(observed="61ms", target="50ms", met=False))

    assert verdicts.judge_sla(targets, found, 5, False).message == "interTokenLatency 61ms at p99, target 50ms"


def test_one_engine_that_cannot_be_helped_saturates_the_resource(make_agent: MakeAgent) -> None:
    verdict = verdicts.judge_saturated({"a": make_agent(), "b": make_agent(engine={"saturated": True})})

    assert (verdict.status, verdict.reason) == (True, "MoreReplicasNeeded")
    assert verdict.message.startswith("1 of 2 engines (b/0): a target is missed")
    assert verdicts.judge_saturated({"a": make_agent()}).status is False
    assert verdicts.judge_saturated({}).status is None


@pytest.mark.parametrize(("feasible", "expected"), [(None, None), (True, True), (False, False)])
def test_feasibility_is_what_agents_say(feasible: bool | None, expected: bool | None, make_agent: MakeAgent) -> None:
    assert verdicts.judge_feasible({"a": make_agent(engine={"sla_feasible": feasible})}).status is expected


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (["nvml"], (True, "NVML")),
        (["nvml", "relay"], (True, "Relay")),
        (["nvml", "none"], (False, "NoSource")),
        ([], (None, "NoEngines")),
    ],
)
def test_gpu_telemetry_names_its_source(
    sources: list[str], expected: tuple[bool | None, str], make_agent: MakeAgent
) -> None:
    agents = {f"p{number}": make_agent(gpu=GPUSource(source=source)) for number, source in enumerate(sources)}
    verdict = verdicts.judge_gpu(agents)

    assert (verdict.status, verdict.reason) == expected


@pytest.mark.parametrize(
    ("silent", "expected"),
    [
        ({}, "answers from 1 agent"),
        ({"b": "refused"}, "no answer from 1 of 2 agents: pod b: refused"),
        (dict.fromkeys("bcde", "late"), "no answer from 4 of 5 agents: pod b: late; pod c: late; pod d: late"),
    ],
)
def test_agents_are_counted_and_some_of_the_silent_ones_named(
    silent: dict[str, str], expected: str, make_agent: MakeAgent
) -> None:
    assert verdicts.judge_agents({"a": make_agent()}, silent).message == expected


def test_what_is_not_known_is_said_with_why(make_spec: MakeSpec) -> None:
    unknown = (
        verdicts.judge_agents({}, {}),
        verdicts.judge_tuning(make_spec(), 3, {}, {}),
        verdicts.judge_sla(make_spec().sla, SLAStatus(), 0, False),
        verdicts.judge_feasible({}),
        verdicts.judge_saturated({}),
        verdicts.judge_gpu({}),
    )

    assert {verdict.status for verdict in unknown} == {None}
    assert all(verdict.message for verdict in unknown)
