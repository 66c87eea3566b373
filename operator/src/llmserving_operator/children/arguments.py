"""Command line of vLLM: the operator's flags, then the user's.

The resource's schema and models already refuse flags that the operator owns (``llmserving_api.v1alpha1.owned``).
"""

from typing import Final

from llmserving_api import names
from llmserving_api.v1alpha1 import LLMServingSpec
from llmserving_api.v1alpha1.spec import Batching

MODEL_PATH: Final = "/models"
"""Where the volume claim of a ``pvc://`` model is mounted, read-only."""


def model_argument(uri: str) -> str:
    """What vLLM is told to load: a hub name, or a path inside the container."""
    scheme, _, rest = uri.partition("://")
    if scheme == "hf":
        return rest
    if scheme == "pvc":
        _claim, _, path = rest.partition("/")
        return f"{MODEL_PATH}/{path}".rstrip("/")
    return "/" + rest.lstrip("/")


def build_arguments(name: str, spec: LLMServingSpec, drain_seconds: int) -> list[str]:
    """Arguments of ``vllm serve``: the model, then flags as ``--flag=value``, the user's last so that they win.

    The maxima of ``batching`` are the engine's ceilings: the live bounds move below them. vLLM sets memory aside for the
    largest step they allow and knows best what a card can spare, so those that the resource does not name are left to it.
    """
    return [
        model_argument(spec.model.uri),
        f"--served-model-name={spec.model.name or name}",
        "--host=0.0.0.0",
        f"--port={names.PORT_ENGINE}",
        *_ceilings(spec.batching),
        "--enable-chunked-prefill",
        f"--shutdown-timeout={drain_seconds}",
        *(spec.engine.args or ()),
    ]


def _ceilings(batching: Batching) -> list[str]:
    maxima = {
        "--max-num-seqs": batching.max_num_seqs.max,
        "--max-num-batched-tokens": batching.max_num_batched_tokens.max,
    }
    return [f"{flag}={maximum}" for flag, maximum in maxima.items() if maximum is not None]
