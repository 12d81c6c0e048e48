"""The HTTP API and the page. `middleware.py` protects them, `service.py` answers."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from fastapi import APIRouter, Body, Depends, FastAPI, File, Form, HTTPException, Query, Request, Response, UploadFile
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.formparsers import MultiPartParser

from pullpush.errors import UserError
from pullpush.evaluation.rerank import rerank_of
from pullpush.search.errors import BadQuery
from pullpush.search.gallery import FAR
from pullpush.search.query import MOST, SearchQuery
from pullpush.search.stores.base import FILTERS
from pullpush.server.api_docs import api_docs_page
from pullpush.server.connections import Connections
from pullpush.server.error_answers import add_errors
from pullpush.server.metrics import CONTENT_TYPE_LATEST, Metrics
from pullpush.server.middleware import Rules, SecurityMiddleware, cookie_name, same
from pullpush.server.service import Service
from pullpush.server.uploads import FORMATS, MAX_BYTES, MAX_PIXELS

__all__ = ["make_app"]

PAGE = Path(__file__).parent / "page"
IMMUTABLE = {"cache-control": "private, max-age=31536000, immutable"}  # an id always stands for one image
FRESH = {"cache-control": "no-cache"}
MOST_HITS, LONGEST, MOST_VALUES, MOST_MAPPED = 200, 500, 200, 30_000
MOST_SKIPPED = MOST - MOST_HITS - 1
DRAWN = 12
"""Groups that the map distinguishes by colour; the rest is one more."""


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


class ItemResponse(BaseModel):
    """An item; `probability`: that it is of the query's class, null where the model has no decision and for queries
    with words; `weak`: that is below 0.1, or without one, it is hardly closer than what nonsense finds. Where its file
    lies is nothing to a client."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    score: Annotated[float, AfterValidator(lambda score: round(score, 4))]
    closeness: Annotated[float, AfterValidator(lambda closeness: round(closeness, 3))]
    probability: Annotated[float | None, AfterValidator(_rounded)]
    weak: bool
    label: str
    text: list[str]
    category: str
    domain: str


class SearchResponse(BaseModel):
    """Hits, closest first: `k` of them, unless there are no more items; `more`: there are others after them."""

    hits: list[ItemResponse]
    more: bool


class AddResponse(BaseModel):
    """The ids of the images that were added, in their order."""

    ids: list[int]


class IdentityResponse(BaseModel):
    """Who an image shows; `name` is null for unknown, `probability` that it shows the `closest` class is null where the
    model has no decision. A class is named from a score of `threshold` on."""

    model_config = ConfigDict(from_attributes=True)

    name: str | None
    closest: str
    probability: Annotated[float | None, AfterValidator(_rounded)]
    score: Annotated[float, AfterValidator(lambda score: round(score, 4))]
    threshold: Annotated[float, AfterValidator(lambda score: round(score, 4))]
    far: float


class WhyResponse(BaseModel):
    """Why an item matches: the cosine (of the images as they are, without test views), and both images with what each
    place adds to it (orange) or takes away (purple, striped), WebP as data URIs. The places of an image add up to the
    cosine: by themselves where `exact`; `scale` is the share that has the full colour."""

    model_config = ConfigDict(from_attributes=True)

    score: float
    exact: bool
    method: str
    scale: float
    query: str
    item: str


Value = Annotated[str, Field(max_length=LONGEST)]
Ids = Annotated[list[int], Field(max_length=20, description="ids of items")]
Weight = Annotated[float, Field(ge=0, le=10)]


class SearchParameters(BaseModel):
    """What both searches take."""

    text: Annotated[str, Field(max_length=LONGEST, description="words to search for")] = ""
    like: Ids = []
    minus: Annotated[str, Field(max_length=LONGEST, description="words to move away from")] = ""
    minus_id: Ids = []
    text_weight: Weight = 1.0
    k: Annotated[int, Field(ge=1, le=MOST_HITS)] = 10
    skip: Annotated[int, Field(ge=0, le=MOST_SKIPPED, description="leave out that many of the closest")] = 0
    label: Value = ""
    category: Value = ""
    domain: Value = ""
    split: Value = ""
    cut_off: Annotated[float | None, Field(ge=-10, le=10, description="hits with less closeness are left out")] = None
    min_probability: Annotated[
        float | None, Field(ge=0, le=1, description="hits that are of the query's class less probably are left out")
    ] = None
    rerank: Annotated[
        str, Field(max_length=LONGEST, description="a better order: expand=3,augment=3, reciprocal=6")
    ] = ""

    async def hits(self, service: Service, images: Sequence[bytes] = (), image_weight: float = 1.0) -> SearchResponse:
        """The answer to them."""
        texts, minus = ([words] if words.strip() else [] for words in (self.text, self.minus))
        weights = {"text": self.text_weight, "image": image_weight}
        where = {name: getattr(self, name) for name in FILTERS if getattr(self, name)}
        end = self.skip + self.k
        try:
            rerank = rerank_of(self.rerank)
        except UserError as error:
            raise BadQuery(str(error)) from None
        query = SearchQuery(
            texts=texts,
            images=images,
            like=self.like,
            minus_texts=minus,
            minus_ids=self.minus_id,
            weights=weights,
            k=end + 1,
            where=where,
            cut_off=self.cut_off,
            min_probability=self.min_probability,
            rerank=rerank,
        )
        hits = await service.search(query)
        shown = [ItemResponse.model_validate(hit) for hit in hits[self.skip : end]]
        return SearchResponse(hits=shown, more=len(hits) > end)


class UploadParameters(SearchParameters):
    """What the search by an image takes."""

    image: Annotated[UploadFile, Field(description="PNG, JPEG, GIF, WebP, AVIF or HEIC")]
    image_weight: Weight = 1.0


router = APIRouter(prefix="/api")


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


TheService = Annotated[Service, Depends(_service)]


def _writable(request: Request) -> None:
    if request.app.state.read_only:
        raise HTTPException(403, "this server is read-only")


@router.get("/search", tags=["search"], summary="Search by words, or for items like others")
async def search(service: TheService, asked: Annotated[SearchParameters, Query()]) -> SearchResponse:
    """Items closest to words and to items, away from others."""
    return await asked.hits(service)


@router.post("/search", tags=["search"], summary="Search by an image, alone or with words")
async def search_upload(service: TheService, asked: Annotated[UploadParameters, File()]) -> SearchResponse:
    """Items closest to an uploaded image, alone or with words; it is decoded in a process of its own."""
    return await asked.hits(service, [await _bytes(asked.image)], asked.image_weight)


@router.get("/items/{item}", tags=["items"], summary="What is known of an item")
async def get_item(service: TheService, item: int) -> ItemResponse:
    """What the index holds of an item, without the path of its file."""
    return ItemResponse.model_validate(service.engine.item(item))


@router.get("/items/{item}/thumbnail", tags=["items"], summary="Its small image", response_class=Response)
async def get_thumbnail(service: TheService, item: int) -> Response:
    """WebP; the same bytes for ever, as an id stands for one image."""
    return Response(service.engine.thumbnail(item), media_type="image/webp", headers=IMMUTABLE)


@router.get(
    "/items/{item}/image", tags=["items"], summary="Its image, at most 1024 pixels a side", response_class=Response
)
async def get_image(service: TheService, item: int) -> Response:
    """WebP, encoded anew; the thumbnail where the file is gone, or not to be shown."""
    return Response(await service.image(item), media_type="image/webp", headers=IMMUTABLE)


@router.get("/items/{item}/why", tags=["items"], summary="Why it is like another item")
async def get_why(
    service: TheService, item: int, like: Annotated[int, Query(description="id of an item")]
) -> WhyResponse:
    """Heat maps of both images; one request at a time."""
    return WhyResponse.model_validate(await service.why(item, None, like))


@router.post("/items/{item}/why", tags=["items"], summary="Why it is like an image")
async def post_why(
    service: TheService,
    item: int,
    image: Annotated[UploadFile, File(description="PNG, JPEG, GIF, WebP, AVIF or HEIC")],
) -> WhyResponse:
    """Heat maps of both images; the upload is decoded in a process of its own; one request at a time."""
    return WhyResponse.model_validate(await service.why(item, await _bytes(image), None))


@router.post("/items", tags=["items"], summary="Add images", status_code=201, dependencies=[Depends(_writable)])
async def add_items(
    service: TheService,
    images: Annotated[list[UploadFile], File(max_length=16)],
    label: Annotated[str, Form(max_length=LONGEST)] = "",
    category: Annotated[str, Form(max_length=LONGEST)] = "",
    text: Annotated[str, Form(max_length=LONGEST)] = "",
) -> AddResponse:
    """All images are added, or none."""
    return AddResponse(ids=await service.add([await _bytes(image) for image in images], label, category, text))


@router.delete("/items/{item}", tags=["items"], summary="Remove an item", dependencies=[Depends(_writable)])
async def remove_item(service: TheService, item: int) -> dict[str, int]:
    """The source's file stays; later builds skip it."""
    return {"removed": await service.remove(item)}


@router.post(
    "/classes",
    tags=["classes"],
    summary="Enrol a class from a few images",
    status_code=201,
    dependencies=[Depends(_writable)],
)
async def enroll(
    service: TheService,
    name: Annotated[str, Form(max_length=LONGEST)],
    images: Annotated[list[UploadFile], File(max_length=16)],
    more: Annotated[bool, Form(description="the class may be there already")] = False,
) -> AddResponse:
    """All images are added, or none."""
    return AddResponse(ids=await service.enroll(name, [await _bytes(image) for image in images], more))


@router.post("/identify", tags=["classes"], summary="Who an image shows, or unknown")
async def identify(
    service: TheService,
    image: Annotated[UploadFile, File(description="PNG, JPEG, GIF, WebP, AVIF or HEIC")],
    far: Annotated[float, Form(gt=0, lt=1, description="share of strangers that may be given a name")] = FAR,
) -> IdentityResponse:
    """The closest class, where it is close enough; the image is decoded in a process of its own."""
    return IdentityResponse.model_validate(await service.identify(await _bytes(image), far))


@router.get("/index", tags=["index"], summary="What is being searched")
async def describe(request: Request, service: TheService) -> dict[str, Any]:
    """The index's size, version and model, its filters with their values, and the limits of requests."""
    version = service.engine.version
    manifest = version.manifest
    few = {name: [v for v in known if v] for name, known in version.values.items() if len(known) <= MOST_VALUES + 1}
    return {
        "name": service.engine.index.resolve().name,
        "items": manifest.count,
        "version": manifest.version,
        "created": manifest.created,
        "model": manifest.fingerprint[:12],
        "text": manifest.text,
        "store": manifest.facts.get("kind"),
        "recall@10": manifest.facts.get("recall@10"),
        "measured": manifest.facts.get("measured"),
        "classes": sum(value != "" for value in version.values["label"]),
        "filters": {name: sorted(map(str, v)) for name, v in few.items() if 1 < len(v) <= MOST_VALUES},
        "read_only": request.app.state.read_only,
        "limits": {
            "bytes": MAX_BYTES,
            "pixels": MAX_PIXELS,
            "formats": list(FORMATS),
            "text": LONGEST,
            "k": MOST_HITS,
            "skip": MOST_SKIPPED,
        },
    }


@router.get(
    "/map", tags=["index"], summary="The map of the collection, coloured by a column", response_class=JSONResponse
)
async def get_map(service: TheService, by: Annotated[str, Query(max_length=LONGEST)] = "") -> Response:
    """Up to 30,000 places, computed once a version and column."""
    if by and by not in FILTERS:
        raise BadQuery(f"the map cannot be coloured by {by!r}; by {', '.join(FILTERS)}")
    # 30,000 places take a tenth of a second to write down: once a version, and not where requests are answered.
    return Response(
        await service.once(f"map {by}", lambda version: _map(version.table, by)), media_type="application/json"
    )


def _map(table: pd.DataFrame, by: str) -> bytes:
    column = by or next((n for n in ("category", "domain", "label") if table[n].nunique() > 1), "label")
    rows = np.flatnonzero(table["map_x"].notna().to_numpy())
    if len(rows) > MOST_MAPPED:
        rows = np.sort(np.random.default_rng(0).permutation(rows)[:MOST_MAPPED])
    shown = table.iloc[rows]
    names = [str(name) for name in shown[column].value_counts().index[:DRAWN]]
    codes = {name: code for code, name in enumerate(names)}
    answer = {
        "by": column,
        "groups": names,
        "ids": shown["id"].tolist(),
        "x": shown["map_x"].round(4).tolist(),
        "y": shown["map_y"].round(4).tolist(),
        "group": [codes.get(value, -1) for value in shown[column]],
        "label": shown["label"].tolist(),
        "title": [text[0] if len(text) else label for text, label in zip(shown["text"], shown["label"], strict=True)],
    }
    return json.dumps(answer, ensure_ascii=False).encode()


@router.post("/session", tags=["session"], summary="Give the token once; a cookie keeps it", status_code=204)
async def begin_session(request: Request, sent: Annotated[str, Body(embed=True, alias="token")]) -> Response:
    """Compares the token in a time that does not tell how much of it is right."""
    token = request.app.state.token
    if not token or not same(sent, token):
        raise HTTPException(401, "that is not the token")
    answer = Response(status_code=204)
    answer.set_cookie(
        cookie_name(request.scope), token, httponly=True, samesite="strict", secure=request.url.scheme == "https"
    )
    return answer


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
    app.include_router(router)
    _add_pages(app, service, metrics)
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


async def _bytes(upload: UploadFile) -> bytes:
    data = await upload.read()
    await upload.close()  # one copy is enough
    return data
