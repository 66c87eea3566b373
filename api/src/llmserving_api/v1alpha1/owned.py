"""Engine flags and environment variables that the operator sets itself, and what to write in the resource instead.

vLLM takes a flag in several spellings: ``--max-num-seqs``, ``--max_num_seqs`` and, as its parser allows abbreviations,
any beginning such as ``--max-num-se`` (``vllm/utils/argparse_utils.py``). All of them are refused.
"""

import re
from dataclasses import dataclass
from typing import Final

from llmserving_api.v1alpha1.rules import Constraint, Rule

ARGUMENT_FORM: Final = "write every flag in its long form as one item, --flag=value, such as --tensor-parallel-size=2"
BEGINNINGS_OF_OWNED: Final = ("--data-parallel-size",)
"""Flags of vLLM that a user may set although an owned flag begins with the same words."""
_NAME: Final = "^--[^=.]*"
_FLAG: Final = f"self.replace('_', '-').find('{_NAME}')"


@dataclass(frozen=True, slots=True)
class OwnedFlags:
    """Flags with one owner in the resource."""

    flags: tuple[str, ...]
    instead: str
    """What to write instead; ends the message of the refusal."""

    @property
    def message(self) -> str:
        """What a user reads."""
        return f"{self.instead}; the operator sets {', '.join(self.flags)}, in every spelling"

    @property
    def rule(self) -> Rule:
        """Over one argument: it is none of the flags, nor the beginning of one."""
        owned = ", ".join(f"'{flag}'" for flag in self.flags)
        known = [name for name in BEGINNINGS_OF_OWNED if any(flag.startswith(name) for flag in self.flags)]
        excepted = "".join(f"{_FLAG} == '{name}' || " for name in known)
        return Rule(
            f"!self.startsWith('--') || {excepted}![{owned}].exists(flag, flag.startsWith({_FLAG}))", self.message
        )


OWNED_FLAGS: Final = (
    OwnedFlags(
        ("--max-num-seqs", "--max-num-active-seqs", "--max-num-batched-tokens", "--max-num-scheduled-tokens"),
        "write spec.batching.maxNumSeqs or spec.batching.maxNumBatchedTokens",
    ),
    OwnedFlags(("--model", "--served-model-name"), "write spec.model.uri or spec.model.name"),
    OwnedFlags(("--hf-token",), "write spec.model.tokenSecretRef"),
    OwnedFlags(("--api-key",), "write spec.engine.apiKeySecretRef"),
    OwnedFlags(("--config",), "write each of the file's flags as an item of spec.engine.args"),
    OwnedFlags(("--scheduler-cls",), "leave it out, LLMServing's plug-in brings its own scheduler"),
    OwnedFlags(("--shutdown-timeout",), "leave it out, stopping engines are drained"),
    OwnedFlags(
        ("--host", "--port", "--uds", "--grpc", "--grpc-port", "--root-path", "--ssl-keyfile", "--ssl-certfile"),
        "leave it out, clients reach the engine through the Service; terminate TLS in front of it",
    ),
    OwnedFlags(
        (
            "--headless",
            "--nnodes",
            "--node-rank",
            "--master-addr",
            "--master-port",
            "--data-parallel-rank",
            "--data-parallel-start-rank",
            "--data-parallel-size-local",
            "--data-parallel-address",
            "--data-parallel-rpc-port",
            "--data-parallel-backend",
            "--data-parallel-hybrid-lb",
            "--data-parallel-external-lb",
            "--data-parallel-multi-port-external-lb",
            "--data-parallel-supervisor-port",
        ),
        "leave it out, an engine is one pod; write spec.replicas for more of them",
    ),
)


class EngineFlag(Constraint):
    """An item of ``engine.args``: a long flag that the operator does not set."""

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The form, then one rule for each group of owned flags, so that the message names the right field."""
        return (Rule("self.matches('^--[a-zA-Z]')", ARGUMENT_FORM), *(owned.rule for owned in OWNED_FLAGS))

    def refusal(self, value: str) -> str | None:
        """The same, in the same order."""
        if re.match("--[a-zA-Z]", value) is None:
            return ARGUMENT_FORM
        match = re.match(_NAME, value.replace("_", "-"))
        flag = match.group() if match else value
        if flag in BEGINNINGS_OF_OWNED:
            return None
        return next(
            (owned.message for owned in OWNED_FLAGS if any(name.startswith(flag) for name in owned.flags)), None
        )


@dataclass(frozen=True, slots=True)
class OwnedVariables:
    """Variables with one advice."""

    names: tuple[str, ...]
    instead: str
    """What to do instead; begins the message of the refusal."""

    @property
    def message(self) -> str:
        """What a user reads."""
        return f"{self.instead}; the operator owns {', '.join(self.names)}"


OWNED_VARIABLES: Final = (
    OwnedVariables(("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"), "write spec.model.tokenSecretRef"),
    OwnedVariables(("VLLM_API_KEY",), "write spec.engine.apiKeySecretRef"),
    OwnedVariables(("HOME",), "leave it out, the engine gets a writable home"),
    OwnedVariables(("VLLM_PORT", "VLLM_HOST_IP"), "leave it out, the operator chooses address and ports"),
    OwnedVariables(("VLLM_PLUGINS",), "leave it out, vLLM would not load LLMServing's plug-in"),
    OwnedVariables(
        ("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH"),
        "leave it out, LLMServing's plug-in comes in through PYTHONPATH",
    ),
)
OWNED_PREFIX: Final = "LLMSERVING_"


class VariableName(Constraint):
    """Name of an environment variable that the operator does not set."""

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The form, the prefix, then one rule for each advice."""
        return (
            Rule("self.matches('^[A-Za-z_][A-Za-z0-9_]*$')", self._FORM),
            Rule(f"!self.startsWith('{OWNED_PREFIX}')", self._PREFIX),
            *(Rule(f"!(self in {list(owned.names)})", owned.message) for owned in OWNED_VARIABLES),
        )

    def refusal(self, value: str) -> str | None:
        """The same."""
        if re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", value, re.ASCII) is None:
            return self._FORM
        if value.startswith(OWNED_PREFIX):
            return self._PREFIX
        return next((owned.message for owned in OWNED_VARIABLES if value in owned.names), None)

    _FORM: Final = "write the name of a variable: letters, digits and _, not beginning with a digit"
    _PREFIX: Final = f"leave it out, names that begin with {OWNED_PREFIX} are the operator's"
