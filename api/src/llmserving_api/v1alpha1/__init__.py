"""Models of the LLMServing resource, version v1alpha1; the CRD is generated from them."""

from llmserving_api.v1alpha1.spec import LLMServingSpec
from llmserving_api.v1alpha1.status import LLMServingStatus

__all__ = ["LLMServingSpec", "LLMServingStatus"]
