"""Routes of searches."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, File, Query, UploadFile
from pydantic import BaseModel, Field

from pullpush.errors import UserError
from pullpush.search.errors import BadQuery
from pullpush.search.query import MOST, SearchQuery, asked_rerank
from pullpush.search.stores.base import FILTERS
from pullpush.server.api.dependencies import ACCEPTED, LONGEST, TheService, Value, bytes_of
from pullpush.server.api.items import ItemResponse
from pullpush.server.service import Service

__all__ = ["MOST_HITS", "MOST_SKIPPED", "router"]

MOST_HITS = 200
MOST_SKIPPED = MOST - MOST_HITS - 1

Ids = Annotated[list[int], Field(max_length=20, description="ids of items")]
Weight = Annotated[float, Field(ge=0, le=10)]

router = APIRouter(prefix="/api", tags=["search"])


class SearchResponse(BaseModel):
    """Hits, closest first: `k` of them, unless there are no more items; `more`: there are others after them."""

    hits: list[ItemResponse]
    more: bool


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
        str, Field(max_length=LONGEST, description="a better order: auto, expand=3,augment=3, reciprocal=6")
    ] = ""

    async def hits(self, service: Service, images: Sequence[bytes] = (), image_weight: float = 1.0) -> SearchResponse:
        """The answer to them."""
        texts, minus = ([words] if words.strip() else [] for words in (self.text, self.minus))
        weights = {"text": self.text_weight, "image": image_weight}
        where = {name: getattr(self, name) for name in FILTERS if getattr(self, name)}
        end = self.skip + self.k
        try:
            rerank = asked_rerank(self.rerank)
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

    image: Annotated[UploadFile, Field(description=ACCEPTED)]
    image_weight: Weight = 1.0


@router.get("/search", summary="Search by words, or for items like others")
async def search(service: TheService, asked: Annotated[SearchParameters, Query()]) -> SearchResponse:
    """Items closest to words and to items, away from others."""
    return await asked.hits(service)


@router.post("/search", summary="Search by an image, alone or with words")
async def search_upload(service: TheService, asked: Annotated[UploadParameters, File()]) -> SearchResponse:
    """Items closest to an uploaded image, alone or with words; it is decoded in a process of its own."""
    return await asked.hits(service, [await bytes_of(asked.image)], asked.image_weight)
