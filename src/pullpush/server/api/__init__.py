"""The HTTP API, a file of routes for each thing that is asked about."""

from fastapi import APIRouter

from pullpush.server.api import classes, index, items, search, session

__all__ = ["router"]

router = APIRouter(prefix="/api")
for each in (search, items, classes, index, session):
    router.include_router(each.router)
