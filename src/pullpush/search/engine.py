"""The search engine: a query of texts, images and items, and the items closest to it."""

import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pullpush.encoders import load
from pullpush.encoders.decision import Decision
from pullpush.encoders.model import Model, Role
from pullpush.encoders.rerank import Rerank
from pullpush.encoders.runtimes.runtime import RuntimeName, with_runtime
from pullpush.search import layout
from pullpush.search.errors import BadQuery, NoIndex
from pullpush.search.gallery import Identity
from pullpush.search.hits import Hit, Hits
from pullpush.search.layout import Manifest
from pullpush.search.lookup import Lookup, find
from pullpush.search.published import Version
from pullpush.search.query import ImageLike, SearchQuery, asked_rerank, check, listed, mix
from pullpush.search.version import fitting, model_of, opened

__all__ = ["Engine", "open_index"]


class Engine:
    """An index and its model, made by `pullpush.search.open`. Safe to use from several threads; picks up a new version
    by itself."""

    def __init__(
        self, index: Path, model: Model | None, store: str | None = None, runtime: RuntimeName | None = None
    ) -> None:
        self.index, self.store, self.runtime = index, store, runtime
        self._lock = threading.Lock()
        self._given = self._model = model
        self.version = self._open()
        """The version that is being searched."""
        if model is not None:
            self._given = self._model = fitting(index, self.manifest, model)

    @property
    def manifest(self) -> Manifest:
        return self.version.manifest

    @property
    def model(self) -> Model:
        """The model, loaded when first needed. Raises: `UserError` when it is gone or is another one now."""
        if self._model is None or self._model.fingerprint != self.manifest.fingerprint:
            with self._lock:
                if self._model is None or self._model.fingerprint != self.manifest.fingerprint:
                    self._model = self._load_model()
        return self._model

    def __len__(self) -> int:
        return self.manifest.count

    def __repr__(self) -> str:
        m = self.manifest
        store = m.facts.get("kind") or m.store
        return f"Engine({str(self.index)!r}, items={m.count}, dim={m.dim}, store={store!r}, version={m.version})"

    def query(
        self,
        text: str | Sequence[str] | None = None,
        image: ImageLike | Sequence[ImageLike] | None = None,
        like: int | Sequence[int] | None = None,
        minus: str | int | Sequence[str | int] | None = None,
        *,
        weights: Mapping[str, float] | None = None,
        k: int = 10,
        where: Mapping[str, str] | None = None,
        cut_off: float | None = None,
        min_probability: float | None = None,
        rerank: Any = None,
    ) -> Hits:
        """The `k` items closest to a weighted sum of texts, images and items, closest first. Those that are
        hardly closer than what nonsense finds are among them, and say so (`Hit.weak`).

        Args:
            text: Texts; the model must have been trained with texts.
            image: Paths, PIL images or uint8 arrays.
            like: Ids of items in the index; they are not among the hits.
            minus: Texts or ids to move away from.
            weights: Of the four parts, by name; defaults in `search.query.WEIGHTS`. Within a part all count the same.
            k: This many hits, 1 to 1000; fewer only where there are no more items.
            where: Only items with these values of `label`, `category`, `domain` or `split`.
            cut_off: Hits with less closeness are left out; 0.2 leaves out what is hardly closer than nonsense. By
                default none is.
            min_probability: Hits that are of the query's class with a lower probability are left out. The model must
                have a decision, and the query no texts and nothing to move away from.
            rerank: A `Rerank`, or its options as a mapping or in words, such as "expand=3,augment=3"; "auto" is what
                the validation classes of the model have chosen, which may be none. The order of the hits is then that
                of the re-ranked similarity; their scores are cosines with the query, as always.

        Raises:
            UserError: an empty query, an unknown id, column or value, an unreadable image, unknown options of
                re-ranking, or a model that is not the index's.
        """
        self._follow()
        away = listed(minus)
        query = SearchQuery(
            texts=listed(text),
            images=listed(image),
            like=listed(like),
            minus_texts=[each for each in away if isinstance(each, str)],
            minus_ids=[int(each) for each in away if not isinstance(each, str)],
            weights=weights or {},
            k=k,
            where=where or {},
            cut_off=cut_off,
            min_probability=min_probability,
            rerank=asked_rerank(rerank),
        )
        version, texts, images = self.version, self.embed_texts(query.texts), self.embed_images(query.images)
        return find([self.lookup(version, query, texts, images, self.embed_texts(query.minus_texts))])[0]

    def identify(self, images: ImageLike | Sequence[ImageLike], far: float | None = None) -> list[Identity]:
        """Who each image shows: the closest class, or unknown where none is close enough.

        Args:
            images: paths, PIL images or uint8 arrays.
            far: the share of images of those who are not enrolled that may be given a name; None for 0.01 or, where
                that cannot be told, the smallest that can, up to 0.1.

        Raises:
            UserError: nobody is enrolled, an image cannot be read, or so few are enrolled that the rate cannot be told.
        """
        self._follow()
        version = self.version
        return self.recognize(version, self.embed_images(listed(images)), far)

    def recognize(self, version: Version, vectors: np.ndarray, far: float | None = None) -> list[Identity]:
        """`identify` of images that are embedded, `[n, dim]`, in a version. Raises: as `identify`."""
        self.check_current(version)
        return version.gallery.identify(vectors, far, self.decision_of(version))

    def lookup(
        self, version: Version, query: SearchQuery, texts: np.ndarray, images: np.ndarray, minus: np.ndarray
    ) -> Lookup:
        """What to look up for a query, once its texts and images are embedded.

        Args:
            version: to look in.
            query: what is asked for.
            texts, images, minus: the embeddings of its `texts`, `images` and `minus_texts`, `[n, dim]`.

        Raises:
            UserError: it cannot be asked for, or the version is of another model.
        """
        away = np.concatenate([minus, version.vectors_of(query.minus_ids)])
        parts = {"text": texts, "image": images, "like": version.vectors_of(query.like), "minus": away}
        vector = mix(parts, query.weights)
        self.check_current(version)
        decision = self.decision_of(version) if query.of_one_class else None
        check(query, version.values, decision)
        if query.rerank is None:
            query = replace(query, rerank=self.rerank_of(version))
        return Lookup(version, vector, query, decision)

    def decision_of(self, version: Version) -> Decision | None:
        """How scores are read: by the decision of the model, where that is loaded and has one, else by the one that it
        had when the version was written."""
        loaded = self._model.decision if self._model is not None else None
        return loaded if loaded is not None else version.decision

    def rerank_of(self, version: Version) -> Rerank:
        """What `auto` is: the re-ranking of the model, where that is loaded and has one, else the one that it had when
        the version was written."""
        loaded = self._model.rerank if self._model is not None else None
        return loaded or version.rerank

    def check_current(self, version: Version) -> None:
        """Raises: `BadQuery` where a version is of another model than the one that is searched now."""
        if version.manifest.fingerprint != self.manifest.fingerprint:
            raise BadQuery("the index was just built anew with another model; ask again")

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """float32 `[n, dim]`."""
        if not texts:
            return self.version.none()
        blank = [each for each in texts if not each.strip()]
        if blank:
            raise BadQuery("the text to search for is empty; give a few words")
        if self.model.text is None:
            raise BadQuery("the model of this index has no text encoder; search by images or items")
        return self.model.embed_text(list(texts))

    def embed_images(self, images: Sequence[ImageLike], role: Role = "query") -> np.ndarray:
        """float32 `[n, dim]`, to search with, or of the `gallery`, to be added."""
        if not len(images):
            return self.version.none()
        return self.model.embed(list(images), role=role)

    def thumbnail(self, item: int) -> bytes:
        """A small image of an item, WebP. Raises: `UserError` for an unknown id."""
        return self.version.thumbnail(item)

    def item(self, item: int) -> Hit:
        """What is known of an item (score 1). Raises: `UserError` for an unknown id."""
        version = self.version
        return version.hits(np.array([version.row(item)]), np.ones(1), np.ones(1))[0]

    def refresh(self) -> bool:
        """Opens the published version where it is another than the one in use. While one thread opens it, the others go
        on with the old one.

        Returns:
            Whether it was another one.

        Raises:
            NoIndex: the index is gone. Whatever reading raises, where the new version cannot be opened. What is open
                stays readable.
        """
        if layout.stamp(self.index) == self.version.stamp or not self._lock.acquire(blocking=False):
            return False
        try:
            fresh = self._open()
            if self._given is not None:
                self._given = self._model = fitting(self.index, fresh.manifest, self._given)
            self.version = fresh
            return True
        finally:
            self._lock.release()

    def _follow(self) -> None:
        """Searches the published version from now on; where the index was moved away, what is open stays readable."""
        with suppress(NoIndex):
            self.refresh()

    def _load_model(self) -> Model:
        model = model_of(self.version)
        return model if self.runtime is None else with_runtime(model, self.runtime)

    def _open(self) -> Version:
        return opened(self.index, lambda index: Version(index, self.store))


def open_index(
    index: str | os.PathLike[str],
    model: Model | str | os.PathLike[str] | None = None,
    *,
    store: str | None = None,
    runtime: RuntimeName | None = None,
) -> Engine:
    """Opens an index for searching; its checksums are compared first.

    Args:
        index: the folder.
        model: the model, its path or its name, where it is no longer where it was when the index was built.
        store: where the vectors lie on a server, its address; by default that of the environment variable
            PULLPUSH_STORE, never the one that the index names.
        runtime: what computes embeddings in the place of eager PyTorch: `onnx` or `openvino`, several times as fast.

    Raises:
        UserError: there is no index, it is damaged, the model is another than the index's, or the runtime is not
            installed.
    """
    loaded = load(model) if isinstance(model, str | os.PathLike) else model
    if loaded is not None and runtime is not None:
        loaded = with_runtime(loaded, runtime)
    return Engine(Path(index), loaded, store, runtime)
