"""The agent's client against sockets that answer something else, half of it, or nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from llmserving_agent.actuation import Outcome
from llmserving_agent.actuator import ControlClient, EngineRefusedError
from llmserving_agent.sensors.relay import Relay


@asynccontextmanager
async def serving(folder: Path, answer: bytes | None) -> AsyncIterator[ControlClient]:
    """A socket that reads a request and answers these bytes, or nothing at all."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer is None:
            await asyncio.sleep(10)
        else:
            writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(handle, folder / "engine-0.sock")
    client = ControlClient(folder, timeout_seconds=0.3)
    try:
        yield client
    finally:
        await client.close()
        server.close()


def response(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "engine-0.sock"),
        (b"", "engine-0.sock"),
        (b"220 mail.example ESMTP\r\n", "engine-0.sock"),
        (response(b"not json"), "Invalid JSON"),
        (response(b"{}"), "api_version: Field required"),
        (response(b'{"api_version": "v1", "engine": 3}'), "engine"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{", "engine-0.sock"),
    ],
)
async def test_no_usable_answer_is_unreachable_and_says_what_came(
    tmp_path: Path, answer: bytes | None, says: str
) -> None:
    async with serving(tmp_path, answer) as client:
        got = await client.config(0)
    assert got.outcome is Outcome.UNREACHABLE
    assert says in got.message


async def test_an_error_without_our_body_is_a_refusal_with_its_status(tmp_path: Path) -> None:
    async with serving(tmp_path, response(b"<html>", "500 Internal Server Error")) as client:
        got = await client.config(0)
    assert (got.outcome, got.status, got.message) == (Outcome.REFUSED, 500, "HTTP 500")


async def test_a_relay_that_fails_gives_the_reason_and_no_gpu(tmp_path: Path) -> None:
    relay = Relay()
    async with serving(tmp_path, response(b'{"error": "no NVML here"}', "501 Not Implemented")) as client:
        with pytest.raises(EngineRefusedError):
            await client.device(0)
        await relay.refresh(client, (0,))
    assert relay.devices == ()
    assert relay.reason == "relay: no NVML here"


async def test_a_relay_is_read_again_at_every_refresh(tmp_path: Path) -> None:
    relay = Relay()
    gpu = b'{"uuid": "GPU-1", "name": "c", "memory_total_bytes": 9, "memory_free_bytes": 4, "memory_used_bytes": 5}'
    async with serving(tmp_path, response(b'{"devices": [' + gpu + b"]}")) as client:
        await relay.refresh(client, (0,))
    assert [device.uuid for device in relay.devices] == ["GPU-1"]
    await relay.refresh(ControlClient(tmp_path / "gone"), ())
    assert relay.devices == ()
    assert "no engine yet" in relay.reason
