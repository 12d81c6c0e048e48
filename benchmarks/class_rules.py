"""How is a class scored from its enrolled images? Rules compared on the validation classes of runs.

python benchmarks/class_rules.py runs/demo runs/icons
python benchmarks/class_rules.py runs/demo --split test

Half of the classes is enrolled with so many images each, their other images and those of the other half ask: few-shot
accuracy (among the enrolled half), and the detection and identification rate at false accept rates. Means over draws
that are the same for all rules, with the 95% interval of the difference to the prototype over the draws.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pullpush.evaluation import knn
from pullpush.evaluation.classes import Closest
from pullpush.evaluation.open_set import FARS, detection_rate
from pullpush.runs.reader import RunFolder

Rule = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From the cosines `[queries, classes, images]` and the length of each class's mean `[classes]` to `[queries,
classes]`."""

RULES: dict[str, Rule] = {
    "prototype": lambda cosines, lengths: cosines.mean(axis=2) / lengths,
    "mean of the cosines": lambda cosines, lengths: cosines.mean(axis=2),
    "nearest image": lambda cosines, lengths: cosines.max(axis=2),
    "two nearest images": lambda cosines, lengths: np.sort(cosines, axis=2)[:, :, -2:].mean(axis=2),
    "half way": lambda cosines, lengths: (cosines.mean(axis=2) / lengths + cosines.max(axis=2)) / 2,
}


def one_draw(x: np.ndarray, labels: np.ndarray, shots: int, generator: np.random.Generator) -> dict[str, list[float]]:
    """For each rule the accuracy and the detection rates."""
    order = generator.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    sizes = np.bincount(labels)
    starts = np.cumsum(sizes) - sizes
    enough = generator.permutation(np.flatnonzero(sizes > shots))
    some = np.sort(enough[: len(enough) // 2])
    rows = np.concatenate([order[starts[c] : starts[c] + shots] for c in some])
    mated = np.concatenate([order[starts[c] + shots : starts[c] + sizes[c]] for c in some])
    others = np.flatnonzero(~np.isin(labels, some))
    gallery = x[rows]
    cosines = (x[np.concatenate([mated, others])] @ gallery.T).reshape(-1, len(some), shots)
    lengths = np.linalg.norm(gallery.reshape(len(some), shots, -1).mean(axis=1), axis=1)
    own = np.searchsorted(some, labels[mated])
    found = {}
    for name, rule in RULES.items():
        scores = rule(cosines, lengths)
        mine = scores[np.arange(len(mated)), own]
        scores[np.arange(len(mated)), own] = -np.inf
        best = scores.max(axis=1)
        known = Closest(mine, best[: len(mated)], (mine > best[: len(mated)]).astype(np.float64))
        rates = [float(detection_rate(known, best[len(mated) :], far)[0]) for far in FARS]
        found[name] = [float(known.right.mean()), *rates]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument("--draws", type=int, default=40)
    given = parser.parse_args()
    print("| run | images each | rule | accuracy | " + " | ".join(f"detected at {far:g}" for far in FARS) + " |")
    print("| --- | --- | --- | --- |" + " --- |" * len(FARS))
    for path in given.runs:
        run = RunFolder(Path(path))
        x = knn.unit(np.asarray(run.embeddings(given.split, "after"), np.float32))
        labels = np.unique(run.split(given.split).table["label"].to_numpy(), return_inverse=True)[1]
        for shots in (2, 5):
            if (np.bincount(labels) > shots).sum() < 4:
                continue
            generator = np.random.default_rng(0)
            drawn = [one_draw(x, labels, shots, generator) for _ in range(given.draws)]
            base = np.array([each["prototype"] for each in drawn])
            for name in RULES:
                values = np.array([each[name] for each in drawn])
                error = 1.96 * (values - base).std(axis=0, ddof=1) / math.sqrt(len(drawn))
                cells = [
                    f"{mean:.3f}" + (f" ± {spread:.3f}" if name != "prototype" else "")
                    for mean, spread in zip(values.mean(axis=0), error, strict=True)
                ]
                print(f"| {run.name} | {shots} | {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
