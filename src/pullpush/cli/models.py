"""pullpush evaluate, pullpush embed"""

import sys
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pullpush.cli.compression import compressed_rows, shown_row
from pullpush.cli.reranking import in_words, timed, tried
from pullpush.cli.retrieval import print_ways
from pullpush.cli.terminal import table as as_table
from pullpush.errors import UserError
from pullpush.escape import printable
from pullpush.files import replacing, write_text
from pullpush.progress import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from pullpush.data.items import Items
    from pullpush.encoders.model import Model
    from pullpush.evaluation import Chosen, Rerank

__all__ = ["asked", "embed", "embed_readable", "evaluate"]

SHOWN = 10


def evaluate(
    model: str,
    *,
    data: str | None = None,
    root: str | None = None,
    split: Literal["", "train", "validation", "test"] = "",
    options: dict[str, Any] | None = None,
    nmi: bool = True,
    rerank: str = "none",
    compression: bool = False,
    table: bool = False,
    views: Literal["auto", "none"] = "auto",
    per_class: str | None = None,
    json: bool = False,
) -> None:
    """Retrieval metrics of a run or model.

    Args:
        model: a run folder or a model folder.
        data: a name, a folder of classes, or a manifest; by default what the run was trained and tested on.
        root: folder of the download, for the benchmark data sets.
        split: train, validation or test; by default the test split of the run or of the data, else all items.
        options: further options of the reader.
        nmi: cluster the embeddings too, where the ranking is as it is.
        rerank: none; auto, the best on the run's validation classes, or the best of one method there: expand, augment,
            both, reciprocal; or what to do, such as expand=3,augment=3 or reciprocal=6 (docs/reranking.md).
        compression: what smaller embeddings find too: fewer dimensions, and fewer bytes for each
            (docs/small-embeddings.md).
        table: of a run, all ways to use its model in one table: untrained, trained, with views, re-ranked, small; what
            they find on its test, and what they cost (docs/retrieval.md).
        views: the test views of the model (auto), or images as they are.
        per_class: write a CSV with the metrics of each class to this file.
        json: print JSON instead of a table.

    Examples:
        pullpush evaluate runs/demo                     the test split of the run
        pullpush evaluate runs/demo --data emoji --split test
        pullpush evaluate runs/demo --data photos/ --json
        pullpush evaluate runs/demo --rerank auto
        pullpush evaluate runs/demo --compression       bytes of an item against what is found
        pullpush evaluate runs/demo --table             what each way to use the model finds and costs
        pullpush evaluate runs/sop/model --data sop --root downloads/Stanford_Online_Products --split test
    """
    from rich.console import Console

    from pullpush.encoders import Views, load
    from pullpush.evaluation import evaluate_items
    from pullpush.evaluation.open_set import naming

    loaded = load(model)
    if views == "none":
        loaded.views = Views()
    if table:
        if data or split or options:
            raise UserError("--table is of the test of a run: leave out --data, --split and --options")
        print_ways(loaded, model, rerank, lambda wanted: _reranking(wanted, loaded, model), json)
        return
    reranking, chosen = _reranking(rerank, loaded, model)
    items = asked(model, data, root, split, options)
    queries, embeddings, items = embed_readable(loaded, items)
    asking = None if loaded.views.plain else queries
    result, seconds = before = timed(
        lambda: evaluate_items(embeddings, items, nmi=nmi and not reranking, queries=asking)
    )
    if reranking:
        result, seconds = timed(lambda: evaluate_items(embeddings, items, nmi=False, rerank=reranking, queries=asking))
    if per_class:
        frame = result.per_class.copy()
        frame.insert(0, "class", [items.classes[label] for label in frame.index])
        write_text(per_class, frame.to_csv(), "or choose another --per_class")
    small = compressed_rows(loaded, model, embeddings, items, asking) if compression else []
    votes = naming(embeddings, *(items.table[name].to_numpy() for name in ("label", "id")))
    enrolled = votes.pop("identification", [])
    if json:
        measured: dict[str, Any] = {**result.metrics, **votes, "identification": enrolled}
        if small:
            measured["compression"] = [each.values() for each in small]
        if reranking or chosen:
            said = {"options": str(reranking), "seconds": seconds, "seconds_without": before[1]}
            measured["rerank"] = {**said, "without": before[0].metrics, "chosen_on": chosen and tried(chosen)}
        print(dumps({"protocol": result.protocol, "left_out": result.left_out, **measured}))
        return
    title = f"{model} on {items.name}: {len(items)} items, protocol {result.protocol}"
    metrics = result.metrics | votes
    rows = ({"metric": name, "value": f"{value:.4f}"} for name, value in metrics.items())
    if reranking:
        without = before[0].metrics | votes
        after = {name: f"{value:.4f}" for name, value in result.metrics.items()}
        rows = ({"metric": n, "before": f"{without[n]:.4f}", "re-ranked": after.get(n, "")} for n in metrics)
    Console().print(as_table(title, rows))
    if enrolled:
        Console().print(
            as_table("shots: images of a class that are enrolled, the others ask who they are", map(_shown, enrolled))
        )
    if small:
        Console().print(as_table("smaller embeddings: bytes of an item, and what is found", map(shown_row, small)))
    left_out = [f"{result.left_out} queries without a positive left out"] if result.left_out else []
    for note in (*left_out, *result.notes, *in_words(chosen)):
        print(printable(note))
    if reranking:
        print(f"ranking took {seconds:.1f} s, {before[1]:.1f} s without")


def embed(
    model: str,
    *,
    data: str | None = None,
    out: str = "embeddings.npz",
    root: str | None = None,
    split: Literal["", "train", "validation", "test"] = "",
    options: dict[str, Any] | None = None,
    dim: int | None = None,
    dtype: Literal["float32", "float16", "int8", "binary"] = "float32",
) -> None:
    """Embeddings of images, L2-normalised float32 unless said otherwise.

    Args:
        model: a run folder or a model folder.
        data: any folder, one image, a manifest or a name; by default the test split of the run.
        out: FILE.npz (embeddings, ids, labels, classes, paths), FILE.npy (embeddings) or FILE.parquet; must not exist.
        root: folder of the download, for the benchmark data sets.
        split: train, validation or test; by default the test split of the run, of other data all items.
        options: further options of the reader.
        dim: dimensions; by default all. Fewer are the first ones of a model that was trained for them, else principal
            components.
        dtype: float32, float16, int8 (compared by cosine), or binary: a bit for each, eight in a byte.

    Examples:
        pullpush embed runs/demo --data photos/ --out photos.npz
        pullpush embed runs/demo --data photos/ --dim 64 --dtype int8 --out photos.npy
        pullpush embed runs/demo --data photo.jpg --out photo.npy
        pullpush embed runs/demo --data items.csv --out items.parquet
    """
    import numpy as np

    from pullpush.data.sources import open_images
    from pullpush.encoders import load

    path = Path(out)
    if path.suffix not in (".npz", ".npy", ".parquet"):
        raise UserError(f"can't write {out!r}: the file must end with .npz, .npy or .parquet")
    if path.exists():
        raise UserError(f"{out!r} exists: choose another --out")
    loaded = load(model)
    if data is None:
        items = _split(_of_the_run(model), split or "test", model)
    else:
        items = _split(open_images(data, root=root, **(options or {})), split, data)
    loaded.compression.reduce(np.empty((0, loaded.dim), np.float32), dim)  # refused before anything is embedded
    _, embeddings, items = embed_readable(loaded, items)
    embeddings = loaded.compression(embeddings, dim, dtype)
    rows = range(len(items))
    paths, classes = [items.path(row) for row in rows], [items.classes[label] for label in items.table["label"]]
    with replacing(path, "or choose another --out") as part, part.open("wb") as file:
        if path.suffix == ".npy":
            np.save(file, embeddings)
        elif path.suffix == ".npz":
            ids, labels = items.ids.numpy(), items.labels.numpy()
            np.savez(
                file, embeddings=embeddings, ids=ids, labels=labels, classes=np.array(classes), paths=np.array(paths)
            )
        else:
            import pyarrow.parquet as pq

            from pullpush.files.tables import to_arrow

            pq.write_table(to_arrow(items.table.assign(**{"class": classes, "embedding": list(embeddings)})), file)
    stored = "" if dtype == "float32" else f"{dtype} "
    print(f"{len(embeddings)} x {dim or loaded.dim} {stored}embeddings of {items.name}: {path}")


def _shown(measured: "Mapping[str, Any]") -> dict[str, Any]:
    """A row of the table of identification: rates with their intervals."""
    names = [name for name in measured if f"{name}/interval" in measured]
    row: dict[str, Any] = {name: measured[name] for name in ("shots", "classes")}
    for name in names:
        value, (low, high) = measured[name], measured[f"{name}/interval"]
        row[name] = "-" if value is None else f"{value:.3f}" + ("" if low is None else f" ({low:.3f} to {high:.3f})")
    return row


def _reranking(wanted: str, model: "Model", folder: str) -> "tuple[Rerank, Chosen | None]":
    """What is to be done, and how it was chosen where it was left open."""
    from pullpush.evaluation import choose_rerank
    from pullpush.evaluation.chosen import METHODS
    from pullpush.evaluation.rerank import rerank_of

    if wanted not in ("auto", *METHODS):
        return rerank_of(wanted), None
    items = _of_the_run(folder)
    validation = items.split("validation") if items is not None else None
    if validation is None or not len(validation):
        raise UserError(
            f"{folder!r} has no validation classes to choose a re-ranking on: name one, such as "
            "--rerank expand=3, or give the folder of a run that was trained with --data.validation 0.1"
        )
    _, embeddings, validation = embed_readable(model, validation)
    chosen = choose_rerank(embeddings, validation, wanted)
    return chosen.options, chosen


def _of_the_run(model: str) -> "Items | None":
    """The items of the run that `model` is, or is of."""
    from pullpush.data.items import Items

    tables = [folder / "items.parquet" for folder in (Path(model), Path(model).resolve().parent)]
    return next((Items.load(table) for table in tables if table.exists()), None)


def asked(model: str, data: str | None, root: str | None, split: str, options: dict[str, Any] | None) -> "Items":
    """The items that a model is to be measured on."""
    from pullpush.data.sources import open_items

    items = _of_the_run(model)
    if data is None or (items and items.name == data and not options):
        return _split(items, split or "test", model)
    items = open_items(data, root=root, **(options or {}))
    return _split(items, split or ("test" if (items.table["split"] == "test").any() else ""), data)


def _split(items: "Items | None", split: str, what: str) -> "Items":
    if items is None:
        raise UserError(f"{what!r} is the folder of a model and not of a run, so say on what: --data photos/")
    chosen = items.split(split) if split else items
    if split and not len(chosen):
        there = ", ".join(f"--split {name}" for name in ("train", "validation", "test") if len(items.split(name)))
        raise UserError(f"{what} has nothing in the split {split!r}: give {there or 'no --split'}, or other --data")
    return chosen


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
