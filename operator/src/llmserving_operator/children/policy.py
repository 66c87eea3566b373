"""The policy document and the ConfigMap that seeds new pods with it."""

from llmserving_api.policy import AskedLimits, Policy, Target, Targets
from llmserving_api.v1alpha1 import LLMServingSpec
from llmserving_api.v1alpha1.fields import duration_seconds
from llmserving_api.v1alpha1.spec import LatencyTarget
from llmserving_operator.children.identity import Identity, Manifest, metadata
from llmserving_operator.children.volumes import POLICY_KEY


def build_policy(owner: Identity, spec: LLMServingSpec) -> Policy:
    """What the resource asks of its agents."""
    batching = spec.batching
    seqs, tokens = batching.max_num_seqs, batching.max_num_batched_tokens
    return Policy(
        revision=owner.generation,
        namespace=owner.namespace,
        name=owner.name,
        mode=batching.mode,
        law=batching.policy,
        sla=Targets(
            time_to_first_token=_target(spec.sla.time_to_first_token),
            inter_token_latency=_target(spec.sla.inter_token_latency),
            end_to_end_latency=_target(spec.sla.end_to_end_latency),
            window_seconds=duration_seconds(spec.sla.window),
        ),
        max_num_seqs=AskedLimits(min=seqs.min, max=seqs.max),
        max_num_batched_tokens=AskedLimits(min=tokens.min, max=tokens.max),
    )


def policy_text(policy: Policy) -> str:
    """The document as it is delivered: one line of JSON."""
    return policy.model_dump_json()


def build_policy_config_map(owner: Identity, document: str) -> Manifest:
    """The ConfigMap that new pods start from."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(owner, owner.policy_config_map),
        "data": {POLICY_KEY: document},
    }


def _target(target: LatencyTarget | None) -> Target | None:
    if target is None:
        return None
    return Target(percentile=target.percentile, target_seconds=duration_seconds(target.target))
