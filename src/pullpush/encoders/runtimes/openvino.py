"""OpenVINO."""

import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pullpush.encoders.graph import Graph
from pullpush.encoders.runtimes import onnx
from pullpush.encoders.runtimes.runtime import Function

__all__ = ["PACKAGES", "SUFFIX", "convert", "read", "write"]

PACKAGES, SUFFIX = ("openvino", *onnx.PACKAGES[:2]), ".xml"


def write(graph: Graph, file: Path) -> None:
    """Writes a graph, and its weights beside it (`.bin`)."""
    with tempfile.TemporaryDirectory() as folder:
        onnx.write(graph, Path(folder) / "graph.onnx")
        convert(Path(folder) / "graph.onnx", file)


def convert(source: Path, file: Path) -> None:
    """Writes an ONNX file as OpenVINO has it, its weights as they are."""
    import openvino

    openvino.save_model(openvino.convert_model(str(source)), str(file), compress_to_fp16=False)


def read(file: Path) -> Function:
    """The graph as a function of arrays, in float32: on some processors it would take bfloat16 otherwise."""
    import openvino

    threads = {"INFERENCE_NUM_THREADS": torch.get_num_threads()}
    how = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "ENABLE_MMAP": False, **threads}
    compiled: Any = openvino.Core().compile_model(str(file), "CPU", how)
    lock = threading.Lock()  # a compiled model has one place for its inputs

    def run(*inputs: NDArray[Any]) -> NDArray[np.float32]:
        with lock:
            return np.array(compiled(list(inputs))[0])

    return run
