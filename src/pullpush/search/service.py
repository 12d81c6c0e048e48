"""The engine behind a server: concurrent queries batched into the encoder, a bounded number of them, results cached."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from pullpush.errors import UserError
from pullpush.images import open_rgb, resize_and_center
from pullpush.search import index as changes
from pullpush.search.batching import Batcher, Cache, checksum
from pullpush.search.calibration import CUT_OFF
from pullpush.search.engine import Engine, Hit, Lookup, mix
from pullpush.search.thumbnails import thumbnail
from pullpush.search.uploads import decode

logger = logging.getLogger("pullpush.serve")
Result = TypeVar("Result")

LARGE = 1024
"""Pixels of the longer side of a picture that is served."""
REFRESH = 1.0
"""Seconds between two looks for a new version."""


class Busy(Exception):
    """As many requests as may wait are waiting."""


@dataclass
class Query:
    """What a client asks for; `images` are the uploaded bytes."""

    texts: Sequence[str] = ()
    images: Sequence[bytes] = ()
    like: Sequence[int] = ()
    minus_texts: Sequence[str] = ()
    minus_ids: Sequence[int] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    k: int = 10
    where: Mapping[str, str] = field(default_factory=dict)
    cut_off: float | None = CUT_OFF


class Service:
    """`queue`: requests that may be under way at once; more raise `Busy`."""

    def __init__(self, engine: Engine, queue: int = 64) -> None:
        self.engine, self.queue, self.busy = engine, queue, 0
        self.encoder, self.workers, self.writer = ThreadPoolExecutor(1), ThreadPoolExecutor(2), ThreadPoolExecutor(1)
        # Copies: a row of a batch would keep all of it alive.
        self.images = Batcher(lambda pixels: [row.copy() for row in engine.embed_images(pixels)], self.encoder)
        self.texts = Batcher(lambda texts: [row.copy() for row in engine.embed_texts(texts)], self.encoder)
        self.lookups = Batcher(engine.find, self.workers)
        self.cache = Cache()

    def warm(self) -> None:
        """Runs every part once, so that the first client does not wait for anything to be loaded."""
        size = self.engine.model.preprocessing.size
        for count in (1, 2):
            vector = self.engine.embed_images([np.full((size, size, 3), 255, np.uint8)] * count)[0]
        if self.engine.model.text is not None:
            self.engine.embed_texts(["warm"])
        self.engine.find([Lookup(self.engine.version, vector, cut_off=None)])

    async def search(self, query: Query) -> list[Hit]:
        """The hits. Raises: `Busy`, and `UserError` as `Engine.query` does."""
        with self._slot():
            engine, version = self.engine, self.engine.version
            texts = [await self._text(text) for text in query.texts]
            images = [await self._image(data) for data in query.images]
            away = [await self._text(text) for text in query.minus_texts]
            known = await self._run(lambda: [engine.known(version, ids) for ids in (query.like, query.minus_ids)])
            empty = np.zeros((0, version.manifest.dim), np.float32)
            parts = {
                "text": np.array(texts) if texts else empty,
                "image": np.array(images) if images else empty,
                "like": known[0],
                "minus": np.concatenate([np.array(away) if away else empty, known[1]]),
            }
            wanted = Lookup(
                version,
                mix(parts, query.weights),
                query.k,
                query.where,
                query.cut_off,
                [*query.like, *query.minus_ids],
                bool(texts) and not images and not query.like,
            )
            # Before the batch, where an error is everybody's; in a worker, as a filter looks through a column.
            await self._run(lambda: engine.check(wanted))
            return await self.lookups(wanted)

    async def add(self, data: Sequence[bytes], label: str, category: str, text: str) -> list[int]:
        """Adds uploaded pictures and returns their ids."""
        with self._slot():
            pictures = [await self._run(lambda each=each: decode(each)) for each in data]
            model, index = self.engine.model, self.engine.index
            return await self._run(
                lambda: self._then_refresh(
                    changes.add(index, pictures, model, label=label, category=category, text=text)
                ),
                self.writer,
            )

    async def remove(self, item: int) -> int:
        """Removes an item."""
        with self._slot():
            return await self._run(lambda: self._then_refresh(changes.remove(self.engine.index, [item])), self.writer)

    async def picture(self, item: int) -> bytes:
        """An item's picture as WebP, decoded and encoded anew; its thumbnail where the file is gone."""
        with self._slot():
            return await self._run(lambda: self._picture(item))

    async def follow(self) -> None:
        """Picks up new versions, for ever."""
        while True:
            await asyncio.sleep(REFRESH)
            try:
                await self._run(self.engine.refresh, self.writer)
            except UserError as error:  # the old version is served on; whoever runs the server should know
                logger.error("the new version of the index cannot be opened: %s", error)

    def close(self) -> None:
        for pool in (self.encoder, self.workers, self.writer):
            pool.shutdown(wait=False, cancel_futures=True)

    def _picture(self, item: int) -> bytes:
        hit = self.engine.item(item)
        try:
            return thumbnail(open_rgb(hit.path), LARGE)
        except UserError:
            return self.engine.thumbnail(item)

    def _then_refresh(self, result: Result) -> Result:
        self.engine.refresh()
        return result

    async def _text(self, text: str) -> np.ndarray:
        return await self._cached(checksum(self.engine.manifest.fingerprint, "text", text), lambda: self.texts(text))

    async def _image(self, data: bytes) -> np.ndarray:
        async def embed() -> np.ndarray:
            size = self.engine.model.preprocessing.size
            return await self.images(await self._run(lambda: resize_and_center(decode(data), size)))

        return await self._cached(checksum(self.engine.manifest.fingerprint, "image", data), embed)

    async def _cached(self, key: bytes, embed: Callable[[], Any]) -> np.ndarray:
        vector = self.cache.get(key)
        if vector is None:
            vector = await embed()
            self.cache.put(key, vector)
        return vector

    async def _run(self, work: Callable[[], Result], pool: ThreadPoolExecutor | None = None) -> Result:
        return await asyncio.get_running_loop().run_in_executor(pool or self.workers, work)

    @contextmanager
    def _slot(self) -> Iterator[None]:
        if self.busy >= self.queue:
            raise Busy
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1
