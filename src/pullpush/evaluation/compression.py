"""What small embeddings find: a row for each number of dimensions and each type that they are stored as."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from pullpush.data.items import Items
from pullpush.encoders.compression import DTYPES, Compression, Dtype, Reduction, decode, encode, stored_bytes
from pullpush.errors import UserError
from pullpush.evaluation import knn
from pullpush.evaluation.knn import Floats, Ints, Space
from pullpush.evaluation.protocols import Protocol, evaluate_items, protocol_for
from pullpush.progress import work

__all__ = ["CANDIDATES", "RESCORED", "Compressed", "Dtype", "Rescored", "compressed"]

CANDIDATES = 100
"""Items that are found by their bits and compared again."""

RESCORED = "binary, rescored"
"""In the place of a type: bits that find candidates, which are ordered by their int8 embeddings."""


@dataclass(frozen=True)
class Compressed:
    """What is found with one kind of small embeddings.

    Attributes:
        reduction: `none`, `prefix` or `pca`.
        dim: dimensions that are left.
        dtype: of `DTYPES`, or `RESCORED`.
        bytes: that are kept of an item; with `RESCORED` bits and int8 together.
        scanned: of these, bytes that are read of each item in a search.
        recall_at_1: recall@1.
        map_at_r: MAP@R.
    """

    reduction: Reduction | Literal["none"]
    dim: int
    dtype: str
    bytes: int
    scanned: int
    recall_at_1: float
    map_at_r: float

    def values(self) -> dict[str, Any]:
        """By the names that the metrics have elsewhere."""
        named = {"recall_at_1": "recall@1", "map_at_r": "map@r"}
        return {named.get(name, name): value for name, value in asdict(self).items()}


def compressed(
    embeddings: Any,
    items: Items,
    compression: Compression | Floats,
    *,
    queries: Any = None,
    dims: Sequence[int] = (64, 32),
    reductions: Sequence[Reduction] = ("prefix", "pca"),
    dtypes: Sequence[Dtype] = DTYPES,
    candidates: int = CANDIDATES,
    protocol: Protocol | str | None = None,
    seed: int = 0,
) -> list[Compressed]:
    """The metrics of small embeddings of test items, both queries and gallery small.

    Where binary is among the types, there is a row of `RESCORED` after it.

    Args:
        embeddings: float32 `[n, dim]` of length 1, rows as in `items`.
        items: that are searched among.
        compression: fitted to training embeddings, or these; without its components there are no rows of `pca`.
        queries: float32 `[n, dim]`, the embeddings of the same items as queries, where these are others (test views).
        dims: numbers of dimensions beside all; those that are no less are passed over.
        reductions: what fewer dimensions are.
        dtypes: what they are stored as.
        candidates: that are rescored.
        protocol: as of `evaluate_items`.
        seed: of the draw among candidates whose bits are equally far.

    Raises:
        UserError: as `evaluate_items`.
    """
    x = knn.matrix(embeddings, "embeddings")
    sides = [x] if queries is None else [x, knn.matrix(queries, "queries")]
    small = compression if isinstance(compression, Compression) else Compression.fit(compression)
    protocol = replace(protocol_for(items), draws=0) if protocol is None else protocol
    kinds: list[tuple[Reduction | Literal["none"], int]] = [("none", x.shape[1])]
    able = [each for each in reductions if each != "pca" or small.components is not None]
    kinds += [(reduction, dim) for dim in dims if dim < x.shape[1] for reduction in able]
    rows = []
    with work("evaluating small embeddings", len(kinds) * len(dtypes), "kinds") as current:
        for reduction, dim in kinds:
            kind = small if reduction == "none" else replace(small, reduction=reduction)
            for dtype in dtypes:
                for name, (vectors, *asking), similarity, size in _stored(kind, sides, dim, dtype, candidates, seed):
                    found = evaluate_items(
                        vectors,
                        items,
                        protocol,
                        queries=asking[0] if asking else None,
                        nmi=False,
                        neighbours=0,
                        similarity=similarity,
                    )
                    recall, map_at_r = found.metrics["recall@1"], found.metrics["map@r"]
                    rows.append(Compressed(reduction, dim, name, size, stored_bytes(dim, dtype), recall, map_at_r))
                current.advance()
    return rows


def _stored(
    small: Compression, sides: Sequence[Floats], dim: int, dtype: Dtype, candidates: int, seed: int
) -> Iterator[tuple[str, list[Floats], knn.Similarity, int]]:
    """Name, vectors of each side, similarity and bytes of what is stored as a type."""
    decoded = [decode(small(x, dim, dtype), dim) for x in sides]
    size = stored_bytes(dim, dtype)
    yield dtype, decoded, "cosine", size
    if dtype == "binary":
        beside = [np.hstack([small.reduce(x, dim), np.sign(bits)]) for x, bits in zip(sides, decoded, strict=True)]
        yield RESCORED, beside, Rescored(candidates, seed), size + stored_bytes(dim, "int8")


@dataclass(frozen=True)
class Rescored:
    """A similarity: the candidates are the nearest by their bits, and stand before all others, ordered by the cosine of
    the float32 query with the int8 embeddings; the others are ordered by their bits. Which candidates are taken of
    those whose bits are equally far is drawn, so that the order of the gallery does not help.

    Called with rows of the embedding `[dim]` and of its signs, 1 and -1 `[dim]`, side by side; of both sides alike. An
    item is no candidate of its own.

    Attributes:
        candidates: at least 1.
        seed: of the draw.

    Raises:
        UserError: no candidates.
    """

    candidates: int = CANDIDATES
    seed: int = 0

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise UserError(f"candidates is {self.candidates}; rescore at least 1")

    def __call__(self, queries: Floats, gallery: Floats, own: Ints) -> Space:
        dim = queries.shape[1] // 2
        fine, bits = queries[:, :dim], queries[:, dim:]
        stored = decode(encode(gallery[:, :dim], "int8"), dim)
        # The inner product of signs, d - 2h, takes steps of 2: less than 1 more or less orders only what is tied.
        drawn = np.random.default_rng(self.seed).uniform(-0.99, 0.99, (len(gallery), 1)).astype(np.float32)

        def adjust(start: int, block: Floats) -> None:
            at = slice(start, start + len(block))
            knn.mask_own(block, own[at])
            near = knn.nearest(block, knn.shortlist(block, self.candidates, 0.0), self.candidates).indices
            cosine = np.einsum("qd,qkd->qk", fine[at], stored[near])
            hamming = np.rint((dim - block) / 2)
            np.multiply(hamming, -1 / (2 * dim), out=block)
            block -= 0.5  # -1 to -0.5
            rows, places = np.nonzero(near >= 0)
            block[rows, near[rows, places]] = (cosine[rows, places] + 1) / 2

        columns = np.hstack([bits, np.ones_like(drawn[: len(queries)], shape=(len(queries), 1))])
        return Space(columns, np.hstack([gallery[:, dim:], drawn]), np.ones(len(queries)), adjust)
