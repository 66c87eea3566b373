"""What the operator reports."""

from typing import Annotated, Literal

from pydantic import Field

from llmserving_api.v1alpha1.fields import Model
from llmserving_api.v1alpha1.rules import Extension, list_map

Text = Annotated[str, Field(max_length=1024)]
Short = Annotated[str, Field(max_length=256)]


class Condition(Model):
    """A condition as in Kubernetes' API conventions."""

    type: Annotated[Short, Field(description="type of the condition.")]
    status: Annotated[Literal["True", "False", "Unknown"], Field(description="status of the condition.")]
    observed_generation: Annotated[int | None, Field(description="observedGeneration the condition was set for.")] = (
        None
    )
    last_transition_time: Annotated[
        Short, Field(description="lastTransitionTime when the status last changed."), Extension({"format": "date-time"})
    ]
    reason: Annotated[Short, Field(description="reason in one word.")]
    message: Annotated[Annotated[str, Field(max_length=32768)], Field(description="message for people.")] = ""


class TargetStatus(Model):
    """One target and how it is kept."""

    observed: Annotated[
        Short | None, Field(description="observed latency at the target's percentile, as a duration.")
    ] = None
    target: Annotated[Short, Field(description="target as in the spec.")]
    met: Annotated[bool | None, Field(description="met over the window; absent without traffic.")] = None


class SLAStatus(Model):
    """The SLA and how it is kept."""

    time_to_first_token: Annotated[TargetStatus | None, Field(description="timeToFirstToken: observed and target.")] = (
        None
    )
    inter_token_latency: Annotated[
        TargetStatus | None, Field(description="interTokenLatency: observed and target.")
    ] = None
    end_to_end_latency: Annotated[TargetStatus | None, Field(description="endToEndLatency: observed and target.")] = (
        None
    )
    attainment: Annotated[
        Short | None, Field(description="attainment: share of good requests over the window, in percent.")
    ] = None


class BoundsStatus(Model):
    """A pair of bounds."""

    max_num_seqs: Annotated[int, Field(description="maxNumSeqs of the pair.")]
    max_num_batched_tokens: Annotated[int, Field(description="maxNumBatchedTokens of the pair.")]


class DecisionStatus(Model):
    """A decision of an agent."""

    time: Annotated[Short, Field(description="time of the decision.")]
    engine: Annotated[Short, Field(description="engine: pod and rank.")]
    reason: Annotated[Short, Field(description="reason in one word.")]
    message: Annotated[Text, Field(description="message for people.")] = ""
    before: Annotated[BoundsStatus | None, Field(description="before the decision.")] = None
    after: Annotated[BoundsStatus, Field(description="after the decision.")]


class BatchingStatus(Model):
    """The live bounds."""

    bounds: Annotated[
        Short | None,
        Field(
            description="bounds in force: maxNumSeqs / maxNumBatchedTokens, ranges when engines differ; under Predictive "
            "the most a step may hold."
        ),
    ] = None
    max_num_seqs: Annotated[Short | None, Field(description="maxNumSeqs in force, a range when engines differ.")] = None
    max_num_batched_tokens: Annotated[
        Short | None, Field(description="maxNumBatchedTokens in force, a range when engines differ.")
    ] = None
    policy: Annotated[Short | None, Field(description="policy that decides.")] = None
    last_decision: Annotated[DecisionStatus | None, Field(description="lastDecision of any agent.")] = None
    history: Annotated[
        tuple[DecisionStatus, ...],
        Field(max_length=10, description="history of decisions that changed bounds, newest first."),
    ] = ()


class EngineStatus(Model):
    """One engine rank."""

    pod: Annotated[Short, Field(description="pod of the engine.")]
    rank: Annotated[int, Field(description="rank of the engine in its pod.")]
    reachable: Annotated[bool, Field(description="reachable by its agent.")]
    message: Annotated[Text, Field(description="message when something is wrong.")] = ""
    requested: Annotated[BoundsStatus | None, Field(description="requested bounds.")] = None
    applied: Annotated[BoundsStatus | None, Field(description="applied bounds: set in the scheduler.")] = None
    effective: Annotated[BoundsStatus | None, Field(description="effective bounds: seen to be kept.")] = None
    policy_revision: Annotated[int | None, Field(description="policyRevision the agent acts on.")] = None


class LLMServingStatus(Model):
    """Observed state of an LLMServing."""

    conditions: Annotated[
        tuple[Condition, ...], Field(max_length=32, description="conditions of the resource."), list_map("type")
    ] = ()
    observed_generation: Annotated[int | None, Field(description="observedGeneration the status was written for.")] = (
        None
    )
    sla: Annotated[SLAStatus | None, Field(description="sla: targets and what is observed.")] = None
    batching: Annotated[BatchingStatus | None, Field(description="batching: live bounds and decisions.")] = None
    engines: Annotated[
        tuple[EngineStatus, ...],
        Field(max_length=32, description="engines, one entry for each pod and rank."),
        list_map("pod", "rank"),
    ] = ()
    replicas: Annotated[int, Field(description="replicas that exist.")] = 0
    ready_replicas: Annotated[int, Field(description="readyReplicas among them.")] = 0
    selector: Annotated[Short | None, Field(description="selector of the pods, for the scale subresource.")] = None
    url: Annotated[Text | None, Field(description="url of the service inside the cluster.")] = None
    kv_usage: Annotated[Short | None, Field(description="kvUsage of the fullest engine, in percent.")] = None
