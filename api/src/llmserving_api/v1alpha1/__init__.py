"""Models of the LLMServing resource, version v1alpha1; the CRD is generated from them."""

from llmserving_api.v1alpha1.spec import MAX_NAME_LENGTH, NAME_RULE, LLMServingSpec
from llmserving_api.v1alpha1.status import LLMServingStatus

__all__ = ["MAX_NAME_LENGTH", "NAME_RULE", "LLMServingSpec", "LLMServingStatus"]
