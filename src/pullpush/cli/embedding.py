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
    """Writes the embeddings of images, a vector of length 1 for each, to a file for other programs.

    Args:
        model: the folder of a run (runs/NAME) or of a model, or another library's model by its name, such as
            timm:resnet50 or hf:NAME (docs/models.md).
        weights: a file of weights to load into another library's model, or one of its parts.
        data: what to embed: a folder of images, one image, a CSV or Parquet file, or the name of a data set; by
            default the test of the run.
        out: the file, which must not exist: FILE.npz (embeddings, ids, labels, classes, paths), FILE.npy (embeddings
            alone) or FILE.parquet (a row for each image).
        root: the folder to which a benchmark data set (sop, cub, ...) was downloaded.
        split: which part of the data; by default the test of the run, and all of other data.
        options: more options of the data set, such as '{skin_tones: true}' of emoji.
        dim: numbers in a vector; by default all that the model has. Fewer are its first ones where it was trained for
            that (--matryoshka), else principal components (docs/small-embeddings.md).
        dtype: the type of each number; int8 takes a byte (compare by cosine), binary one bit, eight in a byte.

    Examples:
        pullpush embed runs/demo --data photos/ --out photos.npz
        pullpush embed runs/demo --data photo.jpg --out photo.npy
        pullpush embed runs/demo --data items.csv --out items.parquet
        pullpush embed runs/demo --data photos/ --dim 64 --dtype int8 --out photos.npy
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
