import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from llmserving_engine.health import Heartbeat
from llmserving_engine.server import ControlServer
from llmserving_operator.children.liveness import PROGRAM, liveness_probe


def probe(folder: Path) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.replace("/run/llmserving", str(folder))
    return subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.recv(4096)
                client.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        thread.join(5)


def test_fails_on_503_and_says_why(tmp_path: Path) -> None:
    with answering(tmp_path / "engine-0.sock", b"HTTP/1.1 503 Service Unavailable\r\nA: b\r\n\r\nno step for 90 s"):
        result = probe(tmp_path)

    assert result.returncode == 1
    assert "engine-0.sock: no step for 90 s" in result.stderr


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\n\r\nok", b"HTTP/1.1 500 Oops\r\n\r\n", b""])
def test_passes_on_every_other_answer(answer: bytes, tmp_path: Path) -> None:
    with answering(tmp_path / "engine-0.sock", answer):
        result = probe(tmp_path)

    assert result.returncode == 0


@pytest.mark.parametrize(("runnable", "expected"), [(True, 1), (False, 0)])
def test_understands_the_plugins_own_server(runnable: bool, expected: int, tmp_path: Path) -> None:
    """No step for 100 seconds: hung where there was something to do, idle otherwise."""
    control = SimpleNamespace(clock=SimpleNamespace(monotonic_ns=lambda: 100 * 10**9))
    server = ControlServer(tmp_path / "engine-0.sock", control, Heartbeat(now_ns=0), lambda: runnable)
    server.start()
    try:
        result = probe(tmp_path)
    finally:
        server.close()

    assert result.returncode == expected
    assert ('"last_step_age_seconds": 100.0' in result.stderr) == runnable


def test_passes_without_a_plugin_and_with_a_dead_socket(tmp_path: Path) -> None:
    assert probe(tmp_path).returncode == 0
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "engine-0.sock"))

    assert probe(tmp_path).returncode == 0


def test_runs_in_the_engines_container_and_not_through_the_agent() -> None:
    assert liveness_probe()["exec"]["command"][0] == "python3"
