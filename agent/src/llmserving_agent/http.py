"""The agent's own HTTP: ``/metrics``, ``/healthz``, ``/readyz`` and ``/v1/status``."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from llmserving_agent.loop import AgentLoop
from llmserving_agent.report import build_status
from llmserving_api.status import PATH_STATUS

HEALTHY_SECONDS = 5.0


def build_app(
    loop: AgentLoop,
    registry: CollectorRegistry,
    *,
    clock: Callable[[], float],
    wall_clock: Callable[[float], float],
    last_tick: Callable[[], float],
) -> Starlette:
    """The application.

    Args:
        loop: What it reports on.
        registry: Where ``LoopCollector`` is registered.
        clock: The loop's time.
        wall_clock: Seconds since 1970 of a time of the loop.
        last_tick: When the loop last finished a pass.
    """

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), media_type=content_type)

    async def healthz(request: Request) -> Response:
        age = clock() - last_tick()
        alive = age < HEALTHY_SECONDS
        return JSONResponse({"ok": alive, "last_tick_age_seconds": round(age, 3)}, 200 if alive else 503)

    async def readyz(request: Request) -> Response:
        missing = [] if loop.policy.policy is not None else ["no policy yet"]
        missing += [f"engine {rank}: {engine.message}" for rank, engine in loop.engines.items() if not engine.reachable]
        if not loop.engines:
            missing.append("no engine yet")
        return JSONResponse({"ok": not missing, "missing": missing}, 503 if missing else 200)

    async def status(request: Request) -> Response:
        now = clock()
        document = build_status(loop, now, wall_clock(now)).model_dump_json()
        return Response(document, media_type="application/json")

    return Starlette(
        routes=[
            Route("/metrics", metrics),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route(PATH_STATUS, status),
        ]
    )
