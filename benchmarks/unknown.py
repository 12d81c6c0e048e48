"""Is 'unknown' said at the rate that was asked for? Part of the unseen classes is enrolled, and the others ask.

python benchmarks/unknown.py runs/demo
python benchmarks/unknown.py runs/demo --data iconify --classes 300
"""

import argparse
import math
from pathlib import Path

import numpy as np
import pandas as pd

from pullpush.data.sources import open_items
from pullpush.encoders import load
from pullpush.errors import UserError
from pullpush.evaluation.classes import closest_classes
from pullpush.runs.reader import RunFolder
from pullpush.search.gallery import gallery_of


class Held:
    """Embeddings by id, as a store has them."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors

    def get(self, ids: np.ndarray) -> np.ndarray:
        return self.vectors[ids]


def one_draw(x: np.ndarray, labels: np.ndarray, count: int, shots: int, far: float, decision, seed: int):
    """Shares of strangers that get a name, and of the others that get the right one."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(labels))
    place = pd.Series(labels[order]).groupby(labels[order]).cumcount().to_numpy()
    sizes = np.bincount(labels)
    enough = generator.permutation(np.flatnonzero(sizes > shots))
    some = enough[:count]
    inside = np.isin(labels[order], some)
    rows, asked = order[inside & (place < shots)], order[inside & (place >= shots)]
    others = order[np.isin(labels[order], enough[count:])]
    gallery = gallery_of(pd.DataFrame({"id": rows, "label": labels[rows].astype(str)}), Held(x))
    threshold = gallery.threshold(far, decision)
    found = closest_classes(
        x[np.concatenate([asked, others])], labels[np.concatenate([asked, others])], x[rows], labels[rows]
    )
    named = found.best >= threshold
    strangers = pd.Series(named[len(asked) :]).groupby(labels[others]).mean()  # each class counts the same
    return strangers.mean(), (named * found.right)[: len(asked)].mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--data")
    parser.add_argument("--classes", type=int)
    parser.add_argument("--draws", type=int, default=20)
    given = parser.parse_args()
    model = load(given.run)
    if given.data:
        items = open_items(given.data, **({"classes": given.classes} if given.classes else {}))
        x = model.embed((items.open(row) for row in range(len(items))), progress=True)
        labels = items.table["label"].to_numpy()
    else:
        run = RunFolder(Path(given.run))
        x, labels = run.embeddings("test", "after"), run.split("test").table["label"].to_numpy()
    x, labels = np.asarray(x, np.float32), np.unique(labels, return_inverse=True)[1]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    print(f"{len(x):,} images of {labels.max() + 1} classes; decision: {model.decision is not None}")
    print("| classes enrolled | images each | rate asked for | strangers named | right names |")
    print("| --- | --- | --- | --- | --- |")
    for count in (20, 100, (labels.max() + 1) // 2):
        for shots in (1, 5):
            for far in (0.1, 0.01):
                try:
                    drawn = [
                        one_draw(x, labels, count, shots, far, model.decision, seed) for seed in range(given.draws)
                    ]
                except UserError as error:
                    print(f"| {count} | {shots} | {far} | {str(error)[:60]} | |")
                    continue
                rate, right = np.mean(drawn, axis=0)
                error = 1.96 * np.std([each[0] for each in drawn], ddof=1) / math.sqrt(len(drawn))
                print(f"| {count} | {shots} | {far} | {rate:.4f} ± {error:.4f} | {right:.3f} |")


if __name__ == "__main__":
    main()
