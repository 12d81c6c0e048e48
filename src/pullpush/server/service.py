"""The engine behind a server: concurrent queries batched into the encoder, a bounded number of them, results cached."""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import numpy as np

from pullpush.search import changes, layout
from pullpush.search.engine import Engine
from pullpush.search.enrolment import check_name, put_classes
from pullpush.search.errors import BadQuery, NoIndex
from pullpush.search.gallery import Identity
from pullpush.search.hits import Hit
from pullpush.search.lookup import Lookup, find
from pullpush.search.origin import within
from pullpush.search.published import Version
from pullpush.search.query import SearchQuery
from pullpush.search.staging import clean, staged
from pullpush.server.batching import Batcher, Cache
from pullpush.server.decoders import Busy, Decoders
from pullpush.server.uploads import Refused
from pullpush.server.why import Why, why

__all__ = ["GONE", "Service"]

logger = logging.getLogger("pullpush.serve")
Result = TypeVar("Result")

LARGE = 1024
"""Pixels of the longer side of an image that is served."""
REFRESH, RETRY = 1.0, 10.0
"""Seconds between two looks for a new version, and before one that cannot be opened is tried again."""
GONE = "the index is gone from its place; what was open is served on, and nothing can be added or removed"
UNREADABLE = "a new version of the index cannot be opened; version {} is served on, and the log says why"


class Service:
    """`queue`: requests that may be under way at once; more raise `Busy`. `folders`: files below them are shown whoever
    made the index."""

    def __init__(self, engine: Engine, queue: int = 64, folders: Sequence[str | os.PathLike[str]] = ()) -> None:
        self.engine, self.queue, self.busy = engine, queue, 0
        self.folders = (engine.index, *folders)
        self.encoder, self.workers, self.writer = ThreadPoolExecutor(1), ThreadPoolExecutor(2), ThreadPoolExecutor(1)
        # Copies: a row of a batch would keep all of it alive.
        self.images = Batcher(lambda pixels: [row.copy() for row in engine.embed_images(pixels)], self.encoder)
        self.added = Batcher(
            lambda pixels: [row.copy() for row in engine.embed_images(pixels, "gallery")], self.encoder
        )
        self.texts = Batcher(lambda texts: [row.copy() for row in engine.embed_texts(texts)], self.encoder)
        self.lookups = Batcher(find, self.workers)
        self.cache = Cache()
        self.decoders = Decoders()
        self._explaining = False
        self.problem: str | None = None
        """Why the index that is searched is not the one on disk; holds no path."""
        self._failed: tuple[tuple[int, int] | None, str] | None = None
        self._again = 0.0
        self._made_of: Version | None = None
        self._made: dict[str, asyncio.Future[bytes]] = {}

    def warm(self) -> None:
        """Runs every part once, so that the first client does not wait for anything to be loaded."""
        size = self.engine.model.side
        for count in (1, 2):
            vector = self.engine.embed_images([np.full((size, size, 3), 255, np.uint8)] * count)[0]
        if self.engine.model.text is not None:
            self.engine.embed_texts(["warm"])
        find([Lookup(self.engine.version, vector)])

    async def search(self, query: SearchQuery) -> list[Hit]:
        """The hits. Raises: `Busy`, and `UserError` as `Engine.query` does."""
        with self._slot():
            engine, version = self.engine, self.engine.version
            texts = [await self._text(text) for text in query.texts]
            images = [await self._image(data) for data in query.images]
            away = [await self._text(text) for text in query.minus_texts]
            given = [np.array(vectors) if vectors else version.none() for vectors in (texts, images, away)]
            # In a worker, as a filter looks through a column; before the batch, where an error is everybody's.
            wanted = await self._run(lambda: engine.lookup(version, query, *given))
            hits: list[Hit] = await self.lookups(wanted)
            return hits

    async def identify(self, data: bytes, far: float | None) -> Identity:
        """Who an uploaded image shows. Raises: `Busy`, and `UserError` as `Engine.identify` does."""
        with self._slot():
            vector, engine, version = await self._image(data), self.engine, self.engine.version
            return await self._run(lambda: engine.recognize(version, vector[None], far)[0])

    async def why(self, item: int, data: bytes | None, like: int | None) -> Why:
        """Why an item matches an uploaded image, or another item. One at a time: maps that are an approximation take a
        hundred times as long as an embedding, and searches go on beside them. Raises: `Busy`, and `UserError`."""
        with self._slot():
            if (data is None) == (like is None):
                raise BadQuery("give an image, or the id of an item as like")
            if self._explaining:
                raise Busy
            self._explaining = True
            try:
                engine = self.engine
                shown = data if like is None else await self._bytes_of(like)
                given, other = await self._pixels(shown or b""), await self._pixels(await self._bytes_of(item))
                return await self._run(lambda: why(engine.model, given, other))
            finally:
                self._explaining = False

    async def start(self) -> None:
        """Starts the decoders; removes what additions of killed servers left behind."""
        clean(self.engine.index)
        await self.decoders.start()

    async def add(self, data: Sequence[bytes], label: str, category: str, text: str) -> list[int]:
        """Adds uploaded images and returns their ids: all, or none where it ends before."""
        with self._slot(), staged(self.engine.index) as folder:
            ready = await self._ready(data, folder)
            engine, about = self.engine, [{"label": label, "category": category, "text": text}] * len(ready)
            return await self._change(
                lambda wait: changes.put(engine.index, ready, engine.model, about, wait, engine.store)
            )

    async def enroll(self, name: str, data: Sequence[bytes], more: bool) -> list[int]:
        """Enrols a class from uploaded images and returns their ids: all, or none where it ends before."""
        with self._slot(), staged(self.engine.index) as folder:
            kept = check_name(name)
            ready, engine = await self._ready(data, folder), self.engine
            names = [kept] * len(ready)
            return await self._change(
                lambda wait: put_classes(engine.index, ready, names, engine.model, more, wait, engine.store)[kept]
            )

    async def remove(self, item: int) -> int:
        """Removes an item."""
        with self._slot():
            return await self._change(
                lambda wait: changes.remove(self.engine.index, [item], wait=wait, store=self.engine.store)
            )

    async def image(self, item: int) -> bytes:
        """An item's image as WebP, decoded and encoded anew; its thumbnail where the file is gone, or not to be shown
        (see `origin.py`)."""
        with self._slot():
            return await self._bytes_of(item)

    async def once(self, name: str, compute: Callable[[Version], bytes]) -> bytes:
        """What `compute` makes of the version that is being searched, made once a version."""
        version = self.engine.version
        if self._made_of is not version:
            self._made_of, self._made = version, {}
        made = self._made
        if name not in made:
            made[name] = asyncio.ensure_future(self._run(lambda: compute(version)))
        try:
            return await asyncio.shield(made[name])
        except Exception:
            made.pop(name, None)
            raise

    async def follow(self) -> None:
        """Picks up new versions, for ever, whatever becomes of the index meanwhile."""
        while True:
            await asyncio.sleep(REFRESH)
            await self._run(self._look, self.writer)

    async def _change(self, change: Callable[[float], Result]) -> Result:
        """Runs `change` after those before it; all of them wait for other processes until `WAIT` from now.

        Cancelled before it begins, it does not happen; once it has begun it is waited for, so that whoever asked is
        told what became of it.
        """
        end, begun = time.monotonic() + layout.WAIT, threading.Lock()

        def work() -> list[Result]:
            if not begun.acquire(blocking=False):
                return []
            result = change(max(end - time.monotonic(), 0))
            self._look()
            return [result]

        done = asyncio.ensure_future(self._run(work, self.writer))
        try:
            return (await asyncio.shield(done))[0]
        except asyncio.CancelledError:
            if begun.acquire(blocking=False):
                raise
            return (await done)[0]

    def _look(self) -> None:
        """Opens a new version if there is one. What stands in the way is logged when it begins, tried again after a
        while or when yet another version is out, and said in `problem` until it ends."""
        try:
            stamp = layout.stamp(self.engine.index)
        except (NoIndex, OSError):
            stamp = None  # `refresh` says why
        if self._failed is not None and stamp == self._failed[0] and time.monotonic() < self._again:
            return
        try:
            self.engine.refresh()
        except Exception as error:
            failed = (stamp, str(error) or repr(error))
            if failed != self._failed:
                logger.error("the new version of the index cannot be opened: %s", failed[1])
            self.problem = GONE if isinstance(error, NoIndex) else UNREADABLE.format(self.engine.manifest.version)
            self._failed, self._again = failed, time.monotonic() + RETRY
        else:
            self.problem = self._failed = None

    async def close(self) -> None:
        for pool in (self.encoder, self.workers, self.writer):
            pool.shutdown(wait=False, cancel_futures=True)
        await self.decoders.close()

    async def _ready(self, data: Sequence[bytes], folder: Path) -> list[changes.Ready]:
        model = self.engine.model
        kept = [await self.decoders.keep(each, model.side, folder, model.fit) for each in data]
        vectors = await asyncio.gather(*(self.added(each.pixels) for each in kept))
        return [
            changes.Ready(folder / each.name, vector, each.thumbnail)
            for each, vector in zip(kept, vectors, strict=True)
        ]

    async def _bytes_of(self, item: int) -> bytes:
        path = self.engine.item(item).path
        if not (self.engine.version.made_here or within(path, self.folders)):
            return self.engine.thumbnail(item)
        try:
            return await self.decoders.thumbnail(path, LARGE)
        except (Refused, OSError):
            return self.engine.thumbnail(item)

    async def _text(self, text: str) -> np.ndarray:
        return await self.cache.get((self.engine.manifest.fingerprint, text), lambda: self.texts(text))

    async def _image(self, data: bytes) -> np.ndarray:
        async def embed() -> np.ndarray:
            return np.asarray(await self.images(await self._pixels(data)))

        return await self.cache.get((self.engine.manifest.fingerprint, sha256(data).digest()), embed)

    async def _pixels(self, data: bytes) -> np.ndarray:
        model = self.engine.model
        return await self.decoders.pixels(data, model.side, model.fit)

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
