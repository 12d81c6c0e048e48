"""The application: the API (`api/`), the page, health and metrics, within the middleware that protects them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse
from starlette.formparsers import MultiPartParser

from pullpush.server.api import ROUTERS
from pullpush.server.api.dependencies import IMMUTABLE
from pullpush.server.api_docs import api_docs_page
from pullpush.server.connections import Connections
from pullpush.server.error_answers import add_errors
from pullpush.server.metrics import CONTENT_TYPE_LATEST, Metrics
from pullpush.server.middleware import Rules, SecurityMiddleware
from pullpush.server.numbers import add_numbers
from pullpush.server.service import Service

__all__ = ["make_app"]

PAGE = Path(__file__).parent / "page"
FRESH = {"cache-control": "no-cache"}


def make_app(
    service: Service, rules: Rules, read_only: bool = False, connections: Connections | None = None
) -> SecurityMiddleware:
    """The application within its middleware, as ASGI."""
    connections = connections or Connections()
    metrics = _metrics(service, connections)
    MultiPartParser.spool_max_size = rules.max_body  # the middleware limits what is held; nothing would limit files

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        tasks = [asyncio.create_task(service.follow()), asyncio.create_task(connections.watch())]
        yield
        for task in tasks:
            task.cancel()
        await service.close()

    app = FastAPI(
        title="pullpush search", version="1", docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan
    )
    app.state.service, app.state.read_only, app.state.token = service, read_only, rules.token
    for router in ROUTERS:
        app.include_router(router)
    _add_pages(app, service, metrics)
    add_numbers(app, FRESH)
    add_errors(app)
    return SecurityMiddleware(app, rules, metrics)


def _add_pages(app: FastAPI, service: Service, metrics: Metrics) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html", headers=FRESH)

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon() -> Response:
        return Response(status_code=204, headers=IMMUTABLE)

    @app.get("/page/app.js", include_in_schema=False)
    async def script() -> FileResponse:
        return FileResponse(PAGE / "app.js", media_type="text/javascript", headers=FRESH)

    @app.get("/page/style.css", include_in_schema=False)
    async def style() -> FileResponse:
        return FileResponse(PAGE / "style.css", media_type="text/css", headers=FRESH)

    @app.get("/docs", include_in_schema=False)
    async def documentation() -> HTMLResponse:
        return HTMLResponse(api_docs_page(app.openapi()))

    @app.get("/health", tags=["index"], summary="Whether the server lives")
    async def health() -> dict[str, Any]:
        problem, manifest = service.problem, service.engine.manifest
        return {
            "status": "ok" if problem is None else "degraded",
            "items": manifest.count,
            "version": manifest.version,
            "problem": problem,
            "recall@10": manifest.facts.get("recall@10"),
            "measured": manifest.facts.get("measured"),
        }

    @app.get("/metrics", tags=["index"], summary="Counters for Prometheus", response_class=PlainTextResponse)
    async def counters() -> Response:
        return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)


def _metrics(service: Service, connections: Connections) -> Metrics:
    return Metrics(
        {
            "items": lambda: len(service.engine),
            "index_version": lambda: service.engine.manifest.version,
            "connections": lambda: len(connections),
            "requests_under_way": lambda: service.busy,
            "uploads_waiting": lambda: service.decoders.waiting,
            "decoders_replaced": lambda: service.decoders.replaced,
            "encoder_batches": lambda: service.images.batches + service.texts.batches,
            "encoder_inputs": lambda: service.images.inputs + service.texts.inputs,
            "cache_hits": lambda: service.cache.hits,
            "cache_misses": lambda: service.cache.misses,
        }
    )
