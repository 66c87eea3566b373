"""What a user writes."""

from typing import Annotated, Any, Literal

from pydantic import Field

from llmserving_api.policy import DEFAULT_LAW, LawName, Mode
from llmserving_api.v1alpha1.fields import DNSLabel, Duration, Model, Percentile, Quantity


class SecretKeyRef(Model):
    """A key of a Secret in the resource's namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253, description="name of the Secret.")]
    key: Annotated[str, Field(min_length=1, max_length=253, description="key within the Secret.")] = "token"


class ModelSource(Model):
    """The model to serve."""

    uri: Annotated[
        str,
        Field(
            pattern=r"^(hf|pvc|file)://.+$",
            max_length=512,
            description="uri of the model: hf://org/name (Hugging Face), pvc://claim/path (a volume claim) or file:///path (already in the container).",
        ),
    ]
    name: Annotated[
        str | None,
        Field(max_length=128, min_length=1, description="name clients ask for; the resource's name by default."),
    ] = None
    token_secret_ref: Annotated[
        SecretKeyRef | None, Field(description="tokenSecretRef names the Secret with the hub's access token.")
    ] = None


class EnvVar(Model):
    """An environment variable of the engine."""

    name: Annotated[
        str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128, description="name of the variable.")
    ]
    value: Annotated[str | None, Field(max_length=4096, description="value of the variable.")] = None
    value_from: Annotated[
        dict[str, Any] | None, Field(description="valueFrom as in a pod: secretKeyRef, configMapKeyRef or fieldRef.")
    ] = None


class Resources(Model):
    """Compute resources of the engine's container."""

    limits: Annotated[dict[str, Quantity] | None, Field(max_length=32, description="limits by resource name.")] = None
    requests: Annotated[dict[str, Quantity] | None, Field(max_length=32, description="requests by resource name.")] = (
        None
    )


class Engine(Model):
    """The vLLM container."""

    image: Annotated[
        str, Field(min_length=1, max_length=512, description="image of vLLM, 0.24 or newer; the stock image serves.")
    ]
    args: Annotated[
        list[Annotated[str, Field(max_length=1024)]] | None,
        Field(
            max_length=64,
            description="args are further vLLM flags, one --flag=value each; those the operator owns are refused.",
        ),
    ] = None
    env: Annotated[
        list[EnvVar] | None, Field(max_length=64, description="env of the engine; names the operator owns are refused.")
    ] = None
    resources: Annotated[Resources | None, Field(description="resources of the engine's container.")] = None
    api_key_secret_ref: Annotated[
        SecretKeyRef | None, Field(description="apiKeySecretRef names the Secret with the key that clients must send.")
    ] = None


class LatencyTarget(Model):
    """At most (100 - percentile) % exceed the target."""

    percentile: Annotated[Percentile, Field(description="percentile that must be within the target, 50 to 99.")] = 95
    target: Annotated[Duration, Field(description="target as a duration: 50ms, 2s, 1m.")]


class SLA(Model):
    """Latencies users get. Live: an edit restarts nothing."""

    time_to_first_token: Annotated[
        LatencyTarget | None,
        Field(description="timeToFirstToken from the request's arrival to its first token, queueing included."),
    ] = None
    inter_token_latency: Annotated[
        LatencyTarget | None, Field(description="interTokenLatency between two outputs of a request.")
    ] = None
    end_to_end_latency: Annotated[
        LatencyTarget | None, Field(description="endToEndLatency from the request's arrival to its last token.")
    ] = None
    window: Annotated[Duration, Field(description="window over which the targets are judged.")] = "5m"


class SeqsLimits(Model):
    """Limits of max_num_seqs."""

    min: Annotated[int, Field(ge=1, le=65536, description="min is the least bound the agent may set; live.")] = 8
    max: Annotated[
        int, Field(ge=1, le=65536, description="max is the engine's ceiling; a change restarts pods, rolling.")
    ] = 256


class TokensLimits(Model):
    """Limits of max_num_batched_tokens."""

    min: Annotated[int, Field(ge=1, le=1048576, description="min is the least bound the agent may set; live.")] = 256
    max: Annotated[
        int, Field(ge=1, le=1048576, description="max is the engine's ceiling; a change restarts pods, rolling.")
    ] = 8192


class Batching(Model):
    """How the batch bounds are found. Live but for the maxima."""

    mode: Annotated[
        Mode,
        Field(description="mode: Auto decides and acts, Advise decides and publishes, Off leaves the engine alone."),
    ] = Mode.AUTO
    policy: Annotated[LawName, Field(description="policy is the law that decides.")] = DEFAULT_LAW
    max_num_seqs: Annotated[SeqsLimits, Field(description="maxNumSeqs limits the requests in a batch.")] = SeqsLimits()
    max_num_batched_tokens: Annotated[
        TokensLimits, Field(description="maxNumBatchedTokens limits the tokens of a step.")
    ] = TokensLimits()


class Rollout(Model):
    """How restarting edits reach the pods."""

    max_surge: Annotated[
        int, Field(ge=0, le=64, description="maxSurge is how many pods above replicas may exist; 0 needs no spare GPU.")
    ] = 0
    max_unavailable: Annotated[
        int, Field(ge=0, le=64, description="maxUnavailable is how many pods may be missing meanwhile.")
    ] = 1
    sidecar_upgrade: Annotated[
        Literal["OnRestart", "Rolling"],
        Field(
            description="sidecarUpgrade: OnRestart lets new agents wait for the next restart, Rolling rolls pods at once."
        ),
    ] = "OnRestart"


class NetworkPolicySpec(Model):
    """Who may reach the engine."""

    allow_from: Annotated[
        list[dict[str, Any]] | None,
        Field(max_length=32, description="allowFrom lists NetworkPolicy peers; everybody when absent."),
    ] = None


class LLMServingSpec(Model):
    """Desired state of an LLMServing."""

    model: Annotated[ModelSource, Field(description="model to serve.")]
    engine: Annotated[Engine, Field(description="engine is the vLLM container.")]
    sla: Annotated[SLA, Field(description="sla users get; live.")] = SLA()
    batching: Annotated[Batching, Field(description="batching: how bounds are found.")] = Batching()
    replicas: Annotated[
        int, Field(ge=1, le=1000, description="replicas of the engine; the scale subresource's target.")
    ] = 1
    rollout: Annotated[Rollout, Field(description="rollout of restarting edits.")] = Rollout()
    template: Annotated[
        dict[str, Any] | None,
        Field(
            description="template overrides the pod template, merged by name where lists have names; checked after the merge.",
            json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
        ),
    ] = None
    network_policy: Annotated[
        NetworkPolicySpec | None, Field(description="networkPolicy: who may reach the engine.")
    ] = None


__all__ = ["DNSLabel", "LLMServingSpec"]
