"""OpenVINO."""

import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from numpy.typing import NDArray

from pullpush.encoders.graph import Graph
from pullpush.encoders.runtimes import onnx
from pullpush.encoders.runtimes.runtime import Function

__all__ = ["PACKAGES", "SUFFIX", "convert", "read", "share", "write"]

PACKAGES, SUFFIX = ("openvino", *onnx.PACKAGES[:2]), ".xml"
ALIGNED = 64


def write(graph: Graph, file: Path) -> None:
    """Writes a graph, and its weights beside it (`.bin`)."""
    with tempfile.TemporaryDirectory() as folder:
        onnx.write(graph, Path(folder) / "graph.onnx")
        convert(Path(folder) / "graph.onnx", file)


def convert(source: Path, file: Path) -> None:
    """Writes an ONNX file as OpenVINO has it, its weights as they are."""
    import openvino

    openvino.save_model(openvino.convert_model(str(source)), str(file), compress_to_fp16=False)


def share(files: Sequence[Path]) -> None:
    """Moves the weights of graphs of one folder to one file, each once: `image.bin`, of the first. The others are read
    with it: `read_model("image-88.xml", "image.bin")`."""
    together, places = bytearray(), dict[bytes, int]()
    for file in files:
        graph, own = ElementTree.parse(file), file.with_suffix(".bin")
        held = own.read_bytes()
        for each in graph.iter("data"):
            if not {"offset", "size"} <= set(each.keys()):
                continue
            first = int(each.attrib["offset"])
            values = held[first : first + int(each.attrib["size"])]
            if values not in places:
                together.extend(bytes(-len(together) % ALIGNED))
                places[values] = len(together)
                together.extend(values)
            each.set("offset", str(places[values]))
        graph.write(file)
        own.unlink()
    files[0].with_suffix(".bin").write_bytes(together)


def read(file: Path) -> Function:
    """The graph as a function of arrays, in float32: on some processors it would take bfloat16 otherwise."""
    import openvino

    own = file.with_suffix(".bin")
    weights = own if own.exists() else file.with_name("image.bin")

    threads = {"INFERENCE_NUM_THREADS": torch.get_num_threads()}
    how = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "ENABLE_MMAP": False, **threads}
    core = openvino.Core()
    compiled: Any = core.compile_model(core.read_model(str(file), str(weights)), "CPU", how)
    lock = threading.Lock()  # a compiled model has one place for its inputs

    def run(*inputs: NDArray[Any]) -> NDArray[np.float32]:
        with lock:
            return np.array(compiled(list(inputs))[0])

    return run
