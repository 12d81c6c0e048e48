"""What is wrong with the images, before anything is trained on them."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd
from PIL import Image

from pullpush.data.captions import text_problems
from pullpush.data.items import Items, crop
from pullpush.data.splits import kind_of_classes
from pullpush.data.workers import by_chunks
from pullpush.errors import UserError
from pullpush.escape import readable
from pullpush.images import opened, to_rgb
from pullpush.images.decode import DECODE_ERRORS, reason
from pullpush.images.files import archived, read_regular

__all__ = ["SHOWN", "BadItem", "Findings", "Summary", "check", "inspect", "summary", "without_bad"]

TINY = 8
IMBALANCE = 10
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
    """What `inspect` found. `bad` cannot be read; the rest is worth a look."""

    bad: list[BadItem] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    tiny: list[int] = field(default_factory=list)
    animated: list[int] = field(default_factory=list)
    duplicates: list[list[int]] = field(default_factory=list)
    across_classes: list[list[int]] = field(default_factory=list)
    formats: Counter[str] = field(default_factory=Counter)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    """Width and height of each that can be read, upright."""


@dataclass
class _Seen:
    reason: str = ""
    format: str = "archive"
    kind: str = "RGB"
    animated: bool = False
    size: tuple[int, int] = (0, 0)
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
    order."""
    return inspect(items).bad


def inspect(items: Items) -> Findings:
    """Decodes each image once, in worker processes, and collects what is wrong or unusual.

    Duplicates are images with the same pixels after conversion to RGB: the same file twice, and the same image saved
    twice. `across_classes` are those duplicates whose labels differ.
    """
    seen = [look for chunk in by_chunks(partial(_look_at, items), len(items), "checking images") for look in chunk]
    findings = Findings()
    same: dict[bytes, list[int]] = defaultdict(list)
    for row, look in enumerate(seen):
        if look.reason:
            findings.bad.append(BadItem(row, items.path(row), look.reason))
            continue
        same[look.digest].append(row)
        findings.kinds[look.kind] += 1
        findings.formats[look.format] += 1
        findings.sizes.append(look.size)
        if look.animated:
            findings.animated.append(row)
        if min(look.size) < TINY:
            findings.tiny.append(row)
    labels = items.table["label"].to_numpy()
    findings.duplicates = [rows for rows in same.values() if len(rows) > 1]
    findings.across_classes = [rows for rows in findings.duplicates if len(set(labels[rows])) > 1]
    return findings


def _look_at(items: Items, rows: range) -> list[_Seen]:
    return [_look(items, row) for row in rows]


def _look(items: Items, row: int) -> _Seen:
    path = items.path(row)
    seen = _Seen()
    try:
        inside = archived(path)
        lazy = opened(read_regular(path)) if inside is None else Image.fromarray(inside)
        seen.kind, seen.animated = lazy.mode, getattr(lazy, "is_animated", False)
        seen.format = lazy.format or seen.format
        image = crop(to_rgb(lazy), items.box(row), path)
    except DECODE_ERRORS as error:
        return _Seen(reason=reason(error))
    except UserError as error:
        return _Seen(reason=str(error))
    seen.size = image.size
    seen.digest = hashlib.blake2b(np.asarray(image).tobytes() + repr(image.size).encode(), digest_size=16).digest()
    return seen


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
        pixels=_pixels(findings.sizes) if findings and findings.sizes else None,
        formats=pd.DataFrame(findings.formats.most_common(), columns=["format", "images"]) if findings else None,
    )


def _image_problems(items: Items, findings: Findings) -> list[str]:
    lines = [f"cannot be read: {bad.path} ({bad.reason})" for bad in findings.bad[:10]]
    if len(findings.bad) > 10:
        lines.append(f"... and {len(findings.bad) - 10} more images that cannot be read")
    table = items.table
    for rows in findings.across_classes[:3]:
        names = ", ".join(dict.fromkeys(items.classes[label] for label in table["label"].iloc[rows]))
        lines.append(
            f"the same image in {len(rows)} items of different classes ({names}): {table['path'].iloc[rows[0]]}"
        )
    if len(findings.across_classes) > 3:
        lines.append(f"... and {len(findings.across_classes) - 3} more images in different classes")
    spare = sum(len(rows) - 1 for rows in findings.duplicates)
    if spare:
        lines.append(f"{spare} of {len(items)} items have the same pixels as another item")
    if findings.tiny:
        lines.append(
            f"{len(findings.tiny)} images are smaller than {TINY} pixels, the first is {items.path(findings.tiny[0])}"
        )
    if findings.animated:
        lines.append(
            f"{len(findings.animated)} images are animated, their first frame counts: "
            f"{items.path(findings.animated[0])}"
        )
    other = {kind: count for kind, count in findings.kinds.items() if kind != "RGB"}
    if other:
        lines.append("converted to RGB: " + ", ".join(f"{count} {kind}" for kind, count in sorted(other.items())))
    return lines


def _class_problems(items: Items) -> list[str]:
    lines = []
    sizes = items.table["label"].value_counts()
    single = sizes.index[sizes == 1]
    if len(sizes) < 2:
        lines.append(f"only {len(sizes)} class: nothing can be learned without a second one")
    if len(single):
        few, dots = ", ".join(items.classes[label] for label in sorted(single)[:3]), ", ..." if len(single) > 3 else ""
        single_items = items.table["label"].isin(single)
        has_text = items.table["text"][single_items].map(len).all()
        lines.append(
            f"{len(single)} of {len(sizes)} classes have one item, so no positive"
            f"{' but its text (--task image-text)' if has_text else ''} ({few}{dots})"
        )
    if len(sizes) and sizes.max() >= IMBALANCE * sizes.min():
        lines.append(
            f"imbalance: the largest class ({items.classes[sizes.idxmax()]}) has {sizes.max()} items, the smallest "
            f"({items.classes[sizes.idxmin()]}) has {sizes.min()}"
        )
    split = items.table[items.table["split"] != ""].groupby("label")["split"].nunique()
    if any(kind_of_classes(items, name) == "mixed" for name in ("validation", "test")):
        both = split.index[split > 1]
        lines.append(f"{len(both)} classes are in two splits, the first is {items.classes[both[0]]}")
    return lines


def _pixels(sizes: Sequence[tuple[int, int]]) -> pd.DataFrame:
    """Smallest, median and largest width, height and aspect."""
    width, height = np.array(sizes, float).T
    rows = {"width": width, "height": height, "width / height": width / height}
    return pd.DataFrame(
        [(name, *np.round(np.quantile(values, [0, 0.5, 1]), 2)) for name, values in rows.items()],
        columns=["pixels", "smallest", "median", "largest"],
    )


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
    counts = items.table["label"].value_counts().value_counts().sort_index()
    return pd.DataFrame({"items a class": counts.index.to_numpy(), "classes": counts.to_numpy()})


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
