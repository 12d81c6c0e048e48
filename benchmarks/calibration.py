"""Do the probabilities hold on classes that were never seen? Of all pairs, and of the hits of a search.

python benchmarks/calibration.py runs/demo runs/icons

A decision is fitted on the validation classes of each run, and held against its test classes: all pairs, with as many
of one class as not and with as many as there are, and the 20 nearest of each test item among the others, each with the
probability that a search shows. With the images as they are, and in the test views of the model where it has some.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pullpush.encoders import Decision, load
from pullpush.evaluation import fit_decision, knn, reliability
from pullpush.runs.reader import RunFolder

NEAREST = 20
HEAD = (
    *("run", "views", "fit", "error, prior 0.5", "error, real prior", "hits: error"),
    *("hits of 20% to 60%: promised", "found", "hits above 60%: promised", "found"),
)


class Sides(NamedTuple):
    """Items of a split as queries and, where that is another way, as a gallery."""

    queries: np.ndarray
    gallery: np.ndarray | None
    labels: np.ndarray
    ids: np.ndarray


def of_split(run: RunFolder, split: str, views: bool) -> Sides:
    """As the run saved them; of the validation in test views they are embedded again."""
    items = run.split(split)
    queries, gallery = run.embeddings(split, "after"), None
    if views and split == "test":
        queries, gallery = run.matrix("test-views-query"), run.matrix("test-views")
    elif views:
        queries, gallery = load(run.path).embed_both((items.open(row) for row in range(len(items))), progress=True)
    return Sides(queries, gallery, items.table["label"].to_numpy(), items.table["id"].to_numpy())


def real_prior(test: Sides) -> float:
    """The share of pairs that are of one class."""
    sizes, n = np.unique(test.labels, return_counts=True)[1], len(test.labels)
    return float((sizes * (sizes - 1)).sum() / (n * (n - 1)))


def hits(decision: Decision, test: Sides, prior: float) -> tuple[np.ndarray, np.ndarray]:
    """Of the nearest of each item the probability that is shown, and whether it is right."""
    gallery = test.queries if test.gallery is None else test.gallery
    found = knn.search(test.queries, gallery, NEAREST, query_ids=test.ids, gallery_ids=test.ids)
    shown = decision.probability(found.similarities, prior)
    return shown.ravel(), (test.labels[found.indices] == test.labels[:, None]).ravel()


def between(shown: np.ndarray, right: np.ndarray, low: float, high: float) -> list[str]:
    """What hits with such probabilities promise, and what share of them is right."""
    some = (shown >= low) & (shown < high)
    return [f"{shown[some].mean():.3f}", f"{right[some].mean():.3f}"] if some.any() else ["-", "-"]


def row(run: RunFolder, views: bool) -> list[str]:
    validation, test = (of_split(run, split, views) for split in ("validation", "test"))
    decision = fit_decision(validation.queries, validation.labels, validation.ids, gallery=validation.gallery)
    if decision is None:
        return [run.name, "yes" if views else "no", "none: too few validation classes"]
    prior = real_prior(test)
    errors = [
        reliability(decision, test.queries, test.labels, test.ids, gallery=test.gallery, prior=each).error
        for each in (0.5, prior)
    ]
    shown, right = hits(decision, test, prior)
    bin_ = np.minimum((shown * 10).astype(int), 9)
    error = np.abs(np.bincount(bin_, shown - right)).sum() / len(shown)
    return [
        *(run.name, "yes" if views else "no", decision.method, f"{errors[0]:.4f}", f"{errors[1]:.5f}", f"{error:.4f}"),
        *between(shown, right, 0.2, 0.6),
        *between(shown, right, 0.6, 1.01),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    print("", *HEAD, "", sep=" | ")
    print("|", *["--- |"] * len(HEAD))
    for name in parser.parse_args().runs:
        run = RunFolder(Path(name))
        for views in (False, True) if (run.path / "embeddings" / "test-views.npy").exists() else (False,):
            print("", *row(run, views), "", sep=" | ", flush=True)


if __name__ == "__main__":
    main()
