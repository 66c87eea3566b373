"""Settings of the agent's process, from flags and the environment. Flags win."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llmserving_api.names import ENV_CONTROL_DIR, PATH_CONTROL, PATH_POLICY, PORT_AGENT, PORT_ENGINE

ENV_POLICY_DIR = "LLMSERVING_POLICY_DIR"
ENV_HOST = "LLMSERVING_AGENT_HOST"
ENV_PORT = "LLMSERVING_AGENT_PORT"
ENV_ENGINE_METRICS = "LLMSERVING_ENGINE_METRICS"
ENV_LOG_FORMAT = "LLMSERVING_LOG_FORMAT"
LOG_FORMATS = ("json", "console")


class SettingsError(ValueError):
    """A setting is not usable; the message names it, its value and what would be right."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How one agent process runs.

    Attributes:
        control_dir: Folder with the engines' sockets and telemetry rings.
        policy_dir: Folder with the policy documents.
        host: Address the agent's HTTP listens on.
        port: Its port.
        engine_metrics: vLLM's own metrics, for the front end's share; empty: not measured.
        log_format: ``json`` or ``console``.
    """

    control_dir: Path = Path(PATH_CONTROL)
    policy_dir: Path = Path(PATH_POLICY)
    host: str = "0.0.0.0"  # noqa: S104  scraped and polled from outside the pod
    port: int = PORT_AGENT
    engine_metrics: str = f"http://127.0.0.1:{PORT_ENGINE}/metrics"
    log_format: str = "json"


def add_flags(parser: ArgumentParser) -> None:
    """Declare the flags of ``run`` and ``supervise``."""
    default = Settings()
    parser.add_argument("--control-dir", help=f"sockets and telemetry rings [{ENV_CONTROL_DIR}, {default.control_dir}]")
    parser.add_argument("--policy-dir", help=f"policy documents [{ENV_POLICY_DIR}, {default.policy_dir}]")
    parser.add_argument("--host", help=f"address to listen on [{ENV_HOST}, {default.host}]")
    parser.add_argument("--port", help=f"port to listen on [{ENV_PORT}, {default.port}]")
    parser.add_argument(
        "--engine-metrics",
        help=f"vLLM's own metrics, for the front end's share; empty turns it off [{ENV_ENGINE_METRICS}, "
        f"{default.engine_metrics}]",
    )
    parser.add_argument("--log-format", help=f"json or console [{ENV_LOG_FORMAT}, {default.log_format}]")


def load_settings(flags: Namespace, environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from flags, else the environment, else defaults.

    Raises:
        SettingsError: a value cannot be used.
    """
    default = Settings()

    def chosen(flag: str, variable: str, otherwise: str) -> str:
        given: str | None = getattr(flags, flag)
        return given if given is not None else environment.get(variable, otherwise)

    port = chosen("port", ENV_PORT, str(default.port))
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise SettingsError(f"--port {port!r}: a port from 1 to 65535 is needed")
    log_format = chosen("log_format", ENV_LOG_FORMAT, default.log_format)
    if log_format not in LOG_FORMATS:
        raise SettingsError(f"--log-format {log_format!r}: one of {', '.join(LOG_FORMATS)} is needed")
    metrics = chosen("engine_metrics", ENV_ENGINE_METRICS, default.engine_metrics)
    if metrics and not metrics.startswith(("http://", "https://")):
        raise SettingsError(
            f"--engine-metrics {metrics!r}: a URL such as {default.engine_metrics}, or empty, is needed"
        )
    return Settings(
        control_dir=Path(chosen("control_dir", ENV_CONTROL_DIR, str(default.control_dir))),
        policy_dir=Path(chosen("policy_dir", ENV_POLICY_DIR, str(default.policy_dir))),
        host=chosen("host", ENV_HOST, default.host),
        port=int(port),
        engine_metrics=metrics,
        log_format=log_format,
    )
