"""Embeddings in the plane: near to one another where they are similar, and the same for the same seed."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from pullpush.errors import UserError
from pullpush.evaluation.knn import Floats, search
from pullpush.progress import work

__all__ = ["METHODS", "place", "project"]

METHODS = ("umap", "pca", "none")
FITTED = 8_000
"""UMAP is fitted to a sample of this many items; each of the others lies amid its nearest of the sample."""
NEIGHBOURS, PLACED_BY = 15, 5


def project(vectors: Floats, method: str = "umap", seed: int = 0) -> tuple[Floats, str]:
    """Points `[n, 2]`, both axes within [-1, 1], and the method that made them: "UMAP", "PCA" or "none".

    UMAP (McInnes et al. 2018) by cosine distance, with exact neighbours and a start from PCA: that is quicker than the
    package's own search and spectral start, and keeps the coarse layout of many small classes. Of fewer than 30 points,
    or where all agree, PCA alone: a neighbour graph of so few says nothing.

    Args:
        vectors: `[n, dim]`.
        method: `umap`, `pca`, or `none`, which puts everything at 0.
        seed: of the sample and of UMAP.

    Raises:
        UserError: an unknown method.
    """
    if method not in METHODS:
        raise UserError(f"unknown map {method!r}; it can be {', '.join(METHODS)}")
    if method == "none" or len(vectors) < 3:
        return np.zeros((len(vectors), 2), np.float32), "none" if method == "none" else "PCA"
    rows = np.sort(np.random.default_rng(seed).permutation(len(vectors))[:FITTED])
    flat = _principal(np.asarray(vectors if method == "pca" else vectors[rows]))
    spread = flat.std(axis=0)
    if method == "pca" or len(vectors) < 2 * NEIGHBOURS or spread.min() < 1e-6:
        return _framed(flat if len(flat) == len(vectors) else _principal(np.asarray(vectors))), "PCA"
    points = np.zeros((len(vectors), 2), np.float32)
    with work(f"drawing the map of {len(rows):,} images"):  # UMAP does not tell how far it is
        points[rows] = _umap(np.asarray(vectors[rows]), flat / spread, seed)
    others = np.setdiff1d(np.arange(len(vectors)), rows)
    with work(f"drawing the map of the other {len(others):,} images"):
        points[others] = place(vectors[others], vectors[rows], points[rows], seed)
    return _framed(points), "UMAP"


def place(vectors: Floats, known: Floats, points: Floats, seed: int = 0) -> Floats:
    """Where new items lie on a map that exists: at the mean of their nearest five, a little apart from each other.

    Args:
        vectors: `[n, dim]`, the new ones.
        known: `[m, dim]`, those that are on the map.
        points: `[m, 2]`, where those lie.
        seed: of the little apart.

    Returns:
        float32 `[n, 2]`.
    """
    if not len(vectors) or not len(known):
        return np.zeros((len(vectors), 2), np.float32)
    nearest = search(vectors, known, min(PLACED_BY, len(known))).indices
    apart = np.random.default_rng(seed).normal(scale=0.002 * np.ptp(points, axis=0).max(), size=(len(vectors), 2))
    return np.asarray(points[nearest].mean(axis=1) + apart, np.float32)


def _umap(vectors: Floats, start: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    from umap import UMAP  # imports numba: seconds

    own = np.arange(len(vectors))
    near = search(vectors, vectors, NEIGHBOURS - 1, query_ids=own, gallery_ids=own)
    # Matrix products may differ in the last bit from call to call, which UMAP makes a wholly different map of.
    unit = vectors / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True).clip(min=1e-12)
    cosine = np.einsum("nd,nkd->nk", unit, unit[near.indices])
    order = np.lexsort((near.indices, -cosine.astype(np.float32)), axis=1)
    nearest, cosine = (np.take_along_axis(each, order, axis=1) for each in (near.indices, cosine))
    index = np.column_stack([own, nearest]).astype(np.int32)  # each is its own first neighbour, as UMAP expects
    distance = np.column_stack([0.0 * own, 1 - cosine]).clip(min=0).astype(np.float32)
    with (
        _threads_kept(),
        warnings.catch_warnings(),
    ):  # that a seed means one thread, and that small graphs may fall apart
        warnings.simplefilter("ignore")
        points = UMAP(
            n_neighbors=NEIGHBOURS,
            min_dist=0.25,
            metric="cosine",
            n_epochs=200,
            init=start.astype(np.float32),
            precomputed_knn=(index, distance, None),
            random_state=seed,
        ).fit_transform(vectors)
    return np.asarray(points, np.float64)


@contextmanager
def _threads_kept() -> Iterator[None]:
    """numba's first loop in threads gives OpenMP, and with it torch, a thread for each core, whatever was set."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _principal(vectors: Floats) -> NDArray[np.float64]:
    """The first two principal components `[n, 2]`; 0 where there is one dimension only."""
    centred = np.asarray(vectors - vectors.mean(axis=0), np.float64)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])  # else the sign is arbitrary
    flat = np.zeros((len(vectors), 2))
    flat[:, : axes.shape[1]] = centred @ axes
    return flat


def _framed(points: NDArray[np.floating]) -> Floats:
    """Into [-1, 1], aspect kept; far outliers (beyond the 0.2% and 99.8% quantiles) are drawn to the edge."""
    low, high = np.quantile(points, [0.002, 0.998], axis=0)
    middle, half = (low + high) / 2, max(float((high - low).max()) / 2, 1e-9)
    return np.asarray(np.clip((points - middle) / half / 1.02, -1, 1), np.float32)
