"""ONNX Runtime."""

import logging
from pathlib import Path
from typing import Any

import torch

from pullpush.encoders.graph import Graph
from pullpush.encoders.runtimes.runtime import Function

__all__ = ["PACKAGES", "SUFFIX", "read", "write"]

PACKAGES, SUFFIX = ("onnx", "onnxscript", "onnxruntime"), ".onnx"


def write(graph: Graph, file: Path) -> None:
    """Writes a graph with its weights into one file; how many inputs there are is left open."""
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


def read(file: Path) -> Function:
    """The graph as a function of arrays."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session: Any = onnxruntime.InferenceSession(str(file), options, providers=onnxruntime.get_available_providers())
    names = [each.name for each in session.get_inputs()]
    return lambda *inputs: session.run(None, dict(zip(names, inputs, strict=True)))[0]  # type: ignore[no-any-return]
