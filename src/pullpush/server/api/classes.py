"""Routes of classes: enrolling one, and who an image shows."""

from typing import Annotated

from fastapi import APIRouter, Form
from pydantic import BaseModel, ConfigDict

from pullpush.server.api.dependencies import LONGEST, WRITES, Image, Images, Probability, Score, TheService, bytes_of
from pullpush.server.api.items import AddResponse

__all__ = ["router"]

router = APIRouter(prefix="/api", tags=["classes"])


class IdentityResponse(BaseModel):
    """Who an image shows; `name` is null for unknown, `probability` that it shows the `closest` class is null where the
    model has no decision. A class is named from a score of `threshold` on."""

    model_config = ConfigDict(from_attributes=True)

    name: str | None
    closest: str
    probability: Probability
    score: Score
    threshold: Score
    far: float


@router.post("/classes", summary="Enrol a class from a few images", status_code=201, dependencies=WRITES)
async def enroll(
    service: TheService,
    name: Annotated[str, Form(max_length=LONGEST)],
    images: Images,
    more: Annotated[bool, Form(description="the class may be there already")] = False,
) -> AddResponse:
    """All images are added, or none."""
    return AddResponse(ids=await service.enroll(name, [await bytes_of(image) for image in images], more))


@router.post("/identify", summary="Who an image shows, or unknown")
async def identify(
    service: TheService,
    image: Image,
    far: Annotated[float | None, Form(gt=0, lt=1, description="share of strangers that may be given a name")] = None,
) -> IdentityResponse:
    """The closest class, where it is close enough; the image is decoded in a process of its own."""
    return IdentityResponse.model_validate(await service.identify(await bytes_of(image), far))
