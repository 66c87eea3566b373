"""The class of a request, as its client said it: ``"vllm_xargs": {"llmserving_class": "batch"}`` in the body.

vLLM's server hands ``vllm_xargs`` to the engine as the ``extra_args`` of the sampling parameters. Whatever stands there,
no request is refused for it.
"""

from typing import Any, Final

from llmserving_engine.telemetry import RequestClass

KEY: Final = "llmserving_class"
_BY_NAME: Final = {"interactive": RequestClass.INTERACTIVE, "batch": RequestClass.BATCH}


def class_of(request: Any) -> RequestClass:
    """The class of vLLM's ``Request``: interactive unless it says otherwise."""
    parameters = getattr(request, "sampling_params", None)  # None for pooling
    arguments = getattr(parameters, "extra_args", None)
    if not isinstance(arguments, dict) or KEY not in arguments:
        return RequestClass.INTERACTIVE
    name = arguments[KEY]
    return _BY_NAME.get(name, RequestClass.UNKNOWN) if isinstance(name, str) else RequestClass.UNKNOWN
