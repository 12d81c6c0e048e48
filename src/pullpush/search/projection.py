"""The map of a collection: a place in the plane for every item, near to where similar ones are."""

from __future__ import annotations

import warnings

import numpy as np

from pullpush.errors import UserError
from pullpush.progress import work
from pullpush.search.stores import exact

METHODS = ("umap", "pca", "none")
FITTED = 8_000
"""UMAP is fitted to a sample of this many items; each of the others lies amid its nearest five of the sample."""
NEIGHBOURS = 5


def project(vectors: np.ndarray, method: str = "umap", seed: int = 0) -> np.ndarray:
    """float32 `[n, 2]`, both axes within [-1, 1]. UMAP (McInnes et al. 2018) with cosine distance, or the first two
    principal components; `none` puts everything at 0. Fewer than 20 items are always projected by PCA.

    Raises: `UserError` for an unknown method.
    """
    if method not in METHODS:
        raise UserError(f"unknown map {method!r}; it can be {', '.join(METHODS)}")
    if method == "none" or len(vectors) < 3:
        return np.zeros((len(vectors), 2), np.float32)
    if method == "pca" or len(vectors) < 20:
        return _framed(_pca(vectors))
    rows = np.sort(np.random.default_rng(seed).permutation(len(vectors))[:FITTED])
    places = np.zeros((len(vectors), 2), np.float32)
    with work(f"drawing the map of {len(rows):,} images"):  # UMAP does not tell how far it is
        places[rows] = _umap(np.asarray(vectors[rows]), seed)
    others = np.setdiff1d(np.arange(len(vectors)), rows)
    with work(f"drawing the map of the other {len(others):,} images"):
        places[others] = place(vectors[others], vectors[rows], places[rows], seed)
    return _framed(places)


def place(vectors: np.ndarray, known: np.ndarray, places: np.ndarray, seed: int = 0) -> np.ndarray:
    """Where new items lie on a map that exists: at the mean of their nearest five, a little apart from each other."""
    if not len(vectors) or not len(known):
        return np.zeros((len(vectors), 2), np.float32)
    nearest = exact.search(np.asarray(vectors), np.asarray(known), min(NEIGHBOURS, len(known)))[1]
    apart = np.random.default_rng(seed).normal(scale=0.002 * np.ptp(places, axis=0).max(), size=(len(vectors), 2))
    return np.asarray(places[nearest].mean(axis=1) + apart, np.float32)


def _umap(vectors: np.ndarray, seed: int) -> np.ndarray:
    import umap

    with warnings.catch_warnings():  # that a seed means one thread, and that small graphs may fall apart
        warnings.simplefilter("ignore")
        neighbours = min(15, len(vectors) - 1)
        return np.asarray(umap.UMAP(neighbours, metric="cosine", random_state=seed).fit_transform(vectors))


def _pca(vectors: np.ndarray) -> np.ndarray:
    centred = vectors - vectors.mean(axis=0)
    covariance = centred.T @ centred
    directions = np.linalg.eigh(covariance)[1][:, ::-1][:, :2]
    signs = np.sign(directions[np.abs(directions).argmax(axis=0), [0, 1]])  # else they are arbitrary
    return np.asarray(centred @ (directions * signs))


def _framed(places: np.ndarray) -> np.ndarray:
    """Into [-1, 1], aspect kept; far outliers (beyond the 0.2% and 99.8% quantiles) are drawn to the edge."""
    low, high = np.quantile(places, [0.002, 0.998], axis=0)
    middle, half = (low + high) / 2, max(float((high - low).max()) / 2, 1e-9)
    return np.asarray(np.clip((places - middle) / half / 1.02, -1, 1), np.float32)
