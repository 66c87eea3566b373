"""The plug-in's control API, asked over its Unix socket."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any

TIMEOUT_SECONDS = 30.0


class ControlError(RuntimeError):
    """The control API refused, or is not there; the message says what it answered."""


def call_control(path: Path, method: str, target: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """One call.

    Args:
        path: The socket.
        method: GET or PATCH.
        target: For example `/v1/runtime_config`.
        body: Document of a PATCH.

    Raises:
        ControlError: there is no answer, or not one of status 200.
    """
    connection = http.client.HTTPConnection("engine")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(TIMEOUT_SECONDS)
    try:
        connection.sock.connect(str(path))
        connection.request(method, target, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        text = answer.read()
    except OSError as error:
        raise ControlError(f"{path}: {error}") from None
    finally:
        connection.close()
    if answer.status != 200:
        raise ControlError(f"{method} {target}: HTTP {answer.status}: {text.decode(errors='replace')[:500]}")
    document: dict[str, Any] = json.loads(text)
    return document
