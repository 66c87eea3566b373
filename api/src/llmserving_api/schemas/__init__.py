"""JSON schemas of the documents between the parts, generated from the models for programs in any language.

The control API is spoken between the agent and the engine's plug-in, the policy between operator and agent, the status
between agent and operator.
"""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from llmserving_api.control import ControlError, DeviceReport, RuntimeConfig, RuntimePatch
from llmserving_api.policy import Policy
from llmserving_api.status import AgentStatus

DOCUMENTS: Final[Mapping[str, type[BaseModel]]] = {
    "runtime-config": RuntimeConfig,
    "runtime-patch": RuntimePatch,
    "control-error": ControlError,
    "device-report": DeviceReport,
    "policy": Policy,
    "agent-status": AgentStatus,
}
"""File name without its ending, and the model behind it."""
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def document_schema(name: str) -> dict[str, Any]:
    """The JSON schema of one document."""
    return {"$schema": DIALECT, **DOCUMENTS[name].model_json_schema()}
