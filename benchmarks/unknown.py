"""Is 'unknown' said at the rate that was asked for, and are probabilities of names right?

python benchmarks/unknown.py runs/demo
python benchmarks/unknown.py runs/demo --data iconify --classes 300
python benchmarks/unknown.py runs/old --refit --classes 1000

Part of the unseen classes is enrolled, and the others ask: the share of these strangers that is named, each class
counting the same, and of the enrolled classes' other images the share that is given the right name. Means over draws of
the enrolled classes and images, with the 95% interval over the draws. The calibration error is that of the closest
class's probability (ten bins), half of those who ask being strangers. A model with test views asks in those of queries,
and enrols in those of the gallery.
"""

import argparse
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from held import Held

from pullpush.data.sources import open_items
from pullpush.encoders import Decision, Model, load
from pullpush.errors import UserError
from pullpush.evaluation import fit_decision
from pullpush.evaluation.galleries import fit_naming
from pullpush.evaluation.knn import unit
from pullpush.runs.reader import RunFolder
from pullpush.search.gallery import gallery_of

BINS = 10


def one_draw(queries, x, labels, count: int, shots: int, fars, decision, seed: int):
    """For each rate the shares of strangers that get a name and of the others that get the right one, or the reason why
    it cannot be told; and probabilities with their outcomes and weights."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(labels))
    place = pd.Series(labels[order]).groupby(labels[order]).cumcount().to_numpy()
    sizes = np.bincount(labels)
    enough = generator.permutation(np.flatnonzero(sizes > shots))
    some = enough[:count]
    inside = np.isin(labels[order], some)
    rows, mated = order[inside & (place < shots)], order[inside & (place >= shots)]
    others = order[np.isin(labels[order], enough[count:])]
    gallery = gallery_of(pd.DataFrame({"id": rows, "label": [f"{labels[row]:06}" for row in rows]}), Held(x))
    asked = np.concatenate([mated, others])
    scores = queries[asked] @ gallery.prototypes.T
    best = scores.max(axis=1)
    right = np.array(gallery.names)[scores.argmax(axis=1)] == np.char.zfill(labels[asked].astype(str), 6)
    stranger = np.arange(len(asked)) >= len(mated)
    weight = 1 / np.bincount(labels[asked])[labels[asked]]
    weight /= 2 * np.where(stranger, weight[stranger].sum(), weight[~stranger].sum())
    rates = []
    for far in fars:
        try:
            named = best >= gallery.threshold(far, decision)
            rates.append([2 * weight[stranger & named].sum(), 2 * weight[right & named].sum()])
        except UserError as error:
            rates.append(str(error))
    chances = None if decision is None else gallery.probabilities(scores, decision)
    return rates, chances, right, weight


def calibration_error(drawn) -> float:
    """Of all draws together."""
    chances, right, weight = (np.concatenate([draw[i] for draw in drawn]) for i in (1, 2, 3))
    bin_ = np.minimum((chances * BINS).astype(int), BINS - 1)
    return float(np.abs(np.bincount(bin_, weight * (chances - right))).sum() / weight.sum())


def refitted(run: RunFolder, model: Model) -> Decision | None:
    """The decision as a run of this version would have it, of the validation classes."""
    items = run.split("validation")
    if model.views.plain:
        queries, gallery = run.embeddings("validation", "after"), None
    else:
        queries, gallery = model.embed_both((items.open(row) for row in range(len(items))), progress=True)
    labels, ids = items.table["label"].to_numpy(), items.table["id"].to_numpy()
    decision = fit_decision(queries, labels, ids, gallery=gallery)
    return decision and replace(decision, naming=fit_naming(queries, labels, ids, gallery=gallery))


def embedded(given, run: RunFolder, model: Model):
    """Queries, gallery and labels of the classes to ask about: of a data set, or of the test."""
    if given.data:
        items = open_items(given.data, **({"classes": given.classes} if given.classes else {}))
        queries, x = model.embed_both((items.open(row) for row in range(len(items))), progress=True)
        return queries, x, items.table["label"].to_numpy()
    labels = run.split("test").table["label"].to_numpy()
    if (run.path / "embeddings" / "test-views.npy").exists():
        return run.matrix("test-views-query"), run.matrix("test-views"), labels
    x = run.embeddings("test", "after")
    return x, x, labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--data")
    parser.add_argument("--classes", type=int, help="as many of the data, or of the test, drawn")
    parser.add_argument("--draws", type=int, default=20, help="of 20 or more enrolled classes; of fewer, five times")
    parser.add_argument("--refit", action="store_true", help="fit the decision anew on the validation classes")
    given = parser.parse_args()
    run, model = RunFolder(Path(given.run)), load(given.run)
    decision = refitted(run, model) if given.refit else model.decision
    queries, x, labels = embedded(given, run, model)
    queries, x = unit(np.asarray(queries, np.float32)), unit(np.asarray(x, np.float32))
    if given.classes and not given.data:
        some = np.isin(labels, np.random.default_rng(0).permutation(np.unique(labels))[: given.classes])
        queries, x, labels = queries[some], x[some], labels[some]
    labels = np.unique(labels, return_inverse=True)[1]
    validated = "none" if decision is None else f"of {decision.classes} validation classes"
    print(f"{run.name}: {len(x):,} images of {labels.max() + 1} classes; decision: {validated}")
    print("| classes enrolled | images each | rate asked for | strangers named | right names | calibration error |")
    print("| --- | --- | --- | --- | --- | --- |")
    fars = (0.1, 0.01)
    for count in (5, 20, 100, (labels.max() + 1) // 2):
        for shots in (1, 5):
            if (np.bincount(labels) > shots).sum() < 1.5 * count:
                continue
            draws = given.draws * (1 if count >= 20 else 5)
            drawn = [one_draw(queries, x, labels, count, shots, fars, decision, seed) for seed in range(draws)]
            error = "" if decision is None else f"{calibration_error(drawn):.3f}"
            for i, far in enumerate(fars):
                rates = [each[0][i] for each in drawn]
                if any(isinstance(rate, str) for rate in rates):
                    print(f"| {count} | {shots} | {far} | cannot be told | | {error} |", flush=True)
                    continue
                spread = 1.96 * np.std([rate for rate, _ in rates], ddof=1) / math.sqrt(draws)
                rate, right = np.mean(rates, axis=0)
                print(f"| {count} | {shots} | {far} | {rate:.4f} ± {spread:.4f} | {right:.3f} | {error} |", flush=True)


if __name__ == "__main__":
    main()
