"""Splits by class: what is tested was never trained on. Splits that the data bring may be of seen classes."""

from collections.abc import Mapping

import numpy as np

from pullpush.data.items import Items
from pullpush.data.labels import rows_by_label
from pullpush.errors import UserError
from pullpush.names import few

__all__ = [
    "check_disjoint",
    "class_folds",
    "fold_as_test",
    "in_two_splits",
    "kind_of_classes",
    "long_tail",
    "split_by_class",
]


def split_by_class(items: Items, *, seed: int = 0, test: float = 0.5, validation: float = 0.1) -> Items:
    """Fills the column `split`.

    Without given splits, `test` and `validation` are shares of all classes, and no class is in two splits. Where there
    are too few classes for that, they are shares of the items of each class.

    Splits that the data bring are kept. Their test classes are either all unseen in training or all seen
    (`kind_of_classes`), and so are those of validation. A missing validation split is drawn from the training classes
    (`validation` is then their share), or, where the test is of seen classes, from the items of each; where only
    training and validation are given, validation is taken as the test. Classes are drawn by their sorted names, so the
    order of rows does not matter.

    Items marked `held_out` stay in the test only, as queries; the test's other items are then their gallery.

    Raises:
        UserError: too few classes, shares out of range, given splits of which some classes are trained on and others
            are not, splits given for some items only.
    """
    if not (0 <= test < 1 and 0 <= validation < 1 and test + validation < 1):
        raise UserError(
            f"--data.test {test} and --data.validation {validation} must be shares of the classes, from 0 to less than "
            "1 together"
        )
    splits = set(items.table["split"].unique()) - {""}
    result = _keep(items, seed, validation) if splits else _draw(items, seed, test, validation)
    return _hold_out(result)


def kind_of_classes(items: Items, split: str) -> str:
    """`unseen` where no class of a split is trained on, `seen` where all are, else `mixed`."""
    table = items.table
    trained = set(table["label"][table["split"] == "train"])
    shared = [label in trained for label in table["label"][table["split"] == split].unique()]
    return "unseen" if not any(shared) else "seen" if all(shared) else "mixed"


def in_two_splits(items: Items) -> list[str]:
    """The names of the classes that are in more than one split."""
    splits = items.table[items.table["split"] != ""].groupby("label")["split"].nunique()
    return [items.classes[label] for label in splits.index[splits > 1]]


def check_disjoint(items: Items) -> None:
    """A UserError where a class is in two splits."""
    both = in_two_splits(items)
    if both:
        raise UserError(
            f"{items.name}: {len(both)} classes are in two splits ({few(both)}); metric learning is tested on "
            "classes that were never trained on: mend the split"
        )


def _check_kinds(items: Items) -> None:
    """A UserError where only some classes of a split are trained on, or validation has classes of an unseen test."""
    classes = {name: set(rows) for name, rows in items.table.groupby("split")["label"]}
    for split, other in (("test", "train"), ("validation", "train"), ("validation", "test")):
        of_split = classes.get(split, set())
        both = sorted(of_split & classes.get(other, set()))
        if both and kind_of_classes(items, split if other == "train" else "test") != "seen":
            names = few(items.classes[label] for label in both)
            raise UserError(
                f"{items.name}: {len(both)} of {len(of_split)} {split} classes are in the {other} split too ({names}); "
                "either all of them are, or none. Mend the split, or let the classes be drawn again: "
                "--data.given_splits false for a folder, no column 'split' in a manifest"
            )


def class_folds(items: Items, folds: int = 4, *, seed: int = 0) -> list[Items]:
    """Class-disjoint folds: in fold i, one part of the classes is validation and the others are training.

    A given test split stays untouched in each. Raises a UserError where there are fewer classes than folds.
    """
    if folds < 2:
        raise UserError(f"--data.folds {folds}: at least 2 are needed")
    untested = items.table["split"].to_numpy() != "test"
    classes = _shuffled(items, np.unique(items.table["label"][untested]), seed)
    if len(classes) < folds:
        raise UserError(f"{items.name}: {len(classes)} classes cannot be divided into {folds} folds")
    result = []
    for part in np.array_split(classes, folds):
        split = np.where(items.table["label"].isin(part), "validation", "train")
        result.append(items.assign(split=np.where(untested, split, "test")))
    return result


def fold_as_test(items: Items, folds: int, fold: int, *, seed: int = 0) -> Items:
    """The items with one of the class-disjoint folds as their test and the others as training.

    Raises:
        UserError: there is no such fold, or there are fewer classes than folds.
    """
    if not 0 <= fold < folds:
        raise UserError(f"--data.fold {fold} must be from 0 to {folds - 1}, as there are --data.folds {folds}")
    one = class_folds(items.assign(split=""), folds, seed=seed)[fold]
    return one.assign(split=np.where(one.table["split"] == "validation", "test", "train"))


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
    members = rows_by_label(np.where(tail, labels, -1))
    for rank, label in enumerate(classes.tolist()):
        rows = members[label]
        size = max(1, min(len(rows), round(most * ratio ** (-rank / max(len(classes) - 1, 1)))))
        keep[np.random.default_rng([seed, 1, rank]).permutation(rows)[:size]] = True
    result = items.select(keep)
    result.notes.append(
        f"made long-tailed (ratio {ratio:g}, seed {seed}): {int((~keep).sum())} of {int(tail.sum())} items left out"
    )
    return result


def _shuffled(items: Items, labels: np.ndarray, seed: int) -> np.ndarray:
    """The labels in an order that depends on the class names and the seed only."""
    ordered = sorted((int(label) for label in labels), key=lambda label: items.classes[label])
    return np.random.default_rng(seed).permutation(np.array(ordered, dtype=np.int64))


def _share(share: float, classes: int) -> int:
    return max(1, round(share * classes)) if share > 0 else 0


def _draw(items: Items, seed: int, test: float, validation: float) -> Items:
    classes = _shuffled(items, np.unique(items.table["label"]), seed)
    n_test, n_validation = _share(test, len(classes)), _share(validation, len(classes))
    labels = items.table["label"]
    if len(classes) - n_test - n_validation < 2:
        drawn = _draw_items(labels.to_numpy(), seed, {"test": test, "validation": validation})
        if len(classes) < 2 or (test > 0 and "test" not in drawn):
            cure = f"give --data.test {1 / len(classes):.2f} --data.validation 0, or " if len(classes) > 2 else ""
            raise UserError(
                f"{items.name}: {len(classes)} classes are too few for --data.test {test:g} and --data.validation "
                f"{validation:g}: at least 2 must stay for training; {cure}add classes"
            )
        result = items.assign(split=drawn)
        result.notes.append(
            f"{len(classes)} classes are too few to keep some for the test: --data.test and --data.validation are "
            "shares of the images of each class, so the test is of seen classes"
        )
        return result
    split = np.where(labels.isin(classes[:n_test]), "test", "train").astype(object)
    split[labels.isin(classes[n_test : n_test + n_validation])] = "validation"
    return items.assign(split=split)


def _draw_items(labels: np.ndarray, seed: int, shares: Mapping[str, float]) -> np.ndarray:
    """A split for each item: of each class the shares of its items, two or more of each split, the others training."""
    split = np.full(len(labels), "train", dtype=object)
    for label, members in rows_by_label(labels).items():
        rows = np.random.default_rng([seed, 3, label]).permutation(members)
        for name, share in shares.items():
            count = max(2, round(share * len(members))) if share > 0 else 0
            if len(rows) - count >= 2:
                split[rows[:count]] = name
                rows = rows[count:]
    return split


def _keep(items: Items, seed: int, validation: float) -> Items:
    split = items.table["split"].to_numpy(dtype=object).copy()
    without = int((split == "").sum())
    if without:
        raise UserError(
            f"{items.name}: {without} of {len(split)} items have no split while others have one; give all of them a "
            "split, or none"
        )
    result = items.assign(split=split)
    if "train" not in split:
        raise UserError(f"{items.name}: the given splits hold no training items (split = train)")
    if "test" not in split:
        split[split == "validation"] = "test"
        result.notes.append("the data give no test split: their validation split is the test")
    result = result.assign(split=split)
    _check_kinds(result)
    seen = kind_of_classes(result, "test") == "seen"
    if seen:
        result.notes.append("the test is of seen classes: other images of the classes that are trained on")
    if "validation" in split or validation == 0:
        return result
    labels, train = items.table["label"].to_numpy(), split == "train"
    if seen:
        split[train] = _draw_items(labels[train], seed, {"validation": validation})
        result.notes.append(
            f"validation: {int((split == 'validation').sum())} of the {int(train.sum())} training images"
        )
    else:
        classes = _shuffled(items, np.unique(labels[train]), seed)
        count = _share(validation, len(classes))
        if len(classes) - count < 2:
            raise UserError(
                f"{items.name}: {len(classes)} training classes are too few to draw validation from: "
                "--data.validation 0"
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
    if "train" not in set(result.table["split"]):
        raise UserError(f"{items.name}: nothing is left to train on where {domains} are held out: hold out fewer")
    result.notes.append(f"held out ({domains}): {int((held & ~test).sum())} items left out of training and validation")
    return result
