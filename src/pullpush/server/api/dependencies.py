"""What the routes have in common: the service that answers, who may write, the limits, and fields of requests."""

from typing import Annotated

from fastapi import Depends, File, HTTPException, Request, UploadFile
from pydantic import AfterValidator, Field

from pullpush.server.service import Service

__all__ = [
    "ACCEPTED",
    "IMMUTABLE",
    "LONGEST",
    "WRITES",
    "Image",
    "Images",
    "Probability",
    "Score",
    "TheService",
    "Value",
    "bytes_of",
]

LONGEST = 500
"""Characters of a text or a value."""
IMMUTABLE = {"cache-control": "private, max-age=31536000, immutable"}
"""Headers of what never changes: an id always stands for one image."""


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _writable(request: Request) -> None:
    if request.app.state.read_only:
        raise HTTPException(403, "this server is read-only")


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


TheService = Annotated[Service, Depends(_service)]
WRITES = [Depends(_writable)]
"""Dependencies of a route that changes the index."""

Value = Annotated[str, Field(max_length=LONGEST)]
ACCEPTED = "PNG, JPEG, GIF, WebP, AVIF or HEIC"
Image = Annotated[UploadFile, File(description=ACCEPTED)]
Images = Annotated[list[UploadFile], File(max_length=16)]
Score = Annotated[float, AfterValidator(lambda score: round(score, 4))]
Probability = Annotated[float | None, AfterValidator(_rounded)]


async def bytes_of(upload: UploadFile) -> bytes:
    """What was uploaded."""
    data = await upload.read()
    await upload.close()  # one copy is enough
    return data
