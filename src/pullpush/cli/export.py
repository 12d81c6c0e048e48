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
    """Writes the model in a format that other programs read, and checks that it embeds as the model does.

    Args:
        model: the folder of a run (runs/NAME) or of a model, or another library's model by its name, such as
            timm:resnet50 or hf:NAME (docs/models.md).
        weights: a file of weights to load into another library's model, or one of its parts.
        to: the format; torch is that of torch.export, and hf the folder that timm or transformers load, whichever
            the model is from.
        out: the folder to write; by default exports/NAME-FORMAT.
        int8: compute the image encoder in eight bits, which is smaller and faster and a little less exact; onnx and
            openvino only.
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
