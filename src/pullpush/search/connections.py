"""Connections: how many there may be, and for how long one may hold its place without using it.

Whoever opens connections and is silent, sends its request or reads its answer drop by drop, costs a server a file each
time, and without files it answers nobody. Here the number is limited, and where it is reached the connection that has
been waited for longest makes room: a client that means it sends its request at once.
"""

from __future__ import annotations

import asyncio
import json
import resource
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from pullpush.search.guard import HEAD

MOST = 512
SILENT = 15.0
"""Seconds from opening, or from the last answer, to a whole request head."""
UNREAD = 60.0
"""Seconds that an answer may lie unread."""
BACKLOG = 128


def most_connections() -> int:
    """Half of the files that the process may have open, and not more than `MOST`."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if files == resource.RLIM_INFINITY else max(16, min(MOST, files // 2))


class Connections:
    """All connections of a server, those first that have been waited for longest. `protocol` is for uvicorn."""

    def __init__(self, most: int | None = None, silent: float = SILENT, unread: float = UNREAD) -> None:
        self.most, self.silent, self.unread = most or most_connections(), silent, unread
        self._open: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def protocol(self, **options: Any) -> Connection:
        """A connection, as uvicorn makes one for each that is accepted."""
        return Connection(self, **options)

    def opened(self, connection: Connection) -> None:
        if len(self._open) >= self.most:
            now = asyncio.get_running_loop().time()
            quiet = (each for each in self._open if each.silent(now) or each.unread(now))
            oldest = next(quiet, connection)  # all the others are being answered: the new one has to wait
            oldest.drop()
            if oldest is connection:
                return
        self._open[connection] = None

    def waiting(self, connection: Connection) -> None:
        """It has had its answer, and is the last now of those that are waited for."""
        if self._open.pop(connection, self) is None:
            self._open[connection] = None

    def closed(self, connection: Connection) -> None:
        self._open.pop(connection, None)

    def sweep(self) -> None:
        """Closes those that have held their place for too long."""
        now = asyncio.get_running_loop().time()
        for connection in list(self._open):
            if connection.silent(now) > self.silent:
                connection.refuse(408, "too_slow", "the request did not arrive in time; try again")
            if connection.unread(now) > self.unread:
                connection.transport.abort()

    async def watch(self) -> None:
        """Sweeps every second, for ever."""
        while True:
            await asyncio.sleep(1)
            self.sweep()


class Connection(H11Protocol):
    """One connection, HTTP/1.1; what it answers by itself is JSON too."""

    def __init__(self, connections: Connections, **options: Any) -> None:
        super().__init__(**options)
        self._connections = connections
        self._since = self.loop.time()
        self._partial = False
        self._unread_since = 0.0

    def silent(self, now: float) -> float:
        """Seconds for which a request has been waited for; 0 while one is being answered."""
        return now - self._since if self.cycle is None or self.cycle.response_complete else 0.0

    def unread(self, now: float) -> float:
        """Seconds for which there has been something that the client did not read."""
        if not self.transport.get_write_buffer_size():
            self._unread_since = 0.0
            return 0.0
        self._unread_since = self._unread_since or now
        return now - self._unread_since

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._connections.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._partial = True
        super().data_received(data)

    def on_response_complete(self) -> None:
        self._since, self._partial = self.loop.time(), False
        self._connections.waiting(self)
        super().on_response_complete()

    def drop(self) -> None:
        """Makes room."""
        if self.unread(self.loop.time()):
            self.transport.abort()
        else:
            self.refuse(503, "busy", "there are too many connections; try again in a moment")

    def refuse(self, status: int, code: str, message: str) -> None:
        """Closes it; whoever has sent part of a request is told why."""
        if self._partial and self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps({"error": {"code": code, "message": message}}).encode()
            headers = [
                ("content-type", "application/json"),
                ("content-length", str(len(body))),
                ("connection", "close"),
            ]
            for event in (h11.Response(status_code=status, headers=headers), h11.Data(body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
        self._connections.closed(self)

    def send_400_response(self, msg: str) -> None:
        self.refuse(400, "bad_request", f"this is no HTTP request, or its head is longer than {HEAD:,} bytes")
