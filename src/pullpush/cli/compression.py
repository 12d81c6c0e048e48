"""What `pullpush evaluate --compression` measures."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from pullpush.data.items import Items
    from pullpush.encoders.model import Model
    from pullpush.evaluation import Compressed

__all__ = ["compressed_rows", "shown_row"]

DIMS = (512, 256, 128, 64, 32)


def compressed_rows(
    model: "Model", folder: str, embeddings: "np.ndarray", items: "Items", queries: "np.ndarray | None" = None
) -> "list[Compressed]":
    """The rows of a model, or of a run whose bundle was written before it had a compression."""
    from pullpush.encoders import Compression
    from pullpush.evaluation import compressed
    from pullpush.files.arrays import read_npy

    small, trained = model.compression, Path(folder) / "embeddings" / "train-after.npy"
    if small.components is None and trained.is_file():
        small = Compression.fit(read_npy(trained, shape=(None, model.dim), kinds="f"), "prefix")
    return compressed(embeddings, items, small, queries=queries, dims=DIMS)


def shown_row(row: "Compressed") -> dict[str, Any]:
    """On the terminal."""
    values = row.values()
    return {
        "dimensions": f"{row.dim}" + ("" if row.reduction == "none" else f", {row.reduction}"),
        "stored as": row.dtype,
        "bytes": row.bytes,
        **{name: f"{values[name]:.4f}" for name in ("recall@1", "map@r")},
    }
