"""The items that a verb is about, and their embeddings."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pullpush.errors import UserError
from pullpush.escape import printable
from pullpush.progress import counted

if TYPE_CHECKING:
    import numpy as np

    from pullpush.data.items import Items
    from pullpush.encoders.model import Model

__all__ = ["asked", "embed_readable", "of_the_run", "planned", "split_of"]

SHOWN = 10


def of_the_run(model: str) -> "Items | None":
    """The items of the run that `model` is, or is of; a library's model is of none, wherever it is named."""
    from pullpush.data.items import Items

    folders = (Path(model), Path(model).resolve().parent) if Path(model).is_dir() else ()
    tables = [folder / "items.parquet" for folder in folders]
    return next((Items.load(table) for table in tables if table.exists()), None)


def asked(model: str, data: str | None, root: str | None, split: str, options: dict[str, Any] | None) -> "Items":
    """The items that a model is to be measured on."""
    from pullpush.data.sources import open_items

    items = of_the_run(model)
    if data is not None and Path(data, "items.parquet").is_file():  # those of another run
        return split_of(of_the_run(data), split or "test", data)
    of_its_name = items and items.name == data and not options and root is None
    if data is None or (of_its_name and not Path(data).exists()):  # a folder is measured as it is, whatever its name
        return split_of(items, split or "test", model)
    items = open_items(data, root=root, **(options or {}))
    return split_of(items, split or ("test" if (items.table["split"] == "test").any() else ""), data)


def split_of(items: "Items | None", split: str, what: str) -> "Items":
    """The items of a split, or all; `what` names them in messages.

    Raises:
        UserError: there are none.
    """
    if items is None:
        raise UserError(f"{what!r} is a model and not a run, so say on what: --data photos/")
    chosen = items.split(split) if split else items
    if split and not len(chosen):
        there = ", ".join(f"--split {name}" for name in ("train", "validation", "test") if len(items.split(name)))
        raise UserError(f"{what} has nothing in the split {split!r}: give {there or 'no --split'}, or other --data")
    return chosen


def planned(model: "Model", name: str, items: "Items") -> list[str]:
    """What embedding these items by a model means, in two lines."""
    classes = items.table["label"].nunique()
    lines = [f"embed {len(items):,} items of {classes:,} classes of {items.name} by {name}, {model.dim} dimensions"]
    if "image" in model.encoders and not model.views.plain:
        views = {role: ", ".join(map(str, model.views.of_role(role))) for role in ("query", "gallery")}
        lines.append(f"each in test views: as a query {views['query']}; as what is searched {views['gallery']}")
    return [*lines, "then rank all others for each, nearest first"]


def embed_readable(model: "Model", items: "Items") -> "tuple[np.ndarray, np.ndarray, Items]":
    """Embeddings of the items whose images can be read, as queries and as gallery, and these items; the others are
    named on standard error.

    A model without images embeds what its first encoder takes of an item.
    """
    if "image" not in model.encoders:
        kind, encoder = next(iter(model.encoders.items()))
        embeddings = model.embed_as(kind, encoder.of_items(items))
        return embeddings, embeddings, items
    kept, bad = [], []

    def images() -> Any:
        for row in counted(range(len(items)), "embedding images", len(items), each=lambda row: 1):
            try:
                image = items.open(row)
            except UserError as error:
                bad.append(str(error))
                continue
            kept.append(row)
            yield image

    queries, embeddings = model.embed_both(images())
    if not kept:
        raise UserError(f"none of the {len(items)} images can be read, the first: {bad[0]}")
    for line in bad[:SHOWN]:
        print(printable(line), file=sys.stderr)
    if bad:
        more = f", {len(bad) - SHOWN} of them not shown" if len(bad) > SHOWN else ""
        print(f"{len(bad)} of {len(items)} images left out{more}", file=sys.stderr)
    return queries, embeddings, items.select(kept)
