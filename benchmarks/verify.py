"""Verification of all pairs of 100,000 embeddings, 5e9 of them, against the bare matrix products of the same pairs.

The other side multiplies the same tiles and throws them away, in as many threads. The bound of `peak` is the project's
promise, 2 GB with the embeddings, not a peer; so is that of `time`: half as much again as the products.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.evaluate import embeddings
from benchmarks.measure import compare, peak_bytes, result
from pullpush.evaluation import verify
from pullpush.evaluation.pairs import Sides
from pullpush.evaluation.streaming import COLUMNS, ROWS, tiles

BOUND = 2 * 10**9
TIME = 1.5

people = partial(embeddings, 100_000, 12_000, 2, 15)


def products(data: Any) -> None:
    """The tiles that `verify` looks at, and nothing more."""
    x, labels = data
    sides = Sides(x, x, labels, labels, int(labels.max()) + 1, np.arange(len(x)), {})

    def block(start: int) -> None:
        buffer = np.empty(ROWS * COLUMNS, np.float32)
        queries = x[start : start + ROWS]
        for at in tiles(sides, start):
            columns = x[at]
            np.matmul(queries, columns.T, out=buffer[: len(queries) * len(columns)].reshape(len(queries), -1))

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(block, range(0, len(x), ROWS)))


def ours(data: Any) -> object:
    return verify(*data)


def with_embeddings(items: int) -> Any:
    return items


def from_nothing(items: int) -> object:
    return verify(*people())


def run() -> list[dict[str, Any]]:
    data = people()
    mine, other = compare(partial(ours, data), partial(products, data), repeats=3, warm=0)
    name = "verify/all-pairs/100000x128"
    return [
        result(f"{name}/products", mine, other, "s"),
        result(f"{name}/time", mine, TIME * other, "s"),
        result(f"{name}/peak", peak_bytes(with_embeddings, from_nothing, 0), BOUND, "bytes"),
    ]
