"""Routes of the index: what is being searched, and its map."""

import json
from typing import Annotated, Any

import numpy as np
import pandas as pd
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from pullpush.search.errors import BadQuery
from pullpush.search.stores.base import FILTERS
from pullpush.server.api.dependencies import LONGEST, TheService
from pullpush.server.api.search import MOST_HITS, MOST_SKIPPED
from pullpush.server.uploads import FORMATS, MAX_BYTES, MAX_PIXELS

__all__ = ["router"]

MOST_VALUES = 200
"""A column with more values is no filter of the page."""
MOST_MAPPED = 30_000
DRAWN = 12
"""Groups that the map distinguishes by colour; the rest is one more."""

router = APIRouter(prefix="/api", tags=["index"])


@router.get("/index", summary="What is being searched")
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
        "rerank": str(service.engine.rerank_of(version)),
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


@router.get("/map", summary="The map of the collection, coloured by a column", response_class=JSONResponse)
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
