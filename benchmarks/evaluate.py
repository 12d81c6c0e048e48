"""Evaluation at the size of Stanford Online Products and of In-shop, against a bare FAISS search and against PML.

`evaluate` gives recall@1 to 1000, R-precision, MAP@R for each query, class and overall, with ties counted, and ten
neighbours of each query. The FAISS side only searches: as many neighbours as those recalls ask for, itself included.
The bound of `peak` is the project's promise, not a peer: 1 GB above the embeddings. So is that of `ties`: embeddings
that are all equal, or half of them, may take three times as long as random ones.
"""

import logging
from functools import partial
from typing import Any

import faiss
import numpy as np
import torch

from benchmarks.measure import compare, peak_bytes, result, seconds
from pullpush.evaluation import evaluate

PRODUCTS_KS = (1, 10, 100, 1000)
SHOP_KS = (1, 10, 20, 30)
BOUND = 10**9


def embeddings(items: int, classes: int, smallest: int, largest: int, dim: int = 128, noise: float = 1.2) -> Any:
    """Seeded unit vectors around class centres, and labels; classes of `smallest` to `largest` items."""
    generator = np.random.default_rng(0)
    sizes = generator.integers(smallest, largest + 1, classes)
    while sizes.sum() != items:  # to the exact number, one item of one class at a time
        step = 1 if sizes.sum() < items else -1
        can = np.flatnonzero((sizes + step >= smallest) & (sizes + step <= largest))
        few = generator.choice(can, min(len(can), abs(int(items - sizes.sum()))), replace=False)
        sizes[few] += step
    labels = generator.permutation(np.repeat(np.arange(classes), sizes))
    x = generator.standard_normal((items, dim), dtype=np.float32)
    x *= noise
    x += generator.standard_normal((classes, dim), dtype=np.float32)[labels]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x, labels


products = partial(embeddings, 60_502, 11_316, 2, 12)


def flat_search(queries: Any, gallery: Any, k: int) -> None:
    index = faiss.IndexFlatIP(gallery.shape[1])
    index.add(gallery)
    index.search(queries, k)


def ours_products(data: Any) -> object:
    return evaluate(*data, np.arange(len(data[0])), ks=PRODUCTS_KS, nmi=False)


def peer_products(data: Any) -> object:
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    logging.getLogger("PML").setLevel(logging.ERROR)
    names = ("precision_at_1", "r_precision", "mean_average_precision_at_r")
    # As many neighbours as ours; all of them, its default, are 29 GB of indices alone.
    x, labels = (torch.from_numpy(array) for array in data)
    return AccuracyCalculator(include=names, k=PRODUCTS_KS[-1], device=torch.device("cpu")).get_accuracy(x, labels)


def ties() -> list[dict[str, Any]]:
    """Three times the seconds of random embeddings, against collapsed and half collapsed ones."""
    rows = []
    spread, labels = embeddings(20_000, 2_000, 10, 10)
    for name, share in (("equal", 1.0), ("half", 0.5)):
        tied = spread.copy()
        tied[: int(share * len(tied))] = spread[0]
        sides = [partial(evaluate, x, labels, nmi=False) for x in (tied, spread)]
        ours, other = compare(*sides, repeats=3)
        rows.append(result(f"evaluate/ties/20000x128/{name}", ours, 3 * other, "s"))
    return rows


def run() -> list[dict[str, Any]]:
    data = products()
    name = "evaluate/leave-one-out/60502x128"
    search = partial(flat_search, data[0], data[0], PRODUCTS_KS[-1] + 1)
    rows = [result(f"{name}/faiss", *compare(partial(ours_products, data), search, repeats=3, warm=0), "s")]
    ours = [seconds(partial(ours_products, data))]
    other = seconds(partial(peer_products, data))  # minutes: once, between two of ours
    ours.append(seconds(partial(ours_products, data)))
    rows.append(result(f"{name}/pml", sum(ours) / 2, other, "s"))
    rows.append(result(f"{name}/peak", peak_bytes(products, ours_products), BOUND, "bytes"))

    x, labels = embeddings(14_218 + 12_612, 3_985, 4, 12)
    query, gallery = x[:14_218], x[14_218:]
    evaluate_ = partial(
        evaluate, query, labels[:14_218], gallery=gallery, gallery_labels=labels[14_218:], ks=SHOP_KS, nmi=False
    )
    times = compare(evaluate_, partial(flat_search, query, gallery, SHOP_KS[-1]), repeats=7)
    rows.append(result("evaluate/query-gallery/14218x12612x128/faiss", *times, "s"))
    return rows + ties()
