"""Engine flags and environment variables that the operator sets itself, and what to write in the resource instead.

vLLM takes a flag in several spellings: ``--max-num-seqs``, ``--max_num_seqs`` and, as its parser allows abbreviations,
any prefix such as ``--max-num-se`` (``vllm/utils/argparse_utils.py``). All of them are refused.
"""

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class OwnedFlags:
    """Flags with one owner in the resource."""

    flags: tuple[str, ...]
    instead: str
    """What to write instead; ends the message of the refusal."""

    @property
    def message(self) -> str:
        """What a user reads."""
        names = ", ".join(f"--{flag}" for flag in self.flags)
        return f"the operator sets {names} (also with underscores or abbreviated): {self.instead}"

    @property
    def cel(self) -> str:
        """CEL over one argument: true when it is none of the flags."""
        owned = ", ".join(f"'--{flag}'" for flag in self.flags)
        taken = f"[{owned}].exists(flag, flag.startsWith(self.replace('_', '-').find('^--[^=.]*')))"
        longer = [flag for flag in PREFIXES_OF_OWNED if any(owned.startswith(flag) for owned in self.flags)]
        known = "".join(f" || self.replace('_', '-').find('^--[^=.]*') == '--{flag}'" for flag in longer)
        return f"!self.startsWith('--'){known} || !{taken}"


PREFIXES_OF_OWNED: Final = ("data-parallel-size",)
"""Flags of vLLM that a user may set although an owned flag begins with the same words."""

OWNED_FLAGS: Final = (
    OwnedFlags(
        ("max-num-seqs", "max-num-active-seqs", "max-num-batched-tokens", "max-num-scheduled-tokens"),
        "write spec.batching.maxNumSeqs and spec.batching.maxNumBatchedTokens instead",
    ),
    OwnedFlags(
        ("model", "served-model-name", "hf-token"),
        "write spec.model.uri, spec.model.name and spec.model.tokenSecretRef instead",
    ),
    OwnedFlags(("api-key",), "write spec.engine.apiKeySecretRef instead"),
    OwnedFlags(("config",), "write each of the file's flags as an item of spec.engine.args instead"),
    OwnedFlags(("scheduler-cls",), "leave it out, the bounds are kept by LLMServing's own scheduler plug-in"),
    OwnedFlags(
        ("host", "port", "uds", "grpc", "grpc-port", "root-path", "ssl-keyfile", "ssl-certfile"),
        "leave it out, clients reach the engine through the Service on port 80; terminate TLS in front of it",
    ),
    OwnedFlags(
        (
            "headless",
            "nnodes",
            "node-rank",
            "master-addr",
            "master-port",
            "data-parallel-rank",
            "data-parallel-start-rank",
            "data-parallel-size-local",
            "data-parallel-address",
            "data-parallel-rpc-port",
            "data-parallel-backend",
            "data-parallel-hybrid-lb",
            "data-parallel-external-lb",
            "data-parallel-multi-port-external-lb",
            "data-parallel-supervisor-port",
        ),
        "leave it out, an engine is one pod; write spec.replicas for more of them",
    ),
)

ARGUMENT_FORM: Final = "write every flag in its long form as one item, --flag=value, such as --tensor-parallel-size=2"

OWNED_ENV_PATTERN: Final = (
    r"^(LLMSERVING_.*|PYTHONPATH|PYTHONHOME|VLLM_PLUGINS|VLLM_API_KEY|VLLM_PORT|VLLM_HOST_IP|"
    r"HF_TOKEN|HUGGING_FACE_HUB_TOKEN)$"
)
OWNED_ENV_MESSAGE: Final = (
    "the operator sets LLMSERVING_*, PYTHONPATH, PYTHONHOME, VLLM_PLUGINS, VLLM_PORT, VLLM_HOST_IP, VLLM_API_KEY (write "
    "spec.engine.apiKeySecretRef instead) and HF_TOKEN (write spec.model.tokenSecretRef instead): leave them out of "
    "spec.engine.env"
)


def refusal_of_argument(argument: str) -> str | None:
    """Why an item of ``engine.args`` is refused; None when it is fine."""
    if not argument.startswith("--"):
        return f"{argument!r}: {ARGUMENT_FORM}"
    match = re.match(r"--[^=.]*", argument.replace("_", "-"))
    flag = match.group() if match else argument
    if flag.removeprefix("--") in PREFIXES_OF_OWNED:
        return None
    for owned in OWNED_FLAGS:
        if any(f"--{name}".startswith(flag) for name in owned.flags):
            return f"{argument!r}: {owned.message}"
    return None


def refusal_of_variable(name: str) -> str | None:
    """Why a name in ``engine.env`` is refused; None when it is fine."""
    return f"{name}: {OWNED_ENV_MESSAGE}" if re.match(OWNED_ENV_PATTERN, name) else None
