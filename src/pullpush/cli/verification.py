"""pullpush verify"""

from collections.abc import Mapping
from functools import partial
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pullpush.bounds import Bound
from pullpush.cli.items import asked, embed_readable
from pullpush.cli.terminal import table
from pullpush.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from pullpush.encoders import Decision, Model

__all__ = ["verify"]

CURE = "give what `pullpush embed --out FILE.npz` wrote, with `embeddings` [n, dim] and `labels` [n]"


class Given(NamedTuple):
    """What is verified: embeddings as queries and, where that is another way, as a gallery."""

    name: str
    queries: "np.ndarray"
    gallery: "np.ndarray | None"
    labels: "np.ndarray"
    ids: "np.ndarray | None"
    groups: "Mapping[str, np.ndarray]"
    decision: "Decision | None"

    def against(self) -> dict[str, Any]:
        """The options of the gallery."""
        if self.gallery is None:
            return {}
        named = {"labels": self.labels, "ids": self.ids, "groups": self.groups}
        return {"gallery": self.gallery, **{f"gallery_{name}": value for name, value in named.items()}}


def verify(
    model: str,
    *,
    weights: list[str] | None = None,
    data: str | None = None,
    root: str | None = None,
    split: Literal["", "train", "validation", "test"] = "",
    options: dict[str, Any] | None = None,
    far: list[Annotated[float, Bound(0, 1, above=True, below=True)]] | None = None,
    views: Literal["auto", "none"] = "auto",
    out: str | None = None,
    json: bool = False,
) -> None:
    """Measures how well a model tells whether two images are of the same class, by a threshold on their cosine.

    All pairs are looked at. docs/verification.md says what the rates mean.

    Args:
        model: the folder of a run (runs/NAME) or of a model, another library's model by its name, such as
            timm:resnet50 or hf:NAME (docs/models.md), or embeddings that pullpush embed has saved, FILE.npz.
        weights: a file of weights to load into another library's model, or one of its parts.
        data: what to measure on: a folder with a sub-folder for each class, a CSV or Parquet file, or the name of a
            data set; by default the test of the run.
        root: the folder to which a benchmark data set (sop, cub, ...) was downloaded.
        split: which part of the data; by default the test of the run or of the data, else all of it.
        options: more options of the data set, such as '{skin_tones: true}' of emoji.
        far: a false accept rate to show a threshold for: the share of pairs of different classes that are taken for
            the same; by default 1e-2, 1e-3, 1e-4 and 1e-5.
        views: embed each image at the scales that training has chosen (auto), or once, as it is (none).
        out: draw a figure to FILE.png: both kinds of errors at every threshold (ROC, DET), the cosines of both kinds
            of pairs, and whether the probabilities hold.
        json: print JSON instead of tables.

    Examples:
        pullpush verify runs/demo                      on the test images of the run
        pullpush verify runs/demo --data photos/ --out verified.png
        pullpush verify runs/demo --far 0.001 --json
        pullpush verify embeddings.npz
    """
    from rich.console import Console

    from pullpush.encoders import load
    from pullpush.evaluation import reliability
    from pullpush.evaluation import verify as over_all_pairs
    from pullpush.evaluation.verification import FARS

    if out is not None and Path(out).suffix.lower() != ".png":
        raise UserError(f"can't write {out!r}: the figure is a PNG, give --out verified.png")
    if Path(model).suffix.lower() == ".npz":
        _refuse(model, {"weights": weights, "data": data, "root": root, "split": split, "options": options})
        given = _saved(model)
    else:
        given = _embedded(load(model, weights=weights), model, data, root, split, options, views)
    found = over_all_pairs(
        given.queries, given.labels, given.ids, groups=given.groups or None, fars=tuple(far or FARS), **given.against()
    )
    values, reliable = found.values(), None
    if given.decision is not None:
        reliable = reliability(given.decision, given.queries, given.labels, given.ids, gallery=given.gallery)
        values["calibration_error"] = reliable.error
    if out is not None:
        from pullpush.reports import error_rates, style

        style.save(partial(error_rates.draw_pairs, found, reliable), Path(out))
    by_group = [] if found.per_group is None else found.per_group.reset_index().to_dict("records")
    if json:
        print(dumps({**values, "groups": by_group}))
        return
    pairs = f"{found.positives:,} same and {found.negatives:,} different pairs of {found.items:,} items"
    Console().print(table(f"{given.name}: {pairs}", map(partial(_rate, values), found.metrics)))
    if by_group:
        title = "by group, at the thresholds above: true and false accept rates"
        Console().print(table(title, map(_group, by_group)))
    if reliable is not None:
        print(f"calibration error of the probabilities on these pairs: {reliable.error:.4f}")
    if out is not None:
        print(f"figure: {out}")


def _embedded(
    loaded: "Model",
    model: str,
    data: str | None,
    root: str | None,
    split: str,
    options: dict[str, Any] | None,
    views: str,
) -> Given:
    """Of images, by a model."""
    from pullpush.encoders import Views
    from pullpush.runs.verified import groups_of

    if views == "none":
        loaded.views = Views()
    queries, gallery, items = embed_readable(loaded, asked(model, data, root, split, options))
    labels, ids = (items.table[name].to_numpy() for name in ("label", "id"))
    # the probabilities are those of the model's own views
    decision = loaded.decision if views == "auto" else None
    other = None if loaded.views.plain else gallery
    return Given(f"{model} on {items.name}", queries, other, labels, ids, groups_of(items), decision)


def _saved(path: str) -> Given:
    """Of a file."""
    from pullpush.files.arrays import read_npz

    kinds = {"embeddings": "fiu", "labels": "iuU", "ids": "iuU"}
    arrays = read_npz(path, kinds, optional=("ids",), cure=CURE)
    embeddings = arrays["embeddings"]
    if embeddings.dtype.kind == "u":
        raise UserError(f"{path!r} holds bits, which have no cosine: embed with --dtype float32, float16 or int8")
    return Given(path, embeddings, None, arrays["labels"], arrays.get("ids"), {}, None)


def _refuse(path: str, options: Mapping[str, Any]) -> None:
    """Raises `UserError` for an option that has nothing to say of saved embeddings."""
    for name, value in options.items():
        if value:
            raise UserError(f"{path!r} holds embeddings of its own items, so leave out --{name}")


def _rate(values: Mapping[str, Any], name: str) -> dict[str, str]:
    """A row of the table of verification."""
    cells = {"value": name, "low": f"{name}_low", "high": f"{name}_high"}
    cells["threshold"] = "threshold" + name.removeprefix("eer").removeprefix("tar")
    shown = {title: values.get(key) for title, key in cells.items()}
    return {"rate": name, **{title: "-" if each is None else f"{each:.4f}" for title, each in shown.items()}}


def _group(row: Mapping[str, Any]) -> dict[str, str]:
    """A row of the table of groups: two rates, as a terminal is narrow; --json has all."""
    rates = [name for name in row if str(name).startswith("tar@far=")][:2]
    shown = {str(n): f"{row[n]:.3f}, {row[n.replace('tar@', 'far@')]:.1e}" for n in rates}
    return {"group": f"{row['grouping']} {row['group'] or '(none)'}", "items": f"{row['items']:,}", **shown}
