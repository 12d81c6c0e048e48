"""The HTTP API, a file of routes for each thing that is asked about."""

from pullpush.server.api import classes, index, items, search, session

__all__ = ["ROUTERS"]

ROUTERS = tuple(each.router for each in (search, items, classes, index, session))
