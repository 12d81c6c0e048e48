"""The bodies of requests, received whole before anybody works on them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Message, Receive

GRACE, RATE = 10.0, 16 * 1024
"""A body may take so many seconds, and one more for every so many bytes that have arrived."""
BUDGET = 128 * 1024 * 1024
"""Bytes of bodies that are held at once."""
CHUNK = 64 * 1024


class TooLarge(Exception):
    """More was sent than is allowed."""


class TooSlow(Exception):
    """It was not sent in time, or had to make room for others."""


class TooMuch(Exception):
    """Requests that are being worked on hold as much as may be held."""


class Gone(Exception):
    """The client has closed the connection."""


class Bodies:
    """Receives bodies; together they hold at most `budget` bytes, from the first byte until the request is answered.

    Where that is not enough, the one that has been coming in for longest is given up: a client that sends makes it in a
    moment, and whoever only holds a place loses it.
    """

    def __init__(self, budget: int = BUDGET) -> None:
        self.budget, self.held = budget, 0
        self._coming: dict[asyncio.Task[bytearray], None] = {}

    @contextmanager
    def room(self) -> Iterator[_Body]:
        """For one request's body."""
        body = _Body(self)
        try:
            yield body
        finally:
            self.held -= body.size

    def make_room(self) -> None:
        """Gives up what came first until the rest fits."""
        if self.held <= self.budget:
            return
        for task in list(self._coming):
            if task is not asyncio.current_task():
                task.cancel()
                del self._coming[task]
                return  # its bytes are given back when it ends; the next chunk of anybody looks again
        raise TooMuch


class _Body:
    def __init__(self, bodies: Bodies) -> None:
        self.bodies, self.size = bodies, 0
        self._data: bytearray | None = None

    async def receive(self, receive: Receive, limit: int) -> None:
        """Raises: `TooLarge`, `TooSlow`, `TooMuch`, `Gone`."""
        task = asyncio.ensure_future(self._read(receive, limit))
        self.bodies._coming[task] = None
        try:
            self._data = await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():  # we were, not the task alone
                raise
            raise TooSlow from None
        finally:
            self.bodies._coming.pop(task, None)

    async def again(self, receive: Receive) -> Message:
        """The body for whoever works on it, in parts between which others have their turn; then what the client does
        next."""
        if self._data is None:
            return await receive()
        await asyncio.sleep(0)
        part = bytes(self._data[:CHUNK])
        del self._data[:CHUNK]
        if not self._data:
            self._data = None
        return {"type": "http.request", "body": part, "more_body": self._data is not None}

    async def _read(self, receive: Receive, limit: int) -> bytearray:
        data, loop = bytearray(), asyncio.get_running_loop()
        started = loop.time()
        while True:
            try:
                async with asyncio.timeout_at(started + GRACE + len(data) / RATE):
                    message = await receive()
            except TimeoutError:
                raise TooSlow from None
            if message["type"] == "http.disconnect":
                raise Gone
            part = message.get("body", b"")
            data += part
            self.size += len(part)
            self.bodies.held += len(part)
            if len(data) > limit:
                raise TooLarge
            self.bodies.make_room()
            if not message.get("more_body"):
                return data
