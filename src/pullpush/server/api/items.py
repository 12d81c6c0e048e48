"""Routes of items: what is known of one, why it matches, and changes of the index."""

from typing import Annotated

from fastapi import APIRouter, Form, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict

from pullpush.server.api.dependencies import (
    IMMUTABLE,
    LONGEST,
    WRITES,
    Image,
    Images,
    Probability,
    Score,
    TheService,
    bytes_of,
)
from pullpush.server.why import Why

__all__ = ["AddResponse", "ItemResponse", "router"]

router = APIRouter(prefix="/api", tags=["items"])


class ItemResponse(BaseModel):
    """An item; `probability`: that it is of the query's class, null where the model has no decision and for queries
    with words; `weak`: that is below 0.1, or without one, it is hardly closer than what nonsense finds. Where its file
    lies is nothing to a client."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    score: Score
    closeness: Annotated[float, AfterValidator(lambda closeness: round(closeness, 3))]
    probability: Probability
    weak: bool
    label: str
    text: list[str]
    category: str
    domain: str


class AddResponse(BaseModel):
    """The ids of the images that were added, in their order."""

    ids: list[int]


@router.get("/items/{item}", summary="What is known of an item")
async def get_item(service: TheService, item: int) -> ItemResponse:
    """What the index holds of an item, without the path of its file."""
    return ItemResponse.model_validate(service.engine.item(item))


@router.get("/items/{item}/thumbnail", summary="Its small image", response_class=Response)
async def get_thumbnail(service: TheService, item: int) -> Response:
    """WebP; the same bytes for ever, as an id stands for one image."""
    return Response(service.engine.thumbnail(item), media_type="image/webp", headers=IMMUTABLE)


@router.get("/items/{item}/image", summary="Its image, at most 1024 pixels a side", response_class=Response)
async def get_image(service: TheService, item: int) -> Response:
    """WebP, encoded anew; the thumbnail where the file is gone, or not to be shown."""
    return Response(await service.image(item), media_type="image/webp", headers=IMMUTABLE)


@router.get("/items/{item}/why", summary="Why it is like another item")
async def get_why(service: TheService, item: int, like: Annotated[int, Query(description="id of an item")]) -> Why:
    """Heat maps of both images; one request at a time."""
    return await service.why(item, None, like)


@router.post("/items/{item}/why", summary="Why it is like an image")
async def post_why(service: TheService, item: int, image: Image) -> Why:
    """Heat maps of both images; the upload is decoded in a process of its own; one request at a time."""
    return await service.why(item, await bytes_of(image), None)


@router.post("/items", summary="Add images", status_code=201, dependencies=WRITES)
async def add_items(
    service: TheService,
    images: Images,
    label: Annotated[str, Form(max_length=LONGEST)] = "",
    category: Annotated[str, Form(max_length=LONGEST)] = "",
    text: Annotated[str, Form(max_length=LONGEST)] = "",
) -> AddResponse:
    """All images are added, or none."""
    return AddResponse(ids=await service.add([await bytes_of(image) for image in images], label, category, text))


@router.delete("/items/{item}", summary="Remove an item", dependencies=WRITES)
async def remove_item(service: TheService, item: int) -> dict[str, int]:
    """The source's file stays; later builds skip it."""
    return {"removed": await service.remove(item)}
