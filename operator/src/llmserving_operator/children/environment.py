"""Environment of the engine's container.

The resource's schema and models already refuse variables that the operator owns (``llmserving_api.v1alpha1.owned``).
"""

from llmserving_api import names
from llmserving_api.v1alpha1 import LLMServingSpec
from llmserving_api.v1alpha1.spec import SecretKeyRef
from llmserving_operator.children.identity import Manifest
from llmserving_operator.children.volumes import HOME


def build_environment(spec: LLMServingSpec) -> list[Manifest]:
    """The operator's variables and the user's; Python looks into ``PYTHONPATH`` before the image's own packages."""
    variables: list[Manifest] = [
        {"name": names.ENV_CONTROL_DIR, "value": names.PATH_CONTROL},
        {"name": "PYTHONPATH", "value": names.PATH_PLUGIN},
        {"name": "HOME", "value": HOME},
    ]
    if spec.model.token_secret_ref is not None:
        variables.append(_secret("HF_TOKEN", spec.model.token_secret_ref))
    if spec.engine.api_key_secret_ref is not None:
        variables.append(_secret("VLLM_API_KEY", spec.engine.api_key_secret_ref))
    return [*variables, *(variable.manifest() for variable in spec.engine.env or ())]


def _secret(name: str, reference: SecretKeyRef) -> Manifest:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": reference.name, "key": reference.key}}}
