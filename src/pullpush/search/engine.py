"""The search engine: a query of texts, images and items, and the items closest to it."""

import math
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pullpush.encoders import bundle
from pullpush.encoders.decision import PRIOR, Decision
from pullpush.encoders.model import Model, Role
from pullpush.errors import UserError
from pullpush.evaluation.rerank import Rerank, rerank_of
from pullpush.names import did_you_mean
from pullpush.search import layout, origin, reranking, thumbnails
from pullpush.search.calibration import WEAK, closeness
from pullpush.search.errors import BadQuery, NoIndex, NoItem
from pullpush.search.exact import Rows
from pullpush.search.gallery import FAR, Gallery, Identity, gallery_of
from pullpush.search.index import check_fingerprint
from pullpush.search.layout import Manifest
from pullpush.search.stores import Vectors, open_store, trusted
from pullpush.search.stores.base import FILTERS
from pullpush.search.version import Opened, opened

__all__ = ["MOST", "Engine", "Hit", "Lookup", "SearchQuery", "Version", "mix", "open_index"]

WEIGHTS = {"text": 1.0, "image": 1.0, "like": 1.0, "minus": 0.5}
"""Default weights of the parts of a query."""
MOST = 1_000
IMPROBABLE = 0.1
"""Hits below this probability are marked as weak."""
SHOWN = ("id", "path", "label", "text", "category", "domain")

ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray


@dataclass(frozen=True)
class Hit:
    """One hit. `score` is the inner product with the query (a cosine), `closeness` the same read against the
    collection (0 for what nonsense finds, 1 for a good answer; see `calibration.py`), `probability` that it is of the
    query's class, by the model's decision; None without one, and for queries with texts."""

    id: int
    score: float
    path: str
    label: str
    text: list[str]
    category: str = ""
    domain: str = ""
    closeness: float = 1.0
    probability: float | None = None

    @property
    def weak(self) -> bool:
        """Whether less than one in ten such hits is of the query's class; where there is no probability, whether it is
        hardly closer than what nonsense finds: a closeness below 0.2."""
        return self.closeness < WEAK if self.probability is None else self.probability < IMPROBABLE

    def as_dict(self) -> dict[str, Any]:
        """What `pullpush search --json` prints of it."""
        shown = ("id", "score", "closeness", "probability", "weak", "path", "label", "text")
        return {name: getattr(self, name) for name in shown}


@dataclass(frozen=True)
class SearchQuery:
    """What is asked for, as for `Engine.query`. `images`: whatever whoever embeds them takes."""

    texts: Sequence[str] = ()
    images: Sequence[Any] = ()
    like: Sequence[int] = ()
    minus_texts: Sequence[str] = ()
    minus_ids: Sequence[int] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    k: int = 10
    where: Mapping[str, str] = field(default_factory=dict)
    cut_off: float | None = None
    min_probability: float | None = None
    rerank: Rerank = field(default_factory=Rerank)


@dataclass(frozen=True)
class Lookup:
    """An embedding `[dim]` and what is asked for around it; `text`: it comes from texts alone; `decision`: how its
    scores are read."""

    version: "Version"
    vector: np.ndarray
    k: int = 10
    where: Mapping[str, str] = field(default_factory=dict)
    cut_off: float | None = None
    exclude: Sequence[int] = ()
    text: bool = False
    decision: Decision | None = None
    min_probability: float | None = None
    rerank: Rerank = field(default_factory=Rerank)


class Version(Opened):
    """A published version, open for reading. Never changes; a new one takes its place."""

    def __init__(self, index: Path, store: str | None = None) -> None:
        super().__init__(index)
        manifest = self.manifest
        self.vectors: Vectors = open_store(trusted(manifest.store, store), manifest.uid).open(
            self.folder, manifest.version
        )
        self.table = self.table.set_index("id", drop=False)
        self.made_here = origin.made_here(manifest, self.folder)
        self.rows = Rows(self.table["id"].to_numpy())
        self.values = {name: dict.fromkeys(self.table[name].unique()) for name in FILTERS}
        """What a search can be narrowed by."""
        # Column by column: pandas takes longer for a row than the search for all.
        self._shown = [self.table[name].to_numpy() for name in SHOWN]
        self.packs = thumbnails.Packs(self.folder)

    def row(self, item: int) -> int:
        """Where an item stands in the table. Raises: `NoItem`."""
        try:
            return int(self.table.index.get_loc(int(item)))
        except KeyError:
            raise NoItem(f"{self.index} has no item {item}; ids are those that a search returns") from None

    def thumbnail(self, item: int) -> bytes:
        """WebP. Raises: `NoItem`."""
        row = self.table.iloc[self.row(item)]
        return self.packs.read(int(row["pack"]), int(row["offset"]), int(row["length"]))

    def vectors_of(self, items: Sequence[int]) -> np.ndarray:
        """The embeddings of items, `[n, dim]`. Raises: `NoItem`."""
        for item in items:
            self.row(item)
        return self.vectors.get(np.array(items, np.int64)) if len(items) else self.none()

    @cached_property
    def decision(self) -> Decision | None:
        """The decision of the model when the version was written."""
        return Decision.of(self.manifest.decision) if self.manifest.decision else None

    @cached_property
    def prior(self) -> float | None:
        """The share of pairs of one class among the pairs of items; None where no two have one."""
        labels, count = self.table["label"], len(self.table)
        sizes = labels[labels != ""].value_counts().to_numpy(np.float64)
        pairs = float((sizes * (sizes - 1)).sum())
        return min(pairs / (count * (count - 1)), 0.999) if pairs else None

    @cached_property
    def gallery(self) -> Gallery:
        """The classes, among which somebody is identified. Raises: `BadQuery` where there are none."""
        return gallery_of(self.table, self.vectors)

    def none(self) -> np.ndarray:
        """No embeddings, `[0, dim]`."""
        return np.zeros((0, self.manifest.dim), np.float32)

    def hits(
        self, rows: np.ndarray, scores: np.ndarray, near: np.ndarray, chances: np.ndarray | None = None
    ) -> list[Hit]:
        """The items in these rows of the table."""
        probabilities = [None] * len(rows) if chances is None else chances.tolist()
        columns = (*(column[rows] for column in self._shown), scores.tolist(), near.tolist(), probabilities)
        folder = str(self.index)
        return [
            Hit(
                int(item),
                score,
                os.path.join(folder, path),
                label,
                [str(each) for each in text],
                category,
                domain,
                closeness=close,
                probability=chance,
            )
            for item, path, label, text, category, domain, score, close, chance in zip(*columns, strict=True)
        ]


class Engine:
    """An index and its model, made by `pullpush.search.open`. Safe to use from several threads; picks up a new version
    by itself."""

    def __init__(self, index: Path, model: Model | None, store: str | None = None) -> None:
        self.index, self.store = index, store
        self._lock = threading.Lock()
        self._given = self._model = model
        self.version = self._open()
        """The version that is being searched."""
        if model is not None:
            check_fingerprint(index, self.manifest, model)

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
    ) -> list[Hit]:
        """The `k` items closest to a weighted sum of texts, images and items, closest first. Those that are
        hardly closer than what nonsense finds are among them, and say so (`Hit.weak`).

        Args:
            text: Texts; the model must have been trained with texts.
            image: Paths, PIL images or uint8 arrays.
            like: Ids of items in the index; they are not among the hits.
            minus: Texts or ids to move away from.
            weights: Of the four parts, by name; defaults in `WEIGHTS`. Within a part all count the same.
            k: This many hits, 1 to 1000; fewer only where there are no more items.
            where: Only items with these values of `label`, `category`, `domain` or `split`.
            cut_off: Hits with less closeness are left out; 0.2 leaves out what is hardly closer than nonsense. By
                default none is.
            min_probability: Hits that are of the query's class with a lower probability are left out. The model must
                have a decision, and the query no texts and nothing to move away from.
            cut_off: Hits with less closeness are left out; 0.2 leaves out the weak ones. By default none is.
            rerank: A `Rerank`, or its options as a mapping or in words, such as "expand=3,augment=3". The order of the
                hits is then that of the re-ranked similarity; their scores are cosines with the query, as always.

        Raises: `UserError` for an empty query, an unknown id, column or value, an unreadable image, options of
        re-ranking that there are not, and a model that differs.
        """
        with suppress(NoIndex):  # the index was moved away; what is open stays readable
            self.refresh()
        away = _listed(minus)
        words = [each for each in away if isinstance(each, str)]
        items = [int(each) for each in away if not isinstance(each, str)]
        query = SearchQuery(
            _listed(text),
            _listed(image),
            _listed(like),
            words,
            items,
            weights or {},
            k,
            where or {},
            cut_off,
            min_probability=min_probability,
            rerank=rerank_of(rerank),
        )
        version, texts, images = self.version, self.embed_texts(query.texts), self.embed_images(query.images)
        return self.find([self.lookup(version, query, texts, images, self.embed_texts(words))])[0]

    def identify(self, images: ImageLike | Sequence[ImageLike], far: float = FAR) -> list[Identity]:
        """Who each image shows: the closest class, or unknown where none is close enough.

        Args:
            images: paths, PIL images or uint8 arrays.
            far: the share of images of those who are not enrolled that may be given a name.

        Raises: `UserError` where nobody is enrolled, an image cannot be read, or so few are enrolled that the rate
        cannot be told.
        """
        with suppress(NoIndex):
            self.refresh()
        version = self.version
        return self.recognize(version, self.embed_images(_listed(images)), far)

    def recognize(self, version: Version, vectors: np.ndarray, far: float = FAR) -> list[Identity]:
        """`identify` of images that are embedded, `[n, dim]`, in a version. Raises: as `identify`."""
        self.check_current(version)
        return version.gallery.identify(vectors, far, self.decision_of(version))

    def lookup(
        self, version: Version, query: SearchQuery, texts: np.ndarray, images: np.ndarray, minus: np.ndarray
    ) -> Lookup:
        """What to look up for a query whose texts and images are embedded, `[n, dim]`.

        Raises: `UserError` for what cannot be asked for, and for a version of another model.
        """
        parts = {"text": texts, "image": images, "like": version.vectors_of(query.like)}
        parts["minus"] = np.concatenate([minus, version.vectors_of(query.minus_ids)])
        vector = mix(parts, query.weights)
        if not 1 <= query.k <= MOST:
            raise BadQuery(f"k is {query.k}; it can be 1 to {MOST}")
        self.check_current(version)
        _check_where(version.values, query.where)
        textual = len(texts) > 0 and not len(images) and not len(query.like)
        exclude = [*query.like, *query.minus_ids]
        decision = None if len(texts) or len(parts["minus"]) else self.decision_of(version)
        _check_probability(query.min_probability, decision, any(len(parts[name]) for name in ("text", "minus")))
        return Lookup(
            version,
            vector,
            query.k,
            query.where,
            query.cut_off,
            exclude,
            textual,
            decision=decision,
            min_probability=query.min_probability,
            rerank=query.rerank,
        )

    def decision_of(self, version: Version) -> Decision | None:
        """How scores are read: by the decision of the model, where that is loaded and has one, else by the one that it
        had when the version was written."""
        loaded = self._model.decision if self._model is not None else None
        return loaded if loaded is not None else version.decision

    def check_current(self, version: Version) -> None:
        """Raises: `BadQuery` where a version is of another model than the one that is searched now."""
        if version.manifest.fingerprint != self.manifest.fingerprint:
            raise BadQuery("the index was just built anew with another model; ask again")

    def find(self, wanted: Sequence[Lookup]) -> list[list[Hit]]:
        """The hits of each, which were checked; those that look in the same version among the same items read it
        once."""
        hits: dict[int, list[Hit]] = {}
        groups: dict[Any, list[int]] = {}
        for place, each in enumerate(wanted):
            groups.setdefault((id(each.version), *sorted(each.where.items())), []).append(place)
        for places in groups.values():
            group = [wanted[place] for place in places]
            for place, each, (scores, rows) in zip(places, group, _answers(group), strict=True):
                near = closeness(scores, each.version.manifest.calibration["text" if each.text else "image"])
                keep = near >= each.cut_off if each.cut_off is not None else np.ones(len(rows), bool)
                chances = _chances(each, scores)
                if chances is not None and each.min_probability is not None:
                    keep &= chances >= each.min_probability
                chances = chances[keep] if chances is not None else None
                hits[place] = each.version.hits(rows[keep], scores[keep], near[keep], chances)
        return [hits[place] for place in range(len(wanted))]

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
        """Opens the published version if another than the one in use; True if it was. While one thread opens it, the
        others go on with the old one.

        Raises: `NoIndex` when the index is gone, and whatever reading it raises when the new version cannot be opened.
        What is open stays readable.
        """
        if layout.stamp(self.index) == self.version.stamp or not self._lock.acquire(blocking=False):
            return False
        try:
            fresh = self._open()
            if self._given is not None:
                check_fingerprint(self.index, fresh.manifest, self._given)
            self.version = fresh
            return True
        finally:
            self._lock.release()

    def _load_model(self) -> Model:
        path = self.manifest.model
        if not path:
            raise UserError(
                f"{self.index} was built with a model that had no path; give it: open({str(self.index)!r}, model=...)"
            )
        model = bundle.load(path)
        check_fingerprint(self.index, self.manifest, model)
        return model

    def _open(self) -> Version:
        return opened(self.index, lambda index: Version(index, self.store))


def open_index(
    index: str | os.PathLike[str], model: Model | str | os.PathLike[str] | None = None, *, store: str | None = None
) -> Engine:
    """Opens an index for searching; its checksums are compared first.

    `model`: the model or its path, where it is no longer where it was when the index was built. `store`: where the
    vectors lie on a server, its address; by default that of the environment variable PULLPUSH_STORE, never that which
    the index names.

    Raises: `UserError` when there is no index, it is damaged, or the model is another than the index's.
    """
    loaded = bundle.load(model) if isinstance(model, str | os.PathLike) else model
    return Engine(Path(index), loaded, store)


def mix(parts: Mapping[str, np.ndarray], weights: Mapping[str, float] | None = None) -> np.ndarray:
    """sum_part weight_part mean(part) (minus: subtracted), of length 1. `parts`: name -> `[n, dim]`, n may be 0.

    Raises: `UserError` for an empty query, an unknown part or a sum of zero.
    """
    unknown = set(weights or {}) - set(WEIGHTS)
    if unknown:
        raise BadQuery(f"there is no part {sorted(unknown)[0]!r} to give a weight; the parts are {', '.join(WEIGHTS)}")
    weights = {**WEIGHTS, **(weights or {})}
    if not any(len(part) for name, part in parts.items() if name != "minus"):
        raise BadQuery("the query is empty; give a text, an image or an item to be like")
    total = sum(
        (-w if n == "minus" else w) / len(parts[n]) * parts[n].sum(axis=0)
        for n, w in weights.items()
        if len(parts.get(n, ()))
    )
    length = math.sqrt(total @ total)
    if not math.isfinite(length) or length < 1e-6:
        raise BadQuery("the parts of the query cancel each other out; change their weights")
    return np.asarray(total / length, np.float32)


def _answers(group: Sequence[Lookup]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Scores and table rows of the hits of each. Those that are not re-ranked are looked up together."""
    plain = iter(_search(asked) if (asked := [each for each in group if not each.rerank]) else ())
    return [_reranked(each) if each.rerank else next(plain) for each in group]


def _reranked(asked: Lookup) -> tuple[np.ndarray, np.ndarray]:
    version = asked.version
    ids = version.table["id"].to_numpy()

    def search(vector: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        return _search([replace(asked, vector=vector, k=k)])[0]

    return reranking.nearest(asked.vector, asked.k, asked.rerank, search, lambda rows: version.vectors.get(ids[rows]))


def _search(group: Sequence[Lookup]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Scores and table rows of the best `k` of each that are not excluded and that the table knows (a shared store may
    be ahead of it by a moment). All look in one version among the same items."""
    version, queries = group[0].version, np.stack([each.vector for each in group])
    more = max(each.k + len(each.exclude) for each in group)
    while True:
        results = []
        for each, scores, ids in zip(group, *version.vectors.search(queries, more, group[0].where), strict=True):
            rows = version.rows(ids)
            keep = rows >= 0
            if each.exclude:
                keep &= ~np.isin(ids, each.exclude)
            if keep.sum() < each.k and not (ids < 0).any() and more <= 16 * MOST:
                break
            results.append((scores[keep][: each.k], rows[keep][: each.k]))
        else:
            return results
        more *= 2


def _chances(asked: Lookup, scores: np.ndarray) -> np.ndarray | None:
    """The probability that each is of the query's class: as many pairs of the collection are of one class as its labels
    say, or without labels as many as of the validation."""
    decision, prior = asked.decision, asked.version.prior
    if decision is None:
        return None
    if prior is None:
        pairs = decision.positives + decision.negatives
        prior = decision.positives / pairs if decision.positives and decision.negatives else PRIOR
    return decision.probability(scores, prior)


def _check_probability(least: float | None, decision: Decision | None, mixed: bool) -> None:
    if least is None:
        return
    if not 0 <= least <= 1:
        raise BadQuery(f"the least probability is {least:g}; it can be 0 to 1")
    if mixed:
        raise BadQuery(
            "a probability is that two images are of one class; a query with words, or with something to move away "
            "from, has none: use the cut-off"
        )
    if decision is None:
        raise BadQuery(
            "the model of this index has no decision, which tells probabilities: train it again with validation "
            "classes, or use the cut-off"
        )


def _check_where(known: Mapping[str, Mapping[str, None]], where: Mapping[str, str]) -> None:
    for column, value in where.items():
        if column not in known:
            raise BadQuery(f"items cannot be narrowed by {column!r}; by {', '.join(known)}")
        if value not in known[column]:
            values = [str(v) for v in known[column] if v]
            hint = did_you_mean(value, values, f"it can be {', '.join(values[:8])}", "{!r}")
            hint = hint if values else f"no item of this index has a {column}"
            raise BadQuery(f"no item has the {column} {value!r}; {hint}")


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, str | os.PathLike | Image.Image | np.ndarray) or not isinstance(value, Iterable):
        return [value]
    return list(value)
