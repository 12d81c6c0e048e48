"""pullpush export"""

from json import dumps
from pathlib import Path
from typing import Literal

__all__ = ["export"]


Format = Literal["onnx", "openvino", "torch", "sentence-transformers", "hf"]


def export(
    model: str,
    *,
    weights: list[str] | None = None,
    to: Format = "onnx",
    out: str | None = None,
    int8: bool = False,
    json: bool = False,
) -> None:
    """Writes a model for other programs, once it is seen to embed as the model does.

    Args:
        model: a run folder, a model folder, or the name of a library's model (docs/models.md).
        weights: of an image model of a library: the file of its weights, or the files of its parts; may be repeated.
        to: onnx, openvino, torch (torch.export), sentence-transformers, or hf (the layout of timm or of transformers on
            the hub, as the model is of one of them).
        out: the folder to write; by default exports/NAME-FORMAT.
        int8: eight bits for weights and activations of the image encoder, of onnx and openvino; training images tell
            their ranges.
        json: print JSON instead of a table.

    Examples:
        pullpush export runs/demo                                    ONNX, to exports/demo-onnx
        pullpush export runs/demo --to openvino --int8 --out small/
        pullpush export runs/demo --to sentence-transformers
    """
    from rich.console import Console
    from rich.table import Table

    from pullpush.encoders.pretrained import is_library_name, short_name
    from pullpush.export import export as write

    name = short_name(model) if is_library_name(model) else Path(model).resolve().name
    exported = write(
        model, to, out or Path("exports") / f"{name}-{to}{'-int8' if int8 else ''}", int8=int8, weights=weights
    )
    if json:
        print(dumps(exported.values()))
        return
    check = exported.check
    table = Table(title=f"{exported.folder}: {exported.size / 1e6:.1f} MB", show_header=False)
    for kind, cosine in check.cosine.items():
        table.add_row(f"{kind}s: least cosine with the model's embedding", f"{cosine:.5f}")
    if check.recall is not None:
        table.add_row("test recall@1", f"{check.recall:.4f}")
        table.add_row("the model's, images seen once", f"{check.recall_of_model:.4f}")
    Console().print(table)
    if check.images == "noise":
        print("compared by noise, as no images of the run can be read; recall was not compared")
