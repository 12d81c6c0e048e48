"""One encoder and one index for many clients: what waits is computed together."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

__all__ = ["Batcher", "Cache", "checksum"]


class Batcher:
    """Computes single inputs in batches, without waiting for a batch to fill: while one is computed, the next one
    gathers.

    `compute`: a list of up to `largest` inputs to a list of results, run in `pool`.
    """

    def __init__(
        self, compute: Callable[[list[Any]], Sequence[Any]], pool: ThreadPoolExecutor, largest: int = 32
    ) -> None:
        self.compute, self.pool, self.largest = compute, pool, largest
        self.batches = self.inputs = 0
        self._queue: list[tuple[Any, asyncio.Future[Any]]] = []
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Inputs that wait."""
        return len(self._queue)

    async def __call__(self, value: Any) -> Any:
        """The result of one input. Raises: what `compute` raises."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
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
                results: Sequence[Any] = await loop.run_in_executor(
                    self.pool, self.compute, [value for value, _ in taken]
                )
            except Exception as error:
                results = [error] * len(taken)
            for (_, future), result in zip(taken, results, strict=True):
                if future.done():
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)


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
