"""Splits by class: what is tested was never trained on."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pullpush.data.items import Items
from pullpush.errors import UserError


def split_by_class(items: Items, *, seed: int = 0, test: float = 0.5, validation: float = 0.1) -> Items:
    """Fills the column `split`; no class is in two splits.

    Without given splits, `test` and `validation` are shares of all classes. Splits that the data bring are kept: a
    missing validation split is drawn from the training classes (`validation` is then their share), and where only
    training and validation are given, validation is taken as the test. Classes are drawn by their sorted names, so the
    order of rows does not matter.

    Items marked `held_out` stay in the test only, as queries; the test's other items are then their gallery.

    Raises:
        UserError: too few classes, shares out of range, a class in two given splits, splits given for some items only.
    """
    if not (0 <= test < 1 and 0 <= validation < 1 and test + validation < 1):
        raise UserError(
            f"test={test} and validation={validation} must be shares of the classes, from 0 to less than 1 together"
        )
    given = set(items.table["split"].unique()) - {""}
    result = _keep(items, seed, validation) if given else _draw(items, seed, test, validation)
    check_disjoint(result)
    return _hold_out(result)


def check_disjoint(items: Items) -> None:
    """A UserError where a class is in two splits."""
    splits = items.table[items.table["split"] != ""].groupby("label")["split"].nunique()
    both = splits.index[splits > 1]
    if len(both):
        few = ", ".join([*(items.classes[label] for label in both[:3]), *(["..."] if len(both) > 3 else [])])
        raise UserError(
            f"{items.name}: {len(both)} classes are in two splits ({few}); metric learning is tested on "
            "classes that were never trained on. Mend the split, or drop it (for a folder: given_splits=false)."
        )


def class_folds(items: Items, folds: int = 4, *, seed: int = 0) -> list[Items]:
    """Class-disjoint folds: in fold i, one part of the classes is validation and the others are training.

    A given test split stays untouched in each. Raises a UserError where there are fewer classes than folds.
    """
    if folds < 2:
        raise UserError(f"folds={folds}: at least 2 are needed")
    open_ = items.table["split"].to_numpy() != "test"
    classes = _shuffled(items, np.unique(items.table["label"][open_]), seed)
    if len(classes) < folds:
        raise UserError(f"{items.name}: {len(classes)} classes cannot be parted into {folds} folds")
    result = []
    for part in np.array_split(classes, folds):
        split = np.where(items.table["label"].isin(part), "validation", "train")
        result.append(items.assign(split=np.where(open_, split, "test")))
    return result


def long_tail(items: Items, *, seed: int = 0, ratio: float = 10.0) -> Items:
    """Makes the training items long-tailed: class i of C keeps n_max * ratio^(-i / (C - 1)) items, at least one.

    The classes are ranked, and the items kept are drawn, by `seed`. `ratio` is the largest class over the smallest (the
    imbalance factor of Cui et al. 2019, Class-Balanced Loss Based on Effective Number of Samples, section 5.1). Where
    the data have splits, validation and test stay as they are.
    """
    if ratio < 1:
        raise UserError(f"ratio={ratio}: the largest class over the smallest is 1 or more")
    split = items.table["split"].to_numpy()
    tail = split == "train" if (split == "train").any() else split == ""
    labels = items.table["label"].to_numpy()
    classes = _shuffled(items, np.unique(labels[tail]), seed)
    most = max(np.bincount(labels[tail]), default=0)
    keep = ~tail
    by_class = dict(tuple(pd.Series(np.flatnonzero(tail)).groupby(labels[tail])))
    for rank, label in enumerate(classes):
        rows = by_class[label].to_numpy()
        size = max(1, min(len(rows), round(most * ratio ** (-rank / max(len(classes) - 1, 1)))))
        keep[np.random.default_rng([seed, 1, rank]).permutation(rows)[:size]] = True
    result = items.select(keep)
    result.notes.append(
        f"made long-tailed (ratio {ratio:g}, seed {seed}): {int((~keep).sum())} of {int(tail.sum())} items left out"
    )
    return result


def _shuffled(items: Items, labels: np.ndarray, seed: int) -> np.ndarray:
    """The labels in an order that hangs on the class names and the seed only."""
    ordered = sorted((int(label) for label in labels), key=lambda label: items.classes[label])
    return np.random.default_rng(seed).permutation(np.array(ordered, dtype=np.int64))


def _share(share: float, classes: int) -> int:
    return max(1, round(share * classes)) if share > 0 else 0


def _draw(items: Items, seed: int, test: float, validation: float) -> Items:
    classes = _shuffled(items, np.unique(items.table["label"]), seed)
    n_test, n_validation = _share(test, len(classes)), _share(validation, len(classes))
    if len(classes) - n_test - n_validation < 2:
        raise UserError(
            f"{items.name}: {len(classes)} classes are too few for test={test} and validation={validation}; at least "
            "2 must stay for training. Lower the shares or add classes."
        )
    labels = items.table["label"]
    split = np.where(labels.isin(classes[:n_test]), "test", "train").astype(object)
    split[labels.isin(classes[n_test : n_test + n_validation])] = "validation"
    return items.assign(split=split)


def _keep(items: Items, seed: int, validation: float) -> Items:
    split = items.table["split"].to_numpy(dtype=object).copy()
    if (split == "").any():
        raise UserError(
            f"{items.name}: {int((split == '').sum())} of {len(split)} items have no split while others have one; "
            "give all of them a split, or none"
        )
    check_disjoint(items)
    result = items.assign(split=split)
    if "train" not in split:
        raise UserError(f"{items.name}: the given splits hold no training items (split = train)")
    if "test" not in split:
        split[split == "validation"] = "test"
        result.notes.append("the data give no test split: their validation split is the test")
    if "validation" not in split and validation > 0:
        labels = items.table["label"].to_numpy()
        classes = _shuffled(items, np.unique(labels[split == "train"]), seed)
        count = _share(validation, len(classes))
        if len(classes) - count < 2:
            raise UserError(
                f"{items.name}: {len(classes)} training classes are too few to draw validation from; set validation=0"
            )
        split[np.isin(labels, classes[:count])] = "validation"
        result.notes.append(f"validation: {count} of the {len(classes)} given training classes")
    return result.assign(split=split)


def _hold_out(items: Items) -> Items:
    """Held-out items leave training and validation; in the test they are the queries."""
    if "held_out" not in items.table or not items.table["held_out"].any():
        return items
    held, test = items.table["held_out"].to_numpy(bool), (items.table["split"] == "test").to_numpy()
    role = np.where(test & held, "query", np.where(test, "gallery", items.table["role"]))
    result = items.assign(role=role).select(~held | test)
    domains = ", ".join(sorted(items.table["domain"][held].unique()))
    result.notes.append(f"held out ({domains}): {int((held & ~test).sum())} items left out of training and validation")
    return result
