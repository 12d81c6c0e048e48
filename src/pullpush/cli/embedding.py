"""pullpush embed"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pullpush.cli.items import embed_readable, of_the_run, split_of
from pullpush.errors import UserError
from pullpush.files import replacing

if TYPE_CHECKING:
    import numpy as np

    from pullpush.data.items import Items

__all__ = ["embed"]


def embed(
    model: str,
    *,
    weights: list[str] | None = None,
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
        model: a run folder, a model folder, or the name of a library's model (docs/models.md).
        weights: of an image model of a library: the file of its weights, or the files of its parts; may be repeated.
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
    loaded = load(model, weights=weights)
    if data is None:
        items = split_of(of_the_run(model), split or "test", model)
    else:
        items = split_of(open_images(data, root=root, **(options or {})), split, data)
    loaded.compression.reduce(np.empty((0, loaded.dim), np.float32), dim)  # refused before anything is embedded
    _, embeddings, items = embed_readable(loaded, items)
    embeddings = loaded.compression(embeddings, dim, dtype)
    _write(path, items, embeddings)
    stored = "" if dtype == "float32" else f"{dtype} "
    print(f"{len(embeddings)} x {dim or loaded.dim} {stored}embeddings of {items.name}: {path}")


def _write(path: Path, items: "Items", embeddings: "np.ndarray") -> None:
    """The embeddings, and unless it is a .npy, what they are of."""
    import numpy as np

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
