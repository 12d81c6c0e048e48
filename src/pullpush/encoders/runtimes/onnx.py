"""ONNX Runtime."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from pullpush.encoders.graph import Graph
from pullpush.encoders.runtimes.runtime import Function

__all__ = ["PACKAGES", "SUFFIX", "read", "share", "write"]

PACKAGES, SUFFIX = ("onnx", "onnxscript", "onnxruntime"), ".onnx"
DATA = ".onnx.data"
SMALL, ALIGNED = 1 << 10, 64
"""Bytes: smaller tensors, such as shapes, stay in their graph; where others begin."""


def write(graph: Graph, file: Path) -> None:
    """Writes a graph with its weights into one file; how many inputs there are is left open. Weights of more than 1.5
    GB stand beside it (`.onnx.data`)."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of operators of torchvision, which nobody uses
    program: Any = torch.onnx.export(
        graph.module,
        graph.example,
        dynamo=True,
        dynamic_shapes=graph.dynamic(),
        input_names=list(graph.inputs),
        output_names=["embeddings"],
        verbose=False,
    )
    program.save(str(file))


def share(files: Sequence[Path]) -> None:
    """Moves the weights of graphs of one folder to a file beside them, each once, as external data of ONNX: all read
    `image.onnx.data`, which has the name of the first."""
    import onnx
    from onnx.external_data_helper import set_external_data

    models = [onnx.load(file) for file in files]
    for file in files:
        file.with_suffix(DATA).unlink(missing_ok=True)
    together, places = files[0].with_suffix(DATA), dict[bytes, int]()
    with together.open("wb") as opened:
        for file, model in zip(files, models, strict=True):
            for tensor in model.graph.initializer:
                values = tensor.raw_data
                if len(values) < SMALL:
                    continue
                if values not in places:
                    opened.write(bytes(-opened.tell() % ALIGNED))
                    places[values] = opened.tell()
                    opened.write(values)
                set_external_data(tensor, together.name, places[values], len(values))
                tensor.ClearField("raw_data")
            file.write_bytes(model.SerializeToString())


def read(file: Path) -> Function:
    """The graph as a function of arrays."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session: Any = onnxruntime.InferenceSession(str(file), options, providers=onnxruntime.get_available_providers())
    names = [each.name for each in session.get_inputs()]
    return lambda *inputs: session.run(None, dict(zip(names, inputs, strict=True)))[0]  # type: ignore[no-any-return]
