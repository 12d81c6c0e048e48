"""Connections: how many there may be, and for how long one may hold its place without using it.

Whoever opens connections and is silent, sends its request or reads its answer drop by drop, costs a server a file each
time, and without files it answers nobody. Here the number is limited, and where it is reached the connection that has
been waited for longest makes room: a client that means it sends its request, and reads its answer, at once.
"""

import asyncio
import resource
import select
from itertools import chain
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from pullpush.server.error_answers import error_answer
from pullpush.server.middleware import HEAD

__all__ = ["ACCEPTED", "BACKLOG", "PART", "SILENT", "Connection", "Connections", "most_connections"]

MOST = 512
SILENT = 15.0
"""Seconds from opening, or from the last answer, to a whole request head."""
UNREAD = 60.0
"""Seconds that an answer may lie unread."""
PART = 64 * 1024
"""Bytes that are read from a connection at a time, and that the system takes of an answer before they are sent."""
MUCH = 4096
"""Bytes at a time by which a body does come in, and not drop by drop."""
ACCEPTED, BACKLOG = 8, 1024
"""Connections that are accepted in one turn of the event loop, so that those that are there have theirs, and that may
wait to be."""


def most_connections() -> int:
    """Half of the files that the process may have open, and not more than `MOST`."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if files == resource.RLIM_INFINITY else max(16, min(MOST, files // 2))


class Connections:
    """All connections of a server, and those that are waited for, longest first: for a request, for the rest of one, or
    until its answer is read."""

    def __init__(self, most: int | None = None, silent: float = SILENT, unread: float = UNREAD) -> None:
        self.most, self.silent, self.unread = most or most_connections(), silent, unread
        self._open: set[Connection] = set()
        self._waited: dict[Connection, None] = {}
        self._unread: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, connection: "Connection") -> None:
        self._open.add(connection)
        if len(self._open) > self.most:
            # Those that do not read, or ask again before they are answered, go before those that may be in the middle
            # of sending, and last those whose request lies there, not yet read by us; where all are being answered, the
            # new one has to wait.
            silent = (each for each in self._waited if not each.has_sent())
            oldest = next(chain(self._unread, silent, self._waited), connection)
            self.working(oldest)
            oldest.drop()
            if oldest is connection:
                return
        self.waiting(connection)

    def waiting(self, connection: "Connection", unread: bool = False) -> None:
        """It is the last now of those that are waited for. `unread`: until they read."""
        self.working(connection)
        if connection in self._open:
            (self._unread if unread else self._waited)[connection] = None

    def working(self, connection: "Connection") -> None:
        """It waits for us."""
        self._waited.pop(connection, None)
        self._unread.pop(connection, None)

    def closed(self, connection: "Connection") -> None:
        self._open.discard(connection)
        self.working(connection)

    def sweep(self) -> None:
        """Closes those that have held their place for too long."""
        now = asyncio.get_running_loop().time()
        for connection in list(self._open):
            if connection.unread(now) > self.unread:
                connection.transport.abort()
            elif connection.silent(now) > self.silent:
                connection.refuse(408, "too_slow", "the request did not arrive in time; try again")

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
        """Seconds for which a request has been waited for; 0 while one is being answered, or its answer read."""
        asked = self.cycle is not None and not self.cycle.response_complete
        return 0.0 if asked or self._unread_since or self.transport.is_closing() else now - self._since

    def unread(self, now: float) -> float:
        """Seconds for which there has been something that the client did not read."""
        if not self.transport.get_write_buffer_size():
            self._unread_since = 0.0
            return 0.0
        self._unread_since = self._unread_since or now
        return now - self._unread_since

    def has_sent(self) -> bool:
        """Whether something has come in that was not read yet, though it would be."""
        if self.flow.read_paused:  # by requests ahead of their turn
            return False
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket"), select.POLLIN)
        return bool(poll.poll(0))

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if hasattr(transport, "max_size"):
            transport.max_size = PART
        self._connections.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._partial = True
        before = self.cycle
        super().data_received(data)
        whole = self.cycle is not None and not self.cycle.more_body
        if whole or self.cycle is not before or len(data) >= MUCH:
            self._turn()

    def on_response_complete(self) -> None:
        self._since, self._partial = self.loop.time(), False
        super().on_response_complete()
        self._turn()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._connections.waiting(self, unread=True)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._turn()

    def timeout_keep_alive_handler(self) -> None:
        """`Connections.sweep` does it, and also closes those whose last answer is not read."""

    def _turn(self) -> None:
        """Tells whose turn it is: the client's, or ours once its request is here."""
        ours = self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete
        ahead = ours and bool(self.conn.trailing_data[0])  # more requests, before this one is answered
        if ours and not ahead and not self.flow.write_paused:
            self._connections.working(self)
        else:
            self._connections.waiting(self, unread=ahead or self.flow.write_paused)

    def drop(self) -> None:
        """Makes room."""
        if self.transport.get_write_buffer_size() or self.transport.is_closing():
            self.transport.abort()
        else:
            self.refuse(503, "busy", "there are too many connections; try again in a moment")

    def refuse(self, status: int, code: str, message: str) -> None:
        """Closes it; whoever has sent part of a request is told why."""
        if self._partial and self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            answer = error_answer(status, code, message, {"connection": "close"})
            response = h11.Response(status_code=status, headers=answer.raw_headers)
            for event in (response, h11.Data(bytes(answer.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # whoever waits for its body waits no more, and answers nothing
            self.cycle.message_event.set()
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        self.refuse(400, "bad_request", f"this is no HTTP request, or its head is longer than {HEAD:,} bytes")
