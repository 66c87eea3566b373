"""The operator's HTTP port: /healthz, /readyz and /metrics."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from llmserving_operator.errors import SettingsError
from llmserving_operator.settings import PREFIX


@asynccontextmanager
async def serve_health(
    bind: str, port: int, registry: CollectorRegistry, ready: Callable[[], bool]
) -> AsyncIterator[None]:
    """Serve while the context lasts.

    Args:
        bind: address to listen on.
        port: port to listen on.
        registry: metrics to show.
        ready: whether this process does what it is there for.

    Raises:
        SettingsError: it is not possible to listen there.
    """

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok")  # the event loop turns; a part that ends takes the process with it

    async def readyz(_: web.Request) -> web.Response:
        if ready():
            return web.Response(text="ok")
        return web.Response(status=503, text="the watches are not filled yet")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, bind, port).start()
        except OSError as error:
            raise SettingsError(
                f"{PREFIX}BIND={bind}, {PREFIX}PORT={port}: cannot listen there: {error.strerror}; an address of this "
                "machine, such as 0.0.0.0, and a free port are needed"
            ) from error
        yield
    finally:
        await runner.cleanup()
