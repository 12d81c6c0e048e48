"""pullpush evaluate, pullpush embed"""

from json import dumps
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from pullpush.cli.parse import call
from pullpush.errors import UserError
from pullpush.files import replacing, write_text

__all__ = ["embed", "evaluate"]


def evaluate(argv: list[str]) -> int:
    """Metrics of a model on any data."""
    call(
        _evaluate, argv, "pullpush evaluate",
        "  pullpush evaluate runs/demo --data emoji --split test\n"
        "  pullpush evaluate runs/demo --data photos/ --json\n"
        "  pullpush evaluate runs/sop/model --data sop --root downloads/Stanford_Online_Products --split test",
    )  # fmt: skip
    return 0


def embed(argv: list[str]) -> int:
    """Embeddings of images, to a file."""
    call(
        _embed, argv, "pullpush embed",
        "  pullpush embed runs/demo --data photos/ --out photos.npz\n"
        "  pullpush embed runs/demo --data items.csv --out items.parquet",
    )  # fmt: skip
    return 0


def _evaluate(
    model: str,
    data: str = "emoji",
    root: str | None = None,
    split: str = "",
    options: dict[str, Any] | None = None,
    nmi: bool = True,
    per_class: str | None = None,
    json: bool = False,
) -> None:
    """Retrieval metrics of a run or model.

    Args:
        model: a run folder or a model folder.
        data: a name, a folder of classes, or a manifest.
        root: folder of the download, for the benchmark data sets.
        split: train, validation or test; by default the test split of the run or of the data, else all items.
        options: further options of the reader.
        nmi: cluster the embeddings too.
        per_class: write a CSV with the metrics of each class to this file.
        json: print JSON instead of a table.
    """
    from pullpush.data.items import Items
    from pullpush.data.sources import open_items
    from pullpush.encoders import load
    from pullpush.evaluation import evaluate_items

    loaded = load(model)
    table = Path(model) / "items.parquet"
    if table.exists() and Items.load(table).name == data and not options:
        items = Items.load(table).split(split or "test")
    else:
        items = open_items(data, root=root, **(options or {}))
        split = split or ("test" if (items.table["split"] == "test").any() else "")
        items = items.split(split) if split else items
    if not len(items):
        raise UserError(f"{data!r} has no items in split {split!r}; leave --split away to evaluate on all")
    embeddings = loaded.embed((items.open(row) for row in range(len(items))), progress=not json)
    found = evaluate_items(embeddings, items, nmi=nmi)
    if per_class:
        frame = found.per_class.copy()
        frame.insert(0, "class", [items.classes[label] for label in frame.index])
        write_text(per_class, frame.to_csv(), "or choose another --per_class")
    if json:
        print(dumps({"protocol": found.protocol, "left_out": found.left_out, **found.metrics}))
        return
    shown = Table(title=f"{model} on {items.name}: {len(items)} items, protocol {found.protocol}")
    shown.add_column("metric")
    shown.add_column("value", justify="right")
    for name, value in found.metrics.items():
        shown.add_row(name, f"{value:.4f}")
    Console().print(shown)
    for note in (f"{found.left_out} queries without a positive left out" if found.left_out else "", *found.notes):
        if note:
            print(note)


def _embed(
    model: str,
    data: str = "emoji",
    out: str = "embeddings.npz",
    root: str | None = None,
    options: dict[str, Any] | None = None,
) -> None:
    """Embeddings of images, L2-normalised float32.

    Args:
        model: a run folder or a model folder.
        data: a name, a folder of classes, or a manifest.
        out: FILE.npz (embeddings, ids, labels, paths), FILE.npy (embeddings) or FILE.parquet; must not exist.
        root: folder of the download, for the benchmark data sets.
        options: further options of the reader.
    """
    from pullpush.data.sources import open_items
    from pullpush.encoders import load

    path = Path(out)
    if path.suffix not in (".npz", ".npy", ".parquet"):
        raise UserError(f"can't write {out!r}: the file must end with .npz, .npy or .parquet")
    if path.exists():
        raise UserError(f"{out!r} exists: choose another --out")
    items = open_items(data, root=root, **(options or {}))
    loaded = load(model)
    embeddings = loaded.embed((items.open(row) for row in range(len(items))), progress=True)
    with replacing(path, "or choose another --out") as part, part.open("wb") as file:
        if path.suffix == ".npy":
            np.save(file, embeddings)
        elif path.suffix == ".npz":
            paths = np.array([items.path(row) for row in range(len(items))])
            np.savez(file, embeddings=embeddings, ids=items.ids.numpy(), labels=items.labels.numpy(), paths=paths)
        else:
            items.table.assign(embedding=list(embeddings)).to_parquet(file)
    print(f"{len(embeddings)} x {embeddings.shape[1]} embeddings: {path}")
