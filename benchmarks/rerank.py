"""Re-ranking at the size of Stanford Online Products: `evaluate` with it, against plain `evaluate`.

The embeddings are those of `benchmarks/evaluate.py`. The bounds are the project's promises, not a peer: three times the
time of plain evaluation, in the same run, and 2 GB above the embeddings.
"""

from functools import partial
from typing import Any

import numpy as np

from benchmarks.evaluate import PRODUCTS_KS, products
from benchmarks.measure import compare, peak_bytes, result
from pullpush.evaluation import Rerank, evaluate

TIMES, BOUND = 3, 2 * 10**9
METHODS = {
    "expand": Rerank(expand=3),
    "augment": Rerank(augment=3),
    "both": Rerank(expand=3, augment=3),
    "reciprocal": Rerank(reciprocal=6),
    "reciprocal of the paper": Rerank(reciprocal=20, k2=6),
}


def ranked(data: Any, method: str = "") -> object:
    return evaluate(*data, np.arange(len(data[0])), ks=PRODUCTS_KS, nmi=False, rerank=METHODS.get(method))


def by(data: Any) -> object:
    return ranked(data[:2], data[2])


def setup(method: str) -> Any:
    return (*products(), method)


def run() -> list[dict[str, Any]]:
    data, rows = products(), []
    for method in METHODS:
        ours, plain = compare(partial(ranked, data, method), partial(ranked, data), repeats=1, warm=0)
        name = f"rerank/60502x128/{method.replace(' ', '-')}"
        rows.append(result(f"{name}/three-times-plain", ours, TIMES * plain, "s"))
        rows.append(result(f"{name}/peak", peak_bytes(setup, by, method), BOUND, "bytes"))
    return rows
