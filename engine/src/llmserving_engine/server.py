"""The control API's HTTP server: a Unix socket, a few threads beside the engine, never in its way.

Small on purpose: standard library, one JSON body per answer, bounded in body size, time and connections.
"""

import contextlib
import json
import logging
import socketserver
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final

from llmserving_engine import device
from llmserving_engine.changes import ControlError
from llmserving_engine.control import ControlState
from llmserving_engine.health import Heartbeat

PATH_RUNTIME_CONFIG: Final = "/v1/runtime_config"
PATH_DEVICE: Final = "/v1/device"
PATH_HEALTH: Final = "/healthz"
MAX_BODY_BYTES: Final = 1 << 20
TIMEOUT_SECONDS: Final = 5.0
MAX_CONNECTIONS: Final = 16
SOCKET_MODE: Final = 0o660

logger = logging.getLogger(__name__)


class ControlServer:
    """Serves one engine rank's control API from daemon threads."""

    def __init__(self, path: Path, control: ControlState, heartbeat: Heartbeat, runnable: Callable[[], bool]) -> None:
        """Bind the socket (mode 0660), in place of one a dead engine left.

        Args:
            path: The socket's path.
            control: What is shown and changed.
            heartbeat: For ``/healthz``.
            runnable: Whether the engine has work that it could run.

        Raises:
            OSError: the folder is missing or not writable, or the path too long for a socket.
        """
        self.path = path
        self._server = _Server(path, _Api(control, heartbeat, runnable))

    def start(self) -> None:
        """Begin to answer."""
        thread = threading.Thread(target=self._server.serve_forever, name="llmserving-control", daemon=True)
        thread.start()

    def close(self) -> None:
        """Stop answering and remove the socket."""
        self._server.shutdown()
        self._server.server_close()
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()


class _Api:
    """Routes: method and path to an answer."""

    def __init__(self, control: ControlState, heartbeat: Heartbeat, runnable: Callable[[], bool]) -> None:
        self._control = control
        self._heartbeat = heartbeat
        self._runnable = runnable

    def allowed(self, path: str) -> tuple[str, ...]:
        """Methods of a path; empty: no such path."""
        return {PATH_RUNTIME_CONFIG: ("GET", "PATCH"), PATH_DEVICE: ("GET",), PATH_HEALTH: ("GET",)}.get(path, ())

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Status and JSON body.

        Raises:
            ControlError: with the status to answer.
        """
        if path == PATH_DEVICE:
            return 200, device.report()
        if path == PATH_HEALTH:
            verdict = self._heartbeat.verdict(self._control.clock.monotonic_ns(), self._runnable())
            return (200 if verdict.healthy else 503), {
                "healthy": verdict.healthy,
                "last_step_age_seconds": round(verdict.age_seconds, 3),
                "allowed_seconds": round(verdict.allowed_seconds, 3),
            }
        if method == "PATCH":
            try:
                document = json.loads(body, parse_constant=_no_constant)
            except ValueError as error:
                raise ControlError(400, f"the body is not JSON: {error}", "body", body[:80], "a JSON object") from None
            self._control.patch(document)
        return 200, self._control.document()


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, path: Path, api: _Api) -> None:
        self.api = api
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        super().__init__(str(path), _Handler)
        path.chmod(SOCKET_MODE)

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for the connection, while there are slots."""
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started: the base class closes the connection
            self._slots.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection and give its slot back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection broke; the others go on."""
        logger.debug("llmserving: control connection failed", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "llmserving-engine"
    sys_version = ""
    timeout = TIMEOUT_SECONDS
    server: _Server

    def do_GET(self) -> None:
        """Answer a GET."""
        self._serve()

    def do_PATCH(self) -> None:
        """Answer a PATCH."""
        self._serve()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class refuses (unknown method, malformed request), as JSON like every other error."""
        self.close_connection = True
        self._send(code, {"error": message or explain or "bad request"})

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base class's name)
        """Not to the engine's standard error."""
        logger.debug("llmserving: control %s", format % args)

    def address_string(self) -> str:
        """Unix peers have no address."""
        return "unix"

    def _serve(self) -> None:
        try:
            body = self._body()
            path = self.path.split("?", 1)[0]
            methods = self.server.api.allowed(path)
            if not methods:
                raise ControlError(404, f"no such path: {path}")
            if self.command not in methods:
                raise ControlError(405, f"{path} answers {', '.join(methods)}, not {self.command}")
            status, document = self.server.api.answer(self.command, path, body)
        except ControlError as error:
            status, document = error.status, error.body
        except (TimeoutError, ConnectionError):
            raise
        except Exception as error:
            logger.exception("llmserving: control API")
            status, document = 500, {"error": f"{type(error).__name__}: {error}"}
        self._send(status, document)

    def _body(self) -> bytes:
        if "Transfer-Encoding" in self.headers:
            self.close_connection = True
            raise ControlError(411, "Content-Length is needed; chunked bodies are not taken")
        text = self.headers.get("Content-Length", "0")
        if not text.isascii() or not text.isdigit():
            self.close_connection = True
            raise ControlError(400, "Content-Length is not a number", "Content-Length", text, f"0..{MAX_BODY_BYTES}")
        digits = text.lstrip("0") or "0"
        if len(digits) > len(str(MAX_BODY_BYTES)) or int(digits) > MAX_BODY_BYTES:
            self.close_connection = True
            raise ControlError(
                413, f"the body is too long, at most {MAX_BODY_BYTES} bytes", "body", text[:20], "smaller"
            )
        length = int(digits)
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionError("the body ended early")
        return body

    def _send(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
