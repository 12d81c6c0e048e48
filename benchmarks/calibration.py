"""Do the probabilities hold on classes that were never seen? Of all pairs, and of the hits of a search.

python benchmarks/calibration.py runs/demo runs/icons
python benchmarks/calibration.py runs/demo --classes 10 30 100     of how many classes is enough learned?

A decision is fitted on the validation classes of each run, and held against its test classes: all pairs, with as many
of one class as not and with as many as there are; and the 20 nearest of each test item among the others, each with the
probability that a search shows. That is read from the hits of some of the items (`search/chances.py`), which are no
queries here; beside it, what the share of pairs of one class as a prior would give. With images as they are, and in the
test views of the model where it has some. With `--classes` it is fitted on so many of the test classes instead, and
held against the others, for ten draws.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from held import Held

from pullpush.encoders import Decision, load
from pullpush.evaluation import fit_decision, knn, reliability
from pullpush.runs.reader import RunFolder
from pullpush.search.chances import NEAREST, PROBES, Chances, chances_of, pair_share, probed

HEAD = (
    *("run", "views", "fit", "pairs: error, prior 0.5", "error, real prior", "hits: error", "with the prior alone"),
    *("hits of 20% to 60%: promised", "found", "above 60%: promised", "found", "weak of the right first hits"),
)


class Sides(NamedTuple):
    """Items of a split as queries and as a gallery; `views`: these differ."""

    queries: np.ndarray
    gallery: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    views: bool

    @property
    def other(self) -> np.ndarray | None:
        return self.gallery if self.views else None


def of_split(run: RunFolder, split: str, views: bool) -> Sides:
    """As the run saved them; of the validation in test views they are embedded again."""
    items = run.split(split)
    if not views:
        queries = gallery = run.embeddings(split, "after")
    elif split == "test":
        queries, gallery = run.matrix("test-views-query"), run.matrix("test-views")
    else:
        queries, gallery = load(run.path).embed_both((items.open(row) for row in range(len(items))), progress=True)
    return Sides(queries, gallery, items.table["label"].to_numpy(), items.table["id"].to_numpy(), views)


def hits(decision: Decision, test: Sides) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the nearest of each query the probability that is shown, the one by the prior alone, and whether it is right;
    `[queries, 20]` each."""
    table = pd.DataFrame({"id": np.arange(len(test.labels)), "label": test.labels.astype(str)})
    count = min(PROBES, len(table) // 2)
    chances = chances_of(table, Held(test.gallery), decision, count)
    asked = np.setdiff1d(np.arange(len(table)), probed(table, count))
    ids = test.ids[asked]
    found = knn.search(test.queries[asked], test.gallery, NEAREST, query_ids=ids, gallery_ids=test.ids)
    share = pair_share(table["label"])
    plain = Chances(decision, np.log(share / (1 - share)), 1.0)
    right = test.labels[found.indices] == test.labels[asked][:, None]
    return chances(found.similarities), plain(found.similarities), right


def error(shown: np.ndarray, right: np.ndarray) -> float:
    """The expected calibration error, ten bins."""
    bin_ = np.minimum((shown * 10).astype(int), 9).ravel()
    return float(np.abs(np.bincount(bin_, (shown - right).ravel())).sum() / shown.size)


def between(shown: np.ndarray, right: np.ndarray, low: float, high: float) -> list[str]:
    """What hits with such probabilities promise, and what share of them is right."""
    some = (shown >= low) & (shown < high)
    return [f"{shown[some].mean():.3f}", f"{right[some].mean():.3f}"] if some.any() else ["-", "-"]


def row(run: RunFolder, views: bool) -> list[str]:
    validation, test = (of_split(run, split, views) for split in ("validation", "test"))
    start = [run.name, "yes" if views else "no"]
    decision = fit_decision(validation.queries, validation.labels, validation.ids, gallery=validation.other)
    if decision is None:
        return [*start, f"none: {len(np.unique(validation.labels))} validation classes", *["-"] * (len(HEAD) - 3)]
    share = float(pair_share(pd.Series(test.labels.astype(str))) or 0.5)
    errors = [
        reliability(decision, test.queries, test.labels, test.ids, gallery=test.other, prior=prior).error
        for prior in (0.5, share)
    ]
    shown, plain, right = hits(decision, test)
    weak = (shown[:, 0] < 0.1)[right[:, 0]].mean()
    return [
        *(*start, decision.method, f"{errors[0]:.4f}", f"{errors[1]:.5f}"),
        *(f"{error(shown, right):.4f}", f"{error(plain, right):.4f}"),
        *(*between(shown, right, 0.2, 0.6), *between(shown, right, 0.6, 1.01), f"{100 * weak:.1f}%"),
    ]


def few(run: RunFolder, count: int, draws: int = 10) -> list[str]:
    """The error of all pairs where a decision is fitted on so many classes, and how often which fit was the better."""
    test = of_split(run, "test", views=False)
    names, errors, methods = np.unique(test.labels), [], []
    for seed in range(draws):
        chosen = np.isin(test.labels, np.random.default_rng(seed).permutation(names)[:count])
        decision = fit_decision(test.queries[chosen], test.labels[chosen], test.ids[chosen])
        if decision is not None:
            rest = (each[~chosen] for each in (test.queries, test.labels, test.ids))
            errors.append(reliability(decision, *rest).error)
            methods.append(decision.method)
    if not errors:
        return [run.name, f"{count}", "none: too few have two items", "-", "-"]
    isotonic = f"{methods.count('isotonic')} of {len(methods)}"
    return [run.name, f"{count}", f"{np.mean(errors):.4f}", f"{min(errors):.4f} to {max(errors):.4f}", isotonic]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--classes", type=int, nargs="+")
    given = parser.parse_args()
    if given.classes:
        print(f"| run | fitted on classes | mean error | least to largest | isotonic |\n|{' --- |' * 5}")
        for name in given.runs:
            for count in given.classes:
                print(f"| {' | '.join(few(RunFolder(Path(name)), count))} |", flush=True)
        return
    print(f"| {' | '.join(HEAD)} |\n|{' --- |' * len(HEAD)}")
    for name in given.runs:
        run = RunFolder(Path(name))
        for views in (False, True) if (run.path / "embeddings" / "test-views.npy").exists() else (False,):
            print(f"| {' | '.join(row(run, views))} |", flush=True)


if __name__ == "__main__":
    main()
