"""What computes embeddings in the place of eager PyTorch. A runtime is one file beside this one.

It declares `PACKAGES`, which the extra `export` brings, and `SUFFIX`, how its files end; `write(graph, file)` writes a
graph, `share(files)` lets graphs of images hold their weights together, and `read(file)` gives one back as a function
of arrays.
"""

import importlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pullpush.encoders.graph import Graph, graphs_of, image_name
from pullpush.encoders.image import ImageEncoder
from pullpush.encoders.model import Model
from pullpush.encoders.text import TextEncoder
from pullpush.errors import UserError
from pullpush.extras import need

__all__ = [
    "LEAST",
    "Function",
    "Runtime",
    "RuntimeName",
    "functions_of",
    "run_by",
    "runtime",
    "share",
    "tokens_of",
    "with_runtime",
    "write_graphs",
]

RuntimeName = Literal["onnx", "openvino", "torch"]
Function = Callable[..., NDArray[np.float32]]

LEAST = 0.9999
"""The least cosine between the embedding of a runtime and that of eager PyTorch."""


class Runtime(Protocol):
    """What a file of this package declares."""

    PACKAGES: tuple[str, ...]
    SUFFIX: str

    def write(self, graph: Graph, file: Path) -> None:
        """Writes a graph, with its weights."""

    def share(self, files: Sequence[Path]) -> None:
        """Has the weights of these graphs of one folder written once, beside the first of them, where it can."""

    def read(self, file: Path) -> Function:
        """A graph as a function of its inputs, on as many threads as torch uses."""


def runtime(name: RuntimeName) -> Runtime:
    """A runtime by its name.

    Raises:
        UserError: its packages are not installed.
    """
    module = cast(Runtime, importlib.import_module(f"{__package__}.{name}"))
    need("export", module.PACKAGES)
    return module


def write_graphs(model: Model, name: RuntimeName, folder: Path) -> list[Path]:
    """Writes all graphs of a model into a folder, and returns their files.

    Raises:
        UserError: packages of the runtime are not installed, or the model can't be exported to it.
    """
    chosen, files = runtime(name), []
    for graph in graphs_of(model):
        files.append(folder / f"{graph.name}{chosen.SUFFIX}")
        try:
            chosen.write(graph, files[-1])
        except Exception as error:  # exporters fail in many ways
            first = str(error).strip().split("\n")[0]
            raise UserError(
                f"the {graph.name} encoder can't be exported to {name}: {first}; choose another --to"
            ) from error
    share(name, files)
    return files


def share(name: RuntimeName, files: Sequence[Path]) -> None:
    """Has the weights of the graphs of images, of which there is one for each size, written once."""
    of_images = sorted((file for file in files if file.stem.startswith("image")), key=lambda file: file.stem)
    if len(of_images) > 1:
        runtime(name).share(of_images)


def functions_of(name: RuntimeName, folder: Path) -> dict[str, Function]:
    """The graphs of a folder by their names, ready to be called."""
    chosen = runtime(name)
    return {file.stem: chosen.read(file) for file in sorted(folder.glob(f"*{chosen.SUFFIX}"))}


def run_by(model: Model, functions: Mapping[str, Function]) -> Model:
    """The model, in place, with its embeddings computed by these functions."""
    for encoder in model.encoders.values():
        if isinstance(encoder, ImageEncoder):
            encoder.computed = _of_images(encoder, functions)
        elif isinstance(encoder, TextEncoder):
            encoder.computed = _of_texts(encoder, functions["text"])
    return model


def with_runtime(model: Model, name: RuntimeName) -> Model:
    """The model, in place, on the CPU and run by another runtime, which takes some seconds to be written; its
    embeddings are compared with those of eager PyTorch first.

    Raises:
        UserError: packages of the runtime are not installed, or its embeddings differ.
    """
    for encoder in model.encoders.values():
        encoder.cpu()
    with tempfile.TemporaryDirectory() as folder:
        write_graphs(model, name, Path(folder))
        functions = functions_of(name, Path(folder))
    noise = list(np.random.default_rng(0).integers(0, 256, (3, 96, 96, 3), np.uint8))
    texts = ["one", "and two more", "words"]
    given = [(kind, noise if kind == "image" else texts) for kind in model.encoders]
    before = [model.embed_as(kind, inputs) for kind, inputs in given]
    run_by(model, functions)
    for (kind, inputs), wanted in zip(given, before, strict=True):
        least = float((model.embed_as(kind, inputs) * wanted).sum(axis=1).min())
        if not least >= LEAST:
            for each in model.encoders.values():
                each.computed = None
            raise UserError(f"{name} embeds {kind}s otherwise than PyTorch (cosine {least:.5f}); leave the runtime out")
    return model


def _of_images(encoder: ImageEncoder, functions: Mapping[str, Function]) -> Callable[[Tensor], Tensor]:
    own = encoder.preprocessing
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (own.mean, own.std))

    def computed(inputs: Tensor) -> Tensor:
        images = np.ascontiguousarray((inputs.cpu() * std + mean).numpy())
        return torch.from_numpy(functions[image_name(images.shape[-1], own.size)](images))

    return computed


def _of_texts(encoder: TextEncoder, function: Function) -> Callable[[Any], Tensor]:
    def computed(inputs: Any) -> Tensor:
        return torch.from_numpy(function(*tokens_of(encoder, inputs)))

    return computed


def tokens_of(encoder: TextEncoder, texts: Sequence[str]) -> list[NDArray[np.int64]]:
    """The inputs of the graph of an encoder for these texts."""
    return [each.numpy() for each in encoder.tokenize(texts).values() if isinstance(each, Tensor)]
