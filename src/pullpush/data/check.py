"""What is wrong with the images, before anything is trained on them."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from pullpush.data.items import Items, crop
from pullpush.data.splits import in_two_splits, kind_of_classes
from pullpush.data.texts import text_problems
from pullpush.data.workers import by_chunks
from pullpush.errors import UserError
from pullpush.escape import readable
from pullpush.images import Unreadable, opened, to_rgb
from pullpush.images.decode import DECODE_ERRORS, reason
from pullpush.images.files import archived, read_regular
from pullpush.names import few

__all__ = ["SHOWN", "BadItem", "Findings", "Summary", "check", "inspect", "summary", "without_bad"]

TINY = 8
IMBALANCE = 10
# Different sizes of classes that are listed one by one.
SIZES = 20
# Bad images that are named.
SHOWN = 10


@dataclass(frozen=True)
class BadItem:
    """An item whose image cannot be read."""

    row: int
    path: str
    reason: str


@dataclass
class Findings:
    """What `inspect` saw; the rows are those of the items."""

    bad: list[BadItem]
    tiny: list[int]  # with a side of less than `TINY` pixels
    animated: list[int]
    duplicates: list[list[int]]  # with the same pixels as RGB: one file twice, or one image saved twice
    across_classes: list[list[int]]  # those duplicates whose labels differ
    kinds: Counter[str]  # Pillow's modes, counted
    seen: pd.DataFrame  # format, width and height (upright) of each that can be read


class _Seen(NamedTuple):
    reason: str = ""
    format: str = ""
    kind: str = ""
    animated: bool = False
    width: int = 0
    height: int = 0
    digest: bytes = b""


def without_bad(items: Items, on_bad_item: str, say: Callable[[str], None]) -> Items:
    """The items whose images can be read.

    Args:
        items: to check, decoding each image once.
        on_bad_item: `stop` at bad ones, or `skip` them.
        say: takes a sentence about those that are skipped.

    Raises:
        UserError: some are bad, and they are not to be skipped.
    """
    bad = check(items)
    if not bad:
        return items
    named = "\n".join(f"  {b.path}: {b.reason}" for b in bad[:SHOWN])
    more = f"\n  and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    problem = f"{len(bad)} of {len(items)} images can't be read:\n{named}{more}"
    if on_bad_item == "stop":
        raise UserError(f"{problem}\nMend or remove them, or go on without them: --on-bad-item skip")
    say(f"{problem}\nGoing on without them.")
    keep = np.ones(len(items), dtype=bool)
    keep[[b.row for b in bad]] = False
    return items.select(keep)


def check(items: Items) -> list[BadItem]:
    """The items whose images cannot be read (missing, empty, truncated, not an image), each decoded once, in row
    order; a JPEG at an eighth of its size, for which all of the file is read."""
    reasons = (each for chunk in by_chunks(partial(_reasons, items), len(items), "checking images") for each in chunk)
    return [BadItem(row, items.path(row), reason) for row, reason in enumerate(reasons) if reason]


def _reasons(items: Items, rows: range) -> list[str]:
    return [_reason(items, row) for row in rows]


def _reason(items: Items, row: int) -> str:
    try:
        items.open(row, side=1)
    except Unreadable as error:
        return error.reason
    except UserError as error:
        return str(error)
    return ""


def inspect(items: Items) -> Findings:
    """Decodes each image once, in worker processes, and collects what is wrong or unusual."""
    looks = [look for chunk in by_chunks(partial(_look_at, items), len(items), "checking images") for look in chunk]
    frame = pd.DataFrame(looks, columns=list(_Seen._fields))
    wrong = frame["reason"] != ""
    seen, labels = frame[~wrong], items.table["label"].to_numpy()
    repeated = seen[seen.duplicated("digest", keep=False)]  # a group an image costs more than the images
    duplicates = [rows.tolist() for rows in repeated.groupby("digest", sort=False).groups.values()]
    return Findings(
        bad=[BadItem(row, items.path(row), reason) for row, reason in frame["reason"][wrong].items()],
        tiny=seen.index[seen[["width", "height"]].min(axis=1) < TINY].tolist(),
        animated=seen.index[seen["animated"]].tolist(),
        duplicates=duplicates,
        across_classes=[rows for rows in duplicates if len(set(labels[rows])) > 1],
        kinds=Counter(seen["kind"]),
        seen=seen,
    )


def _look_at(items: Items, rows: range) -> list[_Seen]:
    return [_look(items, row) for row in rows]


def _look(items: Items, row: int) -> _Seen:
    path = items.path(row)
    try:
        inside = archived(path)
        lazy = opened(read_regular(path)) if inside is None else Image.fromarray(inside)
        about = (lazy.format or "archive", lazy.mode, getattr(lazy, "is_animated", False))
        image = crop(to_rgb(lazy), items.box(row), path)
    except DECODE_ERRORS as error:
        return _Seen(reason(error))
    except UserError as error:
        return _Seen(str(error))
    pixels = np.asarray(image).tobytes() + repr(image.size).encode()
    return _Seen("", *about, *image.size, hashlib.blake2b(pixels, digest_size=16).digest())


@dataclass
class Summary:
    """What `pullpush data` shows: problems first, then the counts."""

    problems: list[str]
    notes: list[str]
    splits: pd.DataFrame
    sizes: pd.DataFrame
    examples: pd.DataFrame
    pixels: pd.DataFrame | None = None
    formats: pd.DataFrame | None = None


def summary(items: Items, findings: Findings | None = None, *, examples: int = 5) -> Summary:
    """Problems in sentences (worst first), items and classes a split, sizes of the classes, a few items.

    `findings` come from `inspect`, which decodes all images; without them the images are not looked at.
    """
    return Summary(
        problems=[
            *(_image_problems(items, findings) if findings else []),
            *_class_problems(items),
            *text_problems(items),
        ],
        notes=list(items.notes),
        splits=_splits(items),
        sizes=_sizes(items),
        examples=_examples(items, examples),
        pixels=_pixels(findings.seen) if findings and len(findings.seen) else None,
        formats=findings.seen["format"].value_counts().rename("images").reset_index() if findings else None,
    )


def _image_problems(items: Items, findings: Findings) -> list[str]:
    lines = [f"cannot be read: {bad.path} ({bad.reason})" for bad in findings.bad[:SHOWN]]
    if len(findings.bad) > SHOWN:
        lines.append(f"... and {len(findings.bad) - SHOWN} more images that cannot be read")
    table = items.table
    for rows in findings.across_classes[:3]:
        names = ", ".join(dict.fromkeys(items.classes[label] for label in table["label"].iloc[rows]))
        lines.append(f"the same image in {len(rows)} items of different classes ({names}): {items.path(rows[0])}")
    if len(findings.across_classes) > 3:
        lines.append(f"... and {len(findings.across_classes) - 3} more images in different classes")
    spare = sum(len(rows) - 1 for rows in findings.duplicates)
    if spare:
        lines.append(f"{spare} of {len(items)} items have the same pixels as another item")
    tiny, animated = findings.tiny, findings.animated
    if tiny:
        lines.append(f"{len(tiny)} images are smaller than {TINY} pixels, the first is {items.path(tiny[0])}")
    if animated:
        lines.append(f"{len(animated)} images are animated, their first frame counts: {items.path(animated[0])}")
    other = [f"{count} {kind}" for kind, count in sorted(findings.kinds.items()) if kind != "RGB"]
    if other:
        lines.append(f"converted to RGB: {', '.join(other)}")
    return lines


def _class_problems(items: Items) -> list[str]:
    lines = []
    sizes = items.table["label"].value_counts()
    single = sizes.index[sizes == 1]
    if len(sizes) < 2:
        lines.append(f"only {len(sizes)} class: nothing can be learned without a second one")
    if len(single):
        has_text = items.table["text"][items.table["label"].isin(single)].map(len).all()
        but = " but its text (--task image-text)" if has_text else ""
        names = few(items.classes[label] for label in sorted(single))
        lines.append(f"{len(single)} of {len(sizes)} classes have one item, so no positive{but} ({names})")
    if len(sizes) and sizes.max() >= IMBALANCE * sizes.min():
        lines.append(
            f"imbalance: the largest class ({items.classes[sizes.idxmax()]}) has {sizes.max()} items, the smallest "
            f"({items.classes[sizes.idxmin()]}) has {sizes.min()}"
        )
    if any(kind_of_classes(items, name) == "mixed" for name in ("validation", "test")):
        both = in_two_splits(items)
        lines.append(f"{len(both)} classes are in two splits, the first is {both[0]}")
    return lines


def _pixels(seen: pd.DataFrame) -> pd.DataFrame:
    """Smallest, median and largest width, height and aspect."""
    sides = seen[["width", "height"]].assign(**{"width / height": seen["width"] / seen["height"]})
    quantiles = sides.quantile([0, 0.5, 1]).round(2).set_axis(["smallest", "median", "largest"])
    return quantiles.T.rename_axis("pixels").reset_index()


def _splits(items: Items) -> pd.DataFrame:
    table = items.table.assign(split=items.table["split"].replace("", "(none)"))
    groups = table.groupby("split", sort=False)
    frame = pd.DataFrame({"items": groups.size(), "classes": groups["label"].nunique()})
    for role in ("query", "gallery"):
        if (table["role"] == role).any():
            frame[role] = groups["role"].apply(lambda roles, role=role: int(roles.isin([role, "both"]).sum()))
    order = [s for s in ("train", "validation", "test", "(none)") if s in frame.index]
    return frame.loc[order].reset_index()


def _sizes(items: Items) -> pd.DataFrame:
    """How many classes have how many items; of many sizes, by powers of two."""
    sizes = items.table["label"].value_counts()
    if sizes.nunique() > SIZES:
        sizes = pd.Series(2 ** np.floor(np.log2(sizes)).astype(int))
        counts = sizes.value_counts().sort_index().rename(lambda n: f"{n} to {2 * n - 1}" if n > 1 else "1")
    else:
        counts = sizes.value_counts().sort_index()
    return counts.rename("classes").rename_axis("items a class").reset_index()


def _examples(items: Items, count: int) -> pd.DataFrame:
    rows = np.linspace(0, max(len(items) - 1, 0), min(count, len(items))).astype(int)
    table = items.table.iloc[rows]
    frame = pd.DataFrame(
        {
            "class": [items.classes[label] for label in table["label"]],
            "text": ["; ".join(text) for text in table["text"]],
            "path": list(map(readable, table["path"])),
        }
    )
    return frame if frame["text"].any() else frame.drop(columns="text")
