"""What a user writes. The docstrings and descriptions become the CRD's, so they speak to users."""

from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from llmserving_api.policy import DEFAULT_LAW, LawName, Mode
from llmserving_api.v1alpha1.environment import EnvVar
from llmserving_api.v1alpha1.fields import (
    DataKey,
    Model,
    ObjectName,
    Percentile,
    TargetDuration,
    WindowDuration,
)
from llmserving_api.v1alpha1.network import NetworkPolicySpec
from llmserving_api.v1alpha1.owned import EngineFlag
from llmserving_api.v1alpha1.resources import Resources
from llmserving_api.v1alpha1.rules import PRESERVE_UNKNOWN, Form, Rule, list_map

MAX_NAME_LENGTH: Final = 40
"""Longest name of an LLMServing: with suffixes it must fit labels, Services and pod host names (63 characters)."""
NAME_RULE: Final = Rule(
    f"size(self.metadata.name) <= {MAX_NAME_LENGTH} && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    f"metadata.name: write at most {MAX_NAME_LENGTH} characters of a-z, 0-9 and -, beginning with a letter: "
    "the name becomes a Service and a label",
)


ModelURI = Annotated[
    str,
    Field(min_length=1, max_length=512),
    Form(
        r"hf://\w[\w.-]*(/\w[\w.-]*)?|pvc://[a-z0-9]([-.a-z0-9]*[a-z0-9])?(/[\w./-]+)?|file:///[\w./-]+",
        "write hf://org/name (each beginning with a letter, a digit or _), pvc://claim/path or file:///path",
    ),
]
ServedName = Annotated[
    str,
    Field(min_length=1, max_length=128),
    Form(
        r"[A-Za-z0-9]([\w./:-]*[A-Za-z0-9])?", "write a name of letters, digits, -, _, ., : and /, such as llama-3.1-8b"
    ),
]
ImageReference = Annotated[
    str,
    Field(min_length=1, max_length=512),
    Form(r"\w[\w./:@-]*", "write an image reference, such as vllm/vllm-openai:v0.32.0"),
]
EngineArgument = Annotated[str, Field(min_length=1, max_length=1024), EngineFlag()]


class SecretKeyRef(Model):
    """A key of a Secret in the resource's namespace."""

    name: Annotated[ObjectName, Field(description="name of the Secret.")]
    key: Annotated[DataKey, Field(description="key within the Secret.")] = "token"


class ModelSource(Model):
    """The model to serve."""

    uri: Annotated[
        ModelURI,
        Field(
            description="uri of the model: hf://org/name (Hugging Face hub), pvc://claim/path (a volume claim in the "
            "same namespace) or file:///path (already in the container). An edit restarts pods."
        ),
    ]
    name: Annotated[
        ServedName | None,
        Field(description="name clients ask for in requests; the resource's name by default. An edit restarts pods."),
    ] = None
    token_secret_ref: Annotated[
        SecretKeyRef | None,
        Field(description="tokenSecretRef names the Secret with the hub's access token. An edit restarts pods."),
    ] = None


class Engine(Model):
    """The vLLM container. Every edit restarts pods, one after the other."""

    image: Annotated[
        ImageReference,
        Field(description="image of vLLM, 0.24 or newer; the stock image serves, the plug-in comes in beside it."),
    ]
    args: Annotated[
        list[EngineArgument] | None,
        Field(
            max_length=64,
            description="args are further flags of vLLM, one --flag=value each; those the operator sets are refused.",
        ),
    ] = None
    env: Annotated[
        list[EnvVar] | None,
        Field(max_length=64, description="env of the engine; names the operator sets are refused."),
        list_map("name"),
    ] = None
    resources: Annotated[Resources | None, Field(description="resources of the engine's container.")] = None
    api_key_secret_ref: Annotated[
        SecretKeyRef | None, Field(description="apiKeySecretRef names the Secret with the key that clients must send.")
    ] = None


class LatencyTarget(Model):
    """At most (100 - percentile) % of what arrives in the window exceeds the target."""

    percentile: Annotated[Percentile, Field(description="percentile that must be within the target, 50 to 99.")] = 95
    target: Annotated[TargetDuration, Field(description="target as a duration from 1ms to 15m: 50ms, 2s, 1.5m.")]


class SLA(Model):
    """Latencies users get, measured at the pod's HTTP boundary. Live: an edit restarts nothing."""

    time_to_first_token: Annotated[
        LatencyTarget | None,
        Field(description="timeToFirstToken from a request's arrival to its first token, queueing included."),
    ] = None
    inter_token_latency: Annotated[
        LatencyTarget | None,
        Field(description="interTokenLatency between two outputs of a request; several tokens at once are one gap."),
    ] = None
    end_to_end_latency: Annotated[
        LatencyTarget | None, Field(description="endToEndLatency from a request's arrival to its last token.")
    ] = None
    window: Annotated[
        WindowDuration, Field(description="window over which targets are judged, a duration from 10s to 1440m.")
    ] = "5m"


_MIN: Final = "min is the least bound the agent may set; above the engine's ceiling it counts as the ceiling. Live."
_MAX: Final = (
    "max is the engine's ceiling, a start-up flag; without it vLLM's own choice for the card. An edit restarts pods."
)
LEAST_DEFAULT_TOKENS: Final = 2048
"""The fewest tokens of a step that vLLM takes on a GPU where no flag says otherwise."""


class _Limits(Model):
    """A pair of limits; the minimum is live, the maximum is a start-up flag and by default vLLM's own choice."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.max) || self.min <= self.max",
            "min is above max: lower min (it may be the default) or raise max",
        ),
    )

    min: int
    max: int | None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}: lower min or raise max")
        return self


class SeqsLimits(_Limits):
    """Limits of max_num_seqs, the requests in a batch."""

    min: Annotated[int, Field(ge=1, le=65536, description=_MIN)] = 8
    max: Annotated[int | None, Field(ge=1, le=65536, description=_MAX)] = None


class TokensLimits(_Limits):
    """Limits of max_num_batched_tokens, the tokens of a step."""

    min: Annotated[int, Field(ge=1, le=1048576, description=_MIN)] = 256
    max: Annotated[int | None, Field(ge=1, le=1048576, description=_MAX)] = None


_ROOM_FOR_EACH: Final = "every request in a batch needs a token of the step"


class Batching(Model):
    """How the batch bounds are found. Live but for the two maxima."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.maxNumSeqs.max) || !has(self.maxNumBatchedTokens.max) || "
            "self.maxNumBatchedTokens.max >= self.maxNumSeqs.max",
            f"maxNumBatchedTokens.max is below maxNumSeqs.max: {_ROOM_FOR_EACH}; "
            "raise maxNumBatchedTokens.max or lower maxNumSeqs.max",
        ),
        Rule(
            "!has(self.maxNumSeqs.max) || has(self.maxNumBatchedTokens.max) || "
            f"self.maxNumSeqs.max <= {LEAST_DEFAULT_TOKENS}",
            f"maxNumSeqs.max is above {LEAST_DEFAULT_TOKENS}, the tokens of a step on a card for which vLLM chooses few: "
            f"{_ROOM_FOR_EACH}; write maxNumBatchedTokens.max too, at least maxNumSeqs.max, or lower maxNumSeqs.max",
        ),
    )

    mode: Annotated[
        Mode,
        Field(
            description="mode: Auto decides and acts, Advise decides and publishes, Off does neither; without Auto the "
            "engine keeps the bounds stock vLLM would choose, within the limits."
        ),
    ] = Mode.AUTO
    policy: Annotated[
        LawName,
        Field(
            description="policy is the law that decides: Static keeps the ceilings, Memory fills the KV cache, SLA keeps "
            "the latency targets, MemorySLA takes the smaller of both, Predictive learns step times and plans by token "
            "deadlines. Experimental: Wait admits in groups, NestedWait lets long outputs gather too."
        ),
    ] = DEFAULT_LAW
    max_num_seqs: Annotated[SeqsLimits, Field(description="maxNumSeqs limits the requests in a batch.")] = SeqsLimits()
    max_num_batched_tokens: Annotated[
        TokensLimits, Field(description="maxNumBatchedTokens limits the tokens of a step.")
    ] = TokensLimits()

    @model_validator(mode="after")
    def _a_token_for_each(self) -> Self:
        seqs, tokens = self.max_num_seqs.max, self.max_num_batched_tokens.max
        if seqs is None:
            return self
        if tokens is None and seqs > LEAST_DEFAULT_TOKENS:
            raise ValueError(f"maxNumSeqs.max {seqs}: {self.rules[1].message}")
        if tokens is not None and tokens < seqs:
            raise ValueError(f"maxNumBatchedTokens.max {tokens}, maxNumSeqs.max {seqs}: {self.rules[0].message}")
        return self


class Rollout(Model):
    """How edits that restart reach the pods."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.maxSurge > 0 || self.maxUnavailable > 0",
            "maxSurge and maxUnavailable are both 0, so no pod could ever be replaced: raise one of them",
        ),
    )

    max_surge: Annotated[
        int, Field(ge=0, le=64, description="maxSurge is how many pods above replicas may exist; 0 needs no spare GPU.")
    ] = 0
    max_unavailable: Annotated[
        int, Field(ge=0, le=64, description="maxUnavailable is how many pods may be missing meanwhile.")
    ] = 1
    sidecar_upgrade: Annotated[
        Literal["OnRestart", "Rolling"],
        Field(
            description="sidecarUpgrade: OnRestart lets a new agent wait for the next restart, Rolling rolls pods now."
        ),
    ] = "OnRestart"

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.max_surge == 0 and self.max_unavailable == 0:
            raise ValueError(self.rules[0].message)
        return self


class LLMServingSpec(Model):
    """Desired state of an LLMServing."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.batching.policy != 'NestedWait' || !has(self.sla.interTokenLatency)",
            "policy NestedWait parks running requests, which makes long gaps between tokens: remove "
            "sla.interTokenLatency or choose another policy",
        ),
    )

    model: Annotated[ModelSource, Field(description="model to serve.")]
    engine: Annotated[Engine, Field(description="engine is the vLLM container.")]
    sla: Annotated[SLA, Field(description="sla: latencies users get. Live: an edit restarts nothing.")] = SLA()
    batching: Annotated[
        Batching, Field(description="batching: how the batch bounds are found. Live but for the two maxima.")
    ] = Batching()
    replicas: Annotated[
        int,
        Field(ge=1, le=1000, description="replicas of the engine, the scale subresource's target. Restarts nothing."),
    ] = 1
    paused: Annotated[
        bool, Field(description="paused: while true the operator changes nothing and only reports. Live.")
    ] = False
    rollout: Annotated[Rollout, Field(description="rollout of edits that restart pods.")] = Rollout()
    template: Annotated[
        dict[str, Any] | None,
        Field(
            description="template overrides the pod template (metadata, spec): containers, volumes and the like are "
            "merged by name, the result is checked after the merge. An edit restarts pods.",
        ),
        PRESERVE_UNKNOWN,
    ] = None
    network_policy: Annotated[
        NetworkPolicySpec | None, Field(description="networkPolicy: who may reach the engine. Restarts nothing.")
    ] = None

    @model_validator(mode="after")
    def _no_parking_within_an_itl(self) -> Self:
        parks = self.batching.policy is LawName.NESTED_WAIT
        if parks and self.sla.inter_token_latency is not None:
            raise ValueError(self.rules[0].message)
        return self
