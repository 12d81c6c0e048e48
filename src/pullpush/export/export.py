"""A model written for other programs."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from PIL import Image

from pullpush.encoders import load
from pullpush.encoders.graph import graphs_of
from pullpush.encoders.model import Model
from pullpush.encoders.pretrained import Weights
from pullpush.encoders.runtimes.runtime import LEAST, RuntimeName, functions_of, runtime, share, tokens_of, write_graphs
from pullpush.errors import UserError
from pullpush.export import hf, sentence_transformers, transformers
from pullpush.export.card import card
from pullpush.export.check import Check, Embed, check, of_split, run_of
from pullpush.export.int8 import IMAGES, quantize
from pullpush.files import unwritable
from pullpush.files.write import replacing_folder
from pullpush.images.preprocessing import normalise
from pullpush.names import did_you_mean

__all__ = ["Exported", "Format", "export"]

Format = Literal["onnx", "openvino", "torch", "sentence-transformers", "hf"]
"""What a model can be written as."""
LEAST_INT8 = 0.8
"""The least cosine of eight bits; recall@1 is held to the same as of the others."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: where.
        to: the format.
        int8: whether weights and activations have eight bits.
        check: how it compares with the model.
        size: in bytes, of all files.
    """

    folder: Path
    to: Format
    int8: bool
    check: Check
    size: int

    def values(self) -> dict[str, Any]:
        """For JSON."""
        own = {"folder": str(self.folder), "to": self.to, "int8": self.int8, "bytes": self.size}
        return own | asdict(self.check)


def export(
    path: str | os.PathLike[str],
    to: Format,
    out: str | os.PathLike[str],
    *,
    int8: bool = False,
    replace: bool = False,
    weights: Weights | None = None,
) -> Exported:
    """Writes a model for other programs, once its embeddings are seen to be those of the model.

    - `onnx`, `openvino`, `torch` (`torch.export`): a graph for each encoder. That of images takes float32 `[n, 3, size,
      size]` of values 0 to 1 (`Model.preprocess`) and holds the normalisation; all end with embeddings of length 1.
    - `sentence-transformers`: a folder for `SentenceTransformer(folder).encode(...)`, of images, texts or both.
    - `hf`: the layout of the library that the image model is of, timm or transformers, with a linear head or none; of
      the two towers of a joint model of transformers (CLIP, SigLIP) that of the whole model.

    Embeddings are those of images seen once, without test views. With the run, its test is embedded by the export too.

    Args:
        path: a run folder, a model folder, or the name of a library's model.
        to: the format.
        out: the folder to write.
        int8: of `onnx` and `openvino`: weights and activations of the image encoder as integers of eight bits, their
            ranges told by the run's training images.
        replace: whether to write in the place of another.
        weights: the weights of a library's model, as of `encoders.load`.

    Returns:
        Exported: with the check.

    Raises:
        UserError: no model there, an unknown format, packages that are not installed, `out` exists, no training images
            for `int8`; or an export that embeds otherwise, of which nothing is left.
    """
    if to not in get_args(Format):
        raise UserError(f"there is no format {to!r}: {did_you_mean(to, get_args(Format), ', '.join(get_args(Format)))}")
    if int8 and to not in ("onnx", "openvino"):
        raise UserError(f"int8 is of --to onnx and --to openvino, not of {to}")
    folder, run = Path(out), run_of(Path(path))
    if folder.exists() and not replace:
        raise UserError(f"'{folder}' exists already and is kept: choose another --out or remove it")
    model = load(path, "cpu", weights=weights)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with replacing_folder(folder) as partial:
            embeds = _written(model, to, partial, of_split(run, "train", IMAGES) if int8 else None)
            checked = check(model, embeds, run, LEAST_INT8 if int8 else LEAST)
            kind = transformers.kind_of(partial) if to == "hf" else None
            (partial / "README.md").write_text(card(model, to, int8, run, checked, kind), encoding="utf-8")
            size = sum(file.stat().st_size for file in partial.rglob("*") if file.is_file())
    except OSError as error:
        raise unwritable(folder, error, "then export again") from error
    return Exported(folder, to, int8, checked, size)


def _written(model: Model, to: Format, folder: Path, calibrated: Sequence[Image.Image] | None) -> dict[str, Embed]:
    """Writes the export, and gives what embeds with it. `calibrated`: in eight bits, by these images."""
    if to == "hf":
        hf.write(model, folder)
        return hf.read(model, folder)
    if to == "sentence-transformers":
        sentence_transformers.write(model, folder)
        return sentence_transformers.read(model, folder)
    if calibrated is None:
        write_graphs(model, to, folder)
    else:
        _write_int8(model, to, folder, calibrated)
    if model.text is not None:
        model.text.backbone.tokenizer.save_pretrained(str(folder / "tokenizer"))
    functions = functions_of(to, folder)
    embeds: dict[str, Embed] = {"image": lambda images: functions["image"](model.preprocess(images))}
    if model.text is not None:
        encoder = model.text
        embeds["text"] = lambda texts: functions["text"](*tokens_of(encoder, texts))
    return embeds


def _write_int8(model: Model, to: RuntimeName, folder: Path, images: Sequence[Image.Image]) -> None:
    if not images:
        raise UserError("eight bits need training images, which tell the ranges: give a run whose images are there")
    squares = model.image.squares(list(images), model.side)
    files = write_graphs(model, "onnx", folder)
    for file, graph in zip(files, graphs_of(model), strict=True):
        if graph.longest:
            continue  # texts keep float32
        seen = normalise(squares, (0.0,) * 3, (1.0,) * 3, graph.example[0].shape[-1])
        quantize(file, seen.contiguous().numpy())
    if to == "openvino":
        convert = vars(runtime("openvino"))["convert"]
        for file in files:
            convert(file, file.with_suffix(".xml"))
        for file in folder.glob("*.onnx*"):
            file.unlink()
        files = [file.with_suffix(".xml") for file in files]
    share(to, files)
