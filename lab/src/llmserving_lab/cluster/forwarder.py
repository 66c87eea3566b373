"""Carries connections from the host's loopback into the cluster's network.

Runs inside the cluster's namespaces. A socket belongs to the network it was made in: the caller makes the listening
socket on the host and hands it over a Unix socket; connections made here start in the cluster's network. So no
interface, route or rule is needed on the host.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from pathlib import Path

SOCKET = "forwarder.sock"
"""Below the state folder."""

_CHUNK_BYTES = 64 * 1024
_MESSAGE_BYTES = 1024


def request_forward(state: Path, address: str, port: int, *, listen_port: int = 0) -> int:
    """Listen on the host's loopback and have connections carried to `address:port` inside the cluster.

    Args:
        state: the cluster's state folder.
        address: an IP address of a pod, a service or the node.
        port: the port there.
        listen_port: the port on 127.0.0.1; 0 takes a free one.

    Returns:
        The port on 127.0.0.1.

    Raises:
        OSError: the port is taken, or the cluster is gone.
    """
    with (
        socket.create_server(("127.0.0.1", listen_port), backlog=256) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control,
    ):
        control.connect(str(state / SOCKET))
        message = json.dumps({"address": address, "port": port}).encode()
        socket.send_fds(control, [message], [listener.fileno()])
        if control.recv(_MESSAGE_BYTES) != b"ok":
            raise OSError(f"the cluster's forwarder refused {address}:{port}")
        taken: int = listener.getsockname()[1]
        return taken


def main() -> None:
    """Serve requests until the namespace ends."""
    asyncio.run(_serve(Path(sys.argv[1]) / SOCKET))


async def _serve(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control:
        control.bind(str(path))
        control.listen()
        control.setblocking(False)
        loop = asyncio.get_running_loop()
        servers: list[asyncio.Server] = []
        while True:
            client, _ = await loop.sock_accept(control)
            with client:
                servers.append(await _accept(client))


async def _accept(client: socket.socket) -> asyncio.Server:
    """Take over one listening socket. The caller writes its request at once, so waiting for it is short."""
    client.settimeout(1.0)
    message, descriptors, _, _ = socket.recv_fds(client, _MESSAGE_BYTES, 1)
    target = json.loads(message)
    listener = socket.socket(fileno=descriptors[0])

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _carry(reader, writer, target["address"], target["port"])

    server = await asyncio.start_server(carry, sock=listener)
    client.sendall(b"ok")
    return server


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str, port: int) -> None:
    try:
        far_reader, far_writer = await asyncio.open_connection(address, port)
    except OSError:
        writer.transport.abort()  # as a refused connection: the caller sees a reset
        return
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_copy(reader, far_writer))
            group.create_task(_copy(far_reader, writer))
    except* OSError:
        pass  # one end is gone, so the other is told below
    finally:
        far_writer.close()
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy one direction to its end, then close that direction only."""
    while chunk := await reader.read(_CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()
    writer.write_eof()


if __name__ == "__main__":
    main()
