"""One encoder and one index for many clients: what waits is computed together."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

__all__ = ["Batcher", "Cache"]

LARGEST, CACHED = 32, 2_048


class Batcher:
    """Computes single inputs in batches, without waiting for a batch to fill: while one is computed, the next one
    gathers.

    `compute`: a list of up to `LARGEST` inputs to a list of results, run in `pool`.
    """

    def __init__(self, compute: Callable[[list[Any]], Sequence[Any]], pool: ThreadPoolExecutor) -> None:
        self.compute, self.pool = compute, pool
        self.batches = self.inputs = 0
        self._queue: list[tuple[Any, asyncio.Future[Any]]] = []
        self._task: asyncio.Task[None] | None = None

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
            taken, self._queue = self._queue[:LARGEST], self._queue[LARGEST:]
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
    """The embeddings asked for last."""

    def __init__(self) -> None:
        self.hits = self.misses = 0
        self._known: OrderedDict[Hashable, np.ndarray] = OrderedDict()

    async def get(self, key: Hashable, embed: Callable[[], Awaitable[np.ndarray]]) -> np.ndarray:
        """The embedding that has this key; `embed` makes it where it is not known."""
        vector = self._known.pop(key, None)
        if vector is None:
            self.misses += 1
            vector = await embed()
        else:
            self.hits += 1
        self._known[key] = vector  # now the last
        while len(self._known) > CACHED:
            self._known.popitem(last=False)
        return vector
