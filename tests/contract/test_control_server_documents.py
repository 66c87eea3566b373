"""The plug-in's server speaks the wire types of the API package, which it does not import."""

import http.client
import json
import socket
import stat
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmserving_api import control as wire
from llmserving_api import latency as api_latency
from llmserving_api.names import ENV_CONTROL_DIR, socket_name
from llmserving_engine import latency, plugin, server
from llmserving_engine.bounds import Bounds
from llmserving_engine.clock import SystemClock
from llmserving_engine.control import MODE_FULL, MODE_OBSERVE, Contract, ControlState
from llmserving_engine.health import Heartbeat
from llmserving_engine.server import ControlServer
from llmserving_fakes.documents import engine_facts

FACTS = engine_facts(max_model_len=4096, num_gpu_blocks=100, cudagraph_capture_sizes=(1, 2)).model_dump(mode="json")


class Plugin:
    def __init__(self, folder: Path, mode: str = MODE_FULL) -> None:
        self.clock = SystemClock()
        self.heartbeat = Heartbeat(self.clock.monotonic_ns())
        self.runnable = False
        contract = Contract(mode, ok=mode != MODE_OBSERVE, reason="" if mode == MODE_FULL else "unknown release")
        self.control = ControlState.create(self.clock, FACTS, contract, Bounds(512, 8192), Bounds(256, 2048))
        self.path = folder / socket_name(0)
        self.server = ControlServer(self.path, self.control, self.heartbeat, lambda: self.runnable)
        self.server.start()

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(10)
        client.connect(str(self.path))
        return client

    def call(self, method: str, path: str, body: object = None, raw: bytes | None = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("engine")
        connection.sock = self.connect()
        content = raw if raw is not None else None if body is None else json.dumps(body).encode()
        connection.request(method, path, content)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Plugin]:
    made = Plugin(tmp_path)
    yield made
    made.server.close()


def test_the_paths_and_names_are_those_of_the_api_package():
    assert server.PATH_RUNTIME_CONFIG == wire.PATH_RUNTIME_CONFIG
    assert server.PATH_DEVICE == wire.PATH_DEVICE
    assert server.PATH_HEALTH == wire.PATH_HEALTH
    assert plugin.ENV_CONTROL_DIR == ENV_CONTROL_DIR


def test_the_latency_buckets_are_those_of_the_api_package():
    assert latency.BUCKETS == api_latency.BUCKETS
    for nanoseconds in [0, 1, 99_999, 100_000, 100_001, *(round(1e5 * 1.04 ** (i / 3)) for i in range(1500))]:
        assert latency.bucket_of(nanoseconds) == api_latency.bucket_of(nanoseconds / 1e9), nanoseconds


def test_the_state_is_a_runtime_config_of_the_wire(engine):
    status, document = engine.call("GET", wire.PATH_RUNTIME_CONFIG)
    config = wire.RuntimeConfig.model_validate(document)
    assert status == 200
    assert set(document) == set(wire.RuntimeConfig.model_fields)
    assert set(document["engine"]) == set(wire.EngineFacts.model_fields)
    assert config.contract.mode is wire.ContractMode.FULL
    assert config.requested == config.fallback == wire.Bounds(max_num_seqs=256, max_num_batched_tokens=2048)
    assert config.effective is None


def test_a_full_patch_of_the_wire_is_taken_and_shown(engine):
    patch = wire.RuntimePatch(
        operation_id=7,
        max_num_seqs=8,
        max_num_batched_tokens=1024,
        fallback=wire.Bounds(max_num_seqs=100, max_num_batched_tokens=2000),
        lease_seconds=12.5,
        targets=wire.SLATargets(ttft_seconds=2, itl_seconds=0.05, e2e_seconds=60),
        shed_to=8,
        planner=wire.PlannerChoice(),
    )
    status, document = engine.call("PATCH", wire.PATH_RUNTIME_CONFIG, patch.model_dump(mode="json"))
    config = wire.RuntimeConfig.model_validate(document)
    assert status == 200
    assert config.requested == wire.Bounds(max_num_seqs=8, max_num_batched_tokens=1024)
    assert config.fallback == patch.fallback
    assert config.targets == patch.targets
    assert config.lease.seconds == 12.5
    assert config.operation_id == 7
    assert set(patch.model_dump()) == set(wire.RuntimePatch.model_fields)


def test_a_patch_with_nulls_changes_only_what_is_named(engine):
    patch = wire.RuntimePatch(operation_id=1, max_num_seqs=9)
    status, document = engine.call("PATCH", wire.PATH_RUNTIME_CONFIG, patch.model_dump(mode="json"))
    assert status == 200
    assert document["requested"] == {"max_num_seqs": 9, "max_num_batched_tokens": 2048}


def test_the_device_report_is_that_of_the_wire(engine):
    status, document = engine.call("GET", wire.PATH_DEVICE)
    report = wire.DeviceReport.model_validate(document)
    assert status == 200
    assert report.devices or report.reason


def test_health_is_200_while_idle_and_503_with_the_age_when_work_stands_still(engine):
    assert engine.call("GET", wire.PATH_HEALTH)[0] == 200
    engine.runnable = True
    engine.heartbeat.last_ns = engine.clock.monotonic_ns() - 100 * 10**9
    status, document = engine.call("GET", wire.PATH_HEALTH)
    assert status == 503
    assert document["last_step_age_seconds"] >= 100


def test_the_socket_is_for_its_owner_and_group(engine):
    mode = engine.path.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o660


def test_a_socket_left_by_a_dead_engine_is_replaced(tmp_path):
    old = socket.socket(socket.AF_UNIX)
    old.bind(str(tmp_path / socket_name(0)))
    old.close()
    made = Plugin(tmp_path)
    assert made.call("GET", wire.PATH_HEALTH)[0] == 200
    made.server.close()


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"operation_id": 1, "max_num_seqs": 513}, 400, "max_num_seqs"),
        ({"operation_id": 1, "max_num_seqs": 8, "max_num_batched_tokens": 0}, 400, "max_num_batched_tokens"),
        ({"max_num_seqs": 8}, 400, "operation_id"),
        ({"operation_id": 1, "max_seqs": 8}, 400, "max_seqs"),
        ([], 400, "body"),
    ],
)
def test_a_bad_change_is_answered_with_field_and_range_and_nothing_is_applied(engine, body, status, field):
    answer, document = engine.call("PATCH", wire.PATH_RUNTIME_CONFIG, body)
    error = wire.ControlError.model_validate(document)
    assert (answer, error.field) == (status, field)
    assert error.value
    assert error.allowed
    assert engine.call("GET", wire.PATH_RUNTIME_CONFIG)[1]["requested"]["max_num_seqs"] == 256


def test_an_older_operation_is_409(engine):
    engine.call("PATCH", wire.PATH_RUNTIME_CONFIG, {"operation_id": 3})
    status, document = engine.call("PATCH", wire.PATH_RUNTIME_CONFIG, {"operation_id": 2})
    assert status == 409
    assert wire.ControlError.model_validate(document).field == "operation_id"


def test_the_same_change_again_is_taken_once_and_another_under_its_id_is_409(engine):
    change = {"operation_id": 3, "max_num_seqs": 9}
    engine.call("PATCH", wire.PATH_RUNTIME_CONFIG, change)
    assert engine.call("PATCH", wire.PATH_RUNTIME_CONFIG, change)[0] == 200
    status, document = engine.call("PATCH", wire.PATH_RUNTIME_CONFIG, {"operation_id": 3, "max_num_seqs": 10})
    assert status == 409
    assert wire.ControlError.model_validate(document).field == "operation_id"
    assert engine.call("GET", wire.PATH_RUNTIME_CONFIG)[1]["requested"]["max_num_seqs"] == 9


def test_an_engine_that_can_only_be_observed_answers_501(tmp_path):
    made = Plugin(tmp_path, MODE_OBSERVE)
    status, document = made.call("PATCH", wire.PATH_RUNTIME_CONFIG, {"operation_id": 1})
    assert status == 501
    assert "unknown release" in document["error"]
    config = wire.RuntimeConfig.model_validate(made.call("GET", wire.PATH_RUNTIME_CONFIG)[1])
    assert config.contract.mode is wire.ContractMode.OBSERVE
    made.server.close()


def test_not_json_is_400_and_says_so(engine):
    for raw in (b"{", b"\xff\xfe", b'{"operation_id": NaN}', b""):
        status, document = engine.call("PATCH", wire.PATH_RUNTIME_CONFIG, raw=raw)
        assert status == 400
        assert "JSON" in document["error"]


def test_unknown_paths_and_methods_are_named(engine):
    assert engine.call("GET", "/v2/everything")[0] == 404
    status, document = engine.call("PATCH", wire.PATH_DEVICE, {})
    assert status == 405
    assert "GET" in document["error"]


def test_a_body_that_is_too_large_is_refused_unread(engine):
    with engine.connect() as client:
        client.sendall(b"PATCH /v1/runtime_config HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 413")


def test_a_length_of_thousands_of_digits_is_refused_unread(engine):
    with engine.connect() as client:
        length = b"9" * 5000
        client.sendall(b"PATCH /v1/runtime_config HTTP/1.1\r\nHost: x\r\nContent-Length: " + length + b"\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 413")


def test_a_length_with_leading_zeros_is_that_length(engine):
    body = json.dumps({"operation_id": 1, "max_num_seqs": 9}).encode()
    with engine.connect() as client:
        head = (
            b"PATCH /v1/runtime_config HTTP/1.1\r\nHost: x\r\nContent-Length: %s\r\n\r\n"
            % str(len(body)).zfill(300).encode()
        )
        client.sendall(head + body)
        assert client.recv(100).startswith(b"HTTP/1.1 200")


def test_connections_for_which_no_thread_could_be_started_take_no_place(engine, monkeypatch):
    with monkeypatch.context() as exhausted:

        def start(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        exhausted.setattr(threading.Thread, "start", start)
        for _ in range(server.MAX_CONNECTIONS + 1):
            with engine.connect() as client:
                assert client.recv(100) == b""
    assert engine.call("GET", wire.PATH_HEALTH)[0] == 200


def test_what_http_itself_refuses_is_answered_in_json_too(engine):
    status, document = engine.call("DELETE", wire.PATH_RUNTIME_CONFIG)
    assert status == 501
    assert "DELETE" in document["error"]


@pytest.mark.parametrize("head", [b"Content-Length: -5", b"Content-Length: x", b"Transfer-Encoding: chunked"])
def test_a_malformed_length_is_refused(engine, head):
    with engine.connect() as client:
        client.sendall(b"PATCH /v1/runtime_config HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 4")


def test_garbage_and_broken_connections_leave_the_server_answering(engine):
    for garbage in (b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"A" * 100_000):
        with engine.connect() as client:
            try:
                client.sendall(garbage)
                client.recv(100)
            except (ConnectionError, TimeoutError):
                pass
    with engine.connect() as client:  # half a body, then gone
        client.sendall(b"PATCH /v1/runtime_config HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
    with engine.connect() as client:  # reset in the middle
        client.sendall(b"GET /v1/runtime_config HTTP/1.1\r\n")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert engine.call("GET", wire.PATH_HEALTH)[0] == 200


def test_a_slow_client_holds_up_nobody_and_is_cut_off(engine, monkeypatch):
    monkeypatch.setattr(server._Handler, "timeout", 0.5)
    with engine.connect() as slow:
        slow.sendall(b"PATCH /v1/runtime_config HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert engine.call("GET", wire.PATH_HEALTH)[0] == 200
        assert slow.recv(100) == b""


def test_connections_beyond_the_limit_are_closed_and_come_back_when_others_leave(engine):
    held = [engine.connect() for _ in range(server.MAX_CONNECTIONS)]
    for client in held:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(100)
    with engine.connect() as one_more:
        assert one_more.recv(100) == b""
    for client in held:
        client.close()
    for _ in range(100):
        try:
            assert engine.call("GET", wire.PATH_HEALTH)[0] == 200
            break
        except (ConnectionError, http.client.HTTPException):
            continue


def test_one_connection_serves_many_requests(engine):
    connection = http.client.HTTPConnection("engine")
    connection.sock = engine.connect()
    for operation in range(1, 50):
        connection.request("PATCH", wire.PATH_RUNTIME_CONFIG, json.dumps({"operation_id": operation}))
        answer = connection.getresponse()
        assert json.loads(answer.read())["operation_id"] == operation
