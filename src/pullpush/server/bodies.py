"""The bodies of requests, received whole before anybody works on them."""

import asyncio
import heapq
import mmap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count

from starlette.types import Message, Receive

from pullpush.server.error_answers import BUSY
from pullpush.server.uploads import Refused

__all__ = ["CHUNK", "Bodies", "Gone", "too_slow"]

GRACE, RATE = 10.0, 16 * 1024
"""A body may take so many seconds, and one more for every so many bytes that have arrived."""
BUDGET = 128 * 1024 * 1024
"""Bytes of bodies that are held at once."""
CHUNK = 64 * 1024


class Gone(Exception):
    """The client has closed the connection."""


class Bodies:
    """Receives bodies; together they hold at most `budget` bytes, from the first byte until the request is answered.

    Where that is not enough, the one is given up that has cost the others most, in bytes times seconds: a client that
    sends makes it in a moment, and whoever only holds a place loses it. A turn of the event loop takes in one part, of
    the body of which least has arrived: whoever sends much does not hold up those that send little.
    """

    def __init__(self, budget: int = BUDGET) -> None:
        self.budget, self.held = budget, 0
        self._coming: set[_Body] = set()
        self._queue: list[tuple[int, int, asyncio.Future[None]]] = []
        self._number, self._giving = count(), False

    @contextmanager
    def room(self) -> Iterator["_Body"]:
        """For one request's body."""
        body = _Body(self)
        try:
            yield body
        finally:
            body.free()

    def make_room(self, last: "_Body") -> None:
        """Gives up the costliest until the rest fits. `last`: the one that has just grown."""
        now = asyncio.get_running_loop().time()
        while self.held > self.budget:
            if self._coming <= {last}:
                raise Refused(429, BUSY, "busy", close=True)
            max(self._coming, key=lambda body: body.cost(now)).give_up()

    async def turn(self, size: int) -> None:
        """Waits until a body of which `size` bytes have arrived may go on."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        heapq.heappush(self._queue, (size, next(self._number), future))
        if not self._giving:
            self._giving = True
            loop.call_soon(self._give)
        await future

    def _give(self) -> None:
        while self._queue:
            future = heapq.heappop(self._queue)[2]
            if not future.done():
                future.set_result(None)
                break
        self._giving = bool(self._queue)
        if self._giving:
            asyncio.get_running_loop().call_soon(self._give)


class _Body:
    """Its bytes lie in a map of their own: memory that the system has again at once, which small blocks of the heap
    that outlive a large one would keep."""

    def __init__(self, bodies: Bodies) -> None:
        self.bodies, self.size = bodies, 0
        self._map: mmap.mmap | None = None
        self._given, self._began = 0, 0.0
        self._read = True
        self._task: asyncio.Task[None] | None = None

    def cost(self, now: float) -> float:
        """Bytes times seconds."""
        return self.size * (now - self._began)

    def free(self) -> None:
        """Gives its bytes back."""
        self.bodies.held -= self.size
        self.size = 0
        self._unmap()

    def give_up(self) -> None:
        """Ends its arrival."""
        self.bodies._coming.discard(self)
        self.free()
        if self._task is not None:
            self._task.cancel()

    async def receive(self, receive: Receive, limit: int) -> None:
        """Raises: `Refused` where it is too large, was not sent in time, or had to make room for others; where requests
        that are being worked on hold as much as may be held. `Gone`."""
        self._began = asyncio.get_running_loop().time()
        self._task = asyncio.ensure_future(self._arrive(receive, limit))
        self.bodies._coming.add(self)
        try:
            await self._task
            self._read = False
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():  # we were, not the task alone
                raise
            raise too_slow() from None
        finally:
            self.bodies._coming.discard(self)

    async def again(self, receive: Receive) -> Message:
        """The body for whoever works on it, in parts between which others have their turn; then what the client does
        next."""
        if self._read:
            return await receive()
        await asyncio.sleep(0)
        part = self._map[self._given : min(self._given + CHUNK, self.size)] if self._map is not None else b""
        self._given += len(part)
        if self._given == self.size:
            self._read = True
            self._unmap()
        return {"type": "http.request", "body": part, "more_body": not self._read}

    async def _arrive(self, receive: Receive, limit: int) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + GRACE
        while True:
            try:
                async with asyncio.timeout_at(end + self.size / RATE):
                    message = await receive()
            except TimeoutError:
                raise too_slow() from None
            if message["type"] == "http.disconnect":
                raise Gone
            self._store(message.get("body", b""), limit)
            self.bodies.make_room(self)
            if not message.get("more_body"):
                return
            del message  # with its bytes, while others have their turn
            began = loop.time()
            await self.bodies.turn(self.size)
            end += loop.time() - began

    def _store(self, part: bytes, limit: int) -> None:
        if self.size + len(part) > limit:
            raise Refused(413, f"the request is larger than {limit:,} bytes", "too_large", close=True)
        if not part:
            return
        if self._map is None:
            self._map = mmap.mmap(-1, limit, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            with suppress(AttributeError, OSError):  # only Linux has them
                self._map.madvise(mmap.MADV_NOHUGEPAGE)  # a page of 2 MB for each byte of a slow one
        self._map[self.size : self.size + len(part)] = part
        self.size += len(part)
        self.bodies.held += len(part)

    def _unmap(self) -> None:
        if self._map is not None:
            self._map.close()
            self._map = None


def too_slow() -> Refused:
    """Of a body that did not arrive in time."""
    return Refused(408, "the request did not arrive in time; try again", "too_slow", close=True)
