import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmserving_lab.cluster.forwarder import SOCKET, request_forward


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.fixture
def forwarder(tmp_path: Path) -> Iterator[Path]:
    """The forwarder's own process; here both sides are in one network."""
    process = subprocess.Popen([sys.executable, "-m", "llmserving_lab.cluster.forwarder", str(tmp_path)])
    deadline = time.monotonic() + 20
    while not (tmp_path / SOCKET).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    yield tmp_path
    process.kill()
    process.wait()


@pytest.fixture
def shouter() -> Iterator[int]:
    """A server that answers each connection, when its sending side is closed, with what it got in capitals."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(read_all(connection).upper())

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def ask(port: int, said: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        sender = threading.Thread(target=lambda: (connection.sendall(said), connection.shutdown(socket.SHUT_WR)))
        sender.start()
        answer = read_all(connection)
        sender.join()
    return answer


def test_both_directions_are_carried_to_their_ends(forwarder: Path, shouter: int) -> None:
    port = request_forward(forwarder, "127.0.0.1", shouter)
    said = b"streaming " * 100_000
    assert ask(port, said) == said.upper()


def test_several_targets_and_connections_are_served_by_one_forwarder(forwarder: Path, shouter: int) -> None:
    first, second = (request_forward(forwarder, "127.0.0.1", shouter) for _ in range(2))
    assert first != second
    assert [ask(port, b"a") for port in (first, second, first)] == [b"A", b"A", b"A"]


def test_a_port_may_be_chosen(forwarder: Path, shouter: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            request_forward(forwarder, "127.0.0.1", shouter, listen_port=port)
    assert request_forward(forwarder, "127.0.0.1", shouter, listen_port=port) == port


def test_a_dead_target_closes_the_connection_and_nothing_else(forwarder: Path, shouter: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        dead = free.getsockname()[1]
    port = request_forward(forwarder, "127.0.0.1", dead)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as connection,
        contextlib.suppress(ConnectionResetError),
    ):
        assert connection.recv(1) == b""
    assert ask(request_forward(forwarder, "127.0.0.1", shouter), b"still here") == b"STILL HERE"
