"""Configuration of the operator's process: read once from the environment, then passed on."""

import socket
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from llmserving_api.names import PORT_OPERATOR
from llmserving_operator.errors import SettingsError

PREFIX: Final = "LLMSERVING_OPERATOR_"


class TemplatePolicy(StrEnum):
    """What a resource's pod-template override may do."""

    RESTRICTED = "Restricted"
    """No privilege, no host access, no secret it does not name itself, no touch of the agent."""
    UNRESTRICTED = "Unrestricted"
    """Anything: whoever may create an LLMServing may then create any pod. An administrator's choice."""


def _split(text: object) -> object:
    return tuple(part.strip() for part in text.split(",") if part.strip()) if isinstance(text, str) else text


class Settings(BaseModel):
    """Every field is read from the environment variable ``LLMSERVING_OPERATOR_<FIELD>``."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    agent_image: str
    """Image of the agent, such as llmserving/agent:0.1.0."""
    plugin_image: str = ""
    """Image that carries the engine's plug-in; the agent's image when empty."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """Of the agent and the plug-in."""
    namespaces: Annotated[tuple[str, ...], BeforeValidator(_split)] = ()
    """Namespaces to serve, separated by commas; all when empty."""
    template_policy: TemplatePolicy = TemplatePolicy.RESTRICTED
    """What a resource's template may do: Restricted or Unrestricted."""
    agent_cpu: str = "200m"
    """CPU request and limit of the agent."""
    agent_memory: str = "192Mi"
    """Memory request and limit of the agent."""
    shm_size: str = "8Gi"
    """Size limit of the engine's /dev/shm; used memory counts against the pod's."""
    drain_seconds: Annotated[int, Field(ge=0, le=3600)] = 90
    """How long a stopping engine may finish its running requests."""
    poll_seconds: Annotated[float, Field(ge=0.1, le=60)] = 3.0
    """How often agents are asked while nothing changes."""
    settle_poll_seconds: Annotated[float, Field(ge=0.1, le=60)] = 0.5
    """How often agents are asked while an edit is on its way."""
    workers: Annotated[int, Field(ge=1, le=256)] = 8
    """Resources reconciled at the same time."""
    port: Annotated[int, Field(ge=0, le=65535)] = PORT_OPERATOR
    """Port of /healthz, /readyz and /metrics."""
    bind: str = "0.0.0.0"  # noqa: S104  # probes and Prometheus come from outside the pod
    """Address of the same."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """debug, info, warning or error."""
    log_format: Literal["json", "console"] = "json"
    """json, or console for people."""
    lease_namespace: str = ""
    """Namespace of the Lease that lets one replica act; empty: no election, for development."""
    lease_name: str = "llmserving-operator"
    """Name of that Lease."""
    identity: str = ""
    """Holder of the Lease; the pod's name by default."""

    @property
    def plugin_source(self) -> str:
        """Image that the plug-in is copied from."""
        return self.plugin_image or self.agent_image


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Settings from environment variables.

    Raises:
        SettingsError: a variable is missing, unknown or malformed; the message names it.
    """
    values = {key.removeprefix(PREFIX).lower(): value for key, value in environment.items() if key.startswith(PREFIX)}
    try:
        return Settings.model_validate({"identity": socket.gethostname(), **values})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        variable = PREFIX + str(first["loc"][0]).upper()
        if first["type"] == "missing":
            words = Settings.model_fields[str(first["loc"][0])].description
            raise SettingsError(f"{variable}: not set; it must be: {words}") from error
        if first["type"] == "extra_forbidden":
            known = ", ".join(PREFIX + field.upper() for field in Settings.model_fields)
            raise SettingsError(f"{variable}: no such setting; there are {known}") from error
        raise SettingsError(f"{variable}: {first['input']!r}: {first['msg']}") from error


def describe_settings() -> str:
    """Every variable with its meaning and default, for people."""
    lines = []
    for name, field in Settings.model_fields.items():
        default = "required" if field.is_required() else f"default: {_plain(field.default)}"
        lines.append(f"{PREFIX}{name.upper()}\n    {field.description} [{default}]")
    return "\n".join(lines)


def _plain(default: object) -> str:
    return str(default) if default not in ("", ()) else "empty"
