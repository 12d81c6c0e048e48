"""One encoder for many clients: what waits is embedded together."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np


class Batcher:
    """Embeds single inputs in batches, without waiting for a batch to fill: while one is computed, the next one
    gathers.

    `embed`: a list of up to `largest` inputs to `[n, dim]`, run in `pool`.
    """

    def __init__(self, embed: Callable[[list[Any]], np.ndarray], pool: ThreadPoolExecutor, largest: int = 32) -> None:
        self.embed, self.pool, self.largest = embed, pool, largest
        self.batches = self.inputs = 0
        self._queue: list[tuple[Any, asyncio.Future[np.ndarray]]] = []
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Inputs that wait."""
        return len(self._queue)

    async def __call__(self, value: Any) -> np.ndarray:
        """The embedding `[dim]` of one input. Raises: what `embed` raises."""
        future: asyncio.Future[np.ndarray] = asyncio.get_running_loop().create_future()
        self._queue.append((value, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queue:
            taken, self._queue = self._queue[: self.largest], self._queue[self.largest :]
            taken = [(value, future) for value, future in taken if not future.done()]  # whoever gave up is left out
            if not taken:
                continue
            self.batches, self.inputs = self.batches + 1, self.inputs + len(taken)
            try:
                vectors: Sequence[Any] = await loop.run_in_executor(
                    self.pool, self.embed, [value for value, _ in taken]
                )
            except Exception as error:
                vectors = [error] * len(taken)
            for (_, future), vector in zip(taken, vectors, strict=True):
                if future.done():
                    continue
                if isinstance(vector, Exception):
                    future.set_exception(vector)
                else:
                    future.set_result(np.array(vector))  # a copy: a row of the batch would keep all of it alive


class Cache:
    """The embeddings asked for last, by a checksum of what was embedded."""

    def __init__(self, size: int = 2_048) -> None:
        self.size, self.hits, self.misses = size, 0, 0
        self._known: OrderedDict[bytes, np.ndarray] = OrderedDict()

    def get(self, key: bytes) -> np.ndarray | None:
        vector = self._known.get(key)
        if vector is None:
            self.misses += 1
            return None
        self.hits += 1
        self._known.move_to_end(key)
        return vector

    def put(self, key: bytes, vector: np.ndarray) -> None:
        self._known[key] = vector
        while len(self._known) > self.size:
            self._known.popitem(last=False)


def checksum(*parts: str | bytes) -> bytes:
    """A key for `Cache`."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.digest()
