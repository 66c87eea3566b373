"""From the policy and the engine's document to what a law decides within. Pure."""

from llmserving_agent.laws.protocol import Setting, clamped
from llmserving_agent.sensors.ports import FrontEndShare
from llmserving_agent.signals.attainment import JudgeBy
from llmserving_api.control import Bounds, ContractMode, RuntimeConfig
from llmserving_api.policy import Mode, Policy, Target

LEAST_SHARE_LEFT = 0.5
"""However long the front end takes, the scheduler is given at least this share of a target: less would stop it."""


def setting_of(policy: Policy, config: RuntimeConfig, share: FrontEndShare) -> Setting:
    """Targets as the scheduler must meet them and limits within the engine's ceilings."""
    targets = judge_by(policy, share)
    seqs = policy.max_num_seqs.within(config.ceilings.max_num_seqs)
    tokens = policy.max_num_batched_tokens.within(config.ceilings.max_num_batched_tokens)
    return Setting(
        ttft=targets.ttft,
        itl=targets.itl,
        e2e=targets.e2e,
        max_num_seqs=seqs,
        max_num_batched_tokens=tokens,
        stock=Bounds(
            max_num_seqs=clamped(config.stock.max_num_seqs, seqs),
            max_num_batched_tokens=clamped(config.stock.max_num_batched_tokens, tokens),
        ),
        graph_sizes=tuple(sorted(config.engine.cudagraph_capture_sizes)),
    )


def judge_by(policy: Policy, share: FrontEndShare) -> JudgeBy:
    """The policy's targets at the engine, the front end's share deducted."""
    return JudgeBy(
        ttft=_deducted(policy.sla.time_to_first_token, share.seconds),
        itl=policy.sla.inter_token_latency,
        e2e=_deducted(policy.sla.end_to_end_latency, share.seconds),
    )


def in_force(config: RuntimeConfig) -> Bounds:
    """The bounds to go on from: those asked for, or where an expired lease has taken the engine meanwhile."""
    return config.applied if config.lease.expired and config.step > 0 else config.requested


def is_observe_only(config: RuntimeConfig) -> bool:
    """Whether the plug-in refuses control because vLLM's scheduler is not as it expects."""
    return config.contract.mode is ContractMode.OBSERVE


def runs_no_planner(config: RuntimeConfig) -> bool:
    """Whether the plug-in obeys bounds at most: an older vLLM, a planner that failed, or an engine that is only observed."""
    return config.contract.mode is not ContractMode.FULL


def why_advice(policy: Policy, config: RuntimeConfig) -> str:
    """Why decisions are published and not carried out; empty when they are."""
    if config.engine.unsupported and config.contract.ok:
        return f"advice only with {', '.join(config.engine.unsupported)}"
    if is_observe_only(config):
        return f"contract check failed: {config.contract.reason}"
    return "mode Advise" if policy.mode is Mode.ADVISE else ""


def _deducted(target: Target | None, seconds: float) -> Target | None:
    if target is None or seconds <= 0:
        return target
    left = max(target.target_seconds - seconds, LEAST_SHARE_LEFT * target.target_seconds)
    return target.model_copy(update={"target_seconds": left})
