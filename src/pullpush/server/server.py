"""`serve`: an index behind an HTTP server."""

import logging
import os
import socket
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import uvicorn

from pullpush.encoders.model import Model
from pullpush.encoders.runtimes.runtime import RuntimeName
from pullpush.errors import UserError
from pullpush.search.changes import tidy
from pullpush.search.engine import open_index
from pullpush.search.layout import default_index
from pullpush.server.app import make_app
from pullpush.server.connections import ACCEPTED, BACKLOG, PART, SILENT, Connection, Connections
from pullpush.server.log import prepare as prepare_log
from pullpush.server.middleware import HEAD, LOOPBACK, Rules, SecurityMiddleware
from pullpush.server.service import Service

__all__ = ["address_of", "listen", "make_server", "serve", "server_of", "token_of"]

logger = logging.getLogger("pullpush.serve")
TOKEN = "PULLPUSH_TOKEN"
"""The environment variable with the token that clients must send."""


def serve(
    index: str | os.PathLike[str] | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    *,
    model: Model | str | os.PathLike[str] | None = None,
    read_only: bool = False,
    names: Sequence[str] = (),
    store: str | None = None,
    images: Sequence[str | os.PathLike[str]] = (),
    queue: int = 64,
    timeout: float = 30.0,
    runtime: RuntimeName | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serves the page (`/`), the API (`/api`, described at `/docs` and `/openapi.json`), `/health` and `/metrics`.

    Returns when it is told to stop (Ctrl-C, SIGTERM). The model is warm before the port opens.

    Args:
        index: The index folder; by default the one in `indexes/` that was built last.
        host: The address to listen at. Other machines reach only `0.0.0.0`, `::` or an address of this machine.
        port: The port; 0 takes a free one.
        token: What clients must send (`Authorization: Bearer TOKEN`), 8 or more letters and digits; the page asks for
            it once. By default the environment variable PULLPUSH_TOKEN, which the list of processes does not show.
            Needed where other machines reach the server.
        model: The model or its path, where it is no longer where it was.
        read_only: No adding and removing.
        names: Further host names that requests may use, as a proxy's.
        store: Where the vectors lie on a server, its address; see `open`.
        images: Folders whose images are shown in full. For an index that was built by another user or on another
            machine: of its items whose files lie neither there nor in the index only the thumbnails are shown.
        queue: Requests that may be under way at once; the next ones get 429.
        timeout: Seconds for one request.
        runtime: What computes embeddings in the place of eager PyTorch; see `open`.
        ready: Called with the address once the port is open.

    Raises: `UserError` when there is no index, its model is gone or differs, the port is taken, a package is missing,
    or a token is needed.
    """
    local = host in LOOPBACK
    token = token_of(token, "" if local else host)
    index = Path(index if index is not None else default_index())
    if not read_only:
        tidy(index)
    engine = open_index(index, model, store=store, runtime=runtime)
    service = Service(engine, queue, images)
    service.warm()
    hosts = (*LOOPBACK, host, *names) if local or names else None  # reached by any name, unless the names are given
    rules = Rules(hosts, token, timeout=timeout)
    listener = listen(host, port)
    prepare_log()
    if not (engine.version.made_here or images):
        logger.warning("this index was not built here: only thumbnails are shown of images outside it; name --images")
    server = make_server(service, rules, read_only)
    if ready is not None:
        ready(address_of(host, listener))
    server.run(sockets=[listener])


def address_of(host: str, listener: socket.socket) -> str:
    """What a browser is given."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


def token_of(token: str | None, host: str) -> str | None:
    """The token, checked; where other machines reach the server, at `host`, there must be one."""
    token = token or os.environ.get(TOKEN) or None
    if token is not None and not (token.isascii() and token.isalnum() and len(token) >= 8):
        raise UserError("the token must be 8 or more ASCII letters and digits, as it travels in headers and cookies")
    if host and token is None:
        raise UserError(
            f"at {host} other machines reach the server, so it needs a token: set the environment variable {TOKEN}, or "
            f"give --token"
        )
    return token


def make_server(service: Service, rules: Rules, read_only: bool = False) -> uvicorn.Server:
    """The application with its middleware and connections; `run` it."""
    connections = Connections()
    return server_of(make_app(service, rules, read_only, connections), connections)


def server_of(app: SecurityMiddleware, connections: Connections) -> uvicorn.Server:
    """What serves an application; `run` it with a socket of `listen`."""
    config = uvicorn.Config(
        app,
        http=partial(Connection, connections),  # type: ignore[arg-type]  # anything that makes a protocol
        ws="none",
        backlog=ACCEPTED,  # asyncio takes so many at a time
        h11_max_incomplete_event_size=HEAD,
        timeout_keep_alive=int(SILENT),
        timeout_graceful_shutdown=10,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
    )
    return _Server(config)


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(BACKLOG)  # asyncio has made it as short as what it takes at a time


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; `port` 0 takes a free one.

    Raises:
        UserError: the port is taken, or the address is not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        free = port + 1 if port < 65_535 else 0
        raise UserError(
            f"cannot listen at {host}, port {port}: {error.strerror}; choose another port: --port {free}"
        ) from error
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        # What a client does not read waits here, and not in megabytes of the system.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, PART)
    listener.listen()
    return listener
