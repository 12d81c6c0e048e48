"""One image, and 32, through the default encoder: ONNX Runtime, OpenVINO and eight bits against eager PyTorch, all on
as many threads as torch uses: `export/onnx/64px x 32/eager`. Twice as fast is promised, three times with eight bits.
Other backbones, with random weights, follow: `export/onnx/convnext_atto x 32/eager`; of them nothing is promised.
"""

import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import compare, result
from pullpush.data.synthetic import make_tree
from pullpush.encoders import ImageEncoder, save
from pullpush.encoders.graph import graphs_of
from pullpush.encoders.model import Model
from pullpush.encoders.runtimes.openvino import convert
from pullpush.encoders.runtimes.runtime import functions_of, write_graphs
from pullpush.export.int8 import quantize
from pullpush.search import build_index
from pullpush.search.engine import open_index

SIZES, BATCHES = (64, 224), (1, 32)
OTHERS = ("convnext_atto", "vit_tiny_patch16_224")


def run() -> list[dict[str, Any]]:
    """Medians in ms."""
    rows = []
    for size in SIZES:
        rows += _of_encoder(f"{size}px", ImageEncoder(size=size)) + _of_queries(size)
    for name in OTHERS:
        rows += _of_encoder(name, ImageEncoder(name, size=224, weights="none"))
    return rows


def _of_queries(size: int) -> list[dict[str, Any]]:
    """A whole query by an image, from its file to its hits: decoded, preprocessed, embedded, searched."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tree = make_tree("folder", folder / "images")
        save(folder / "model", ImageEncoder(size=size))
        build_index(folder / "model", tree, folder / "index", projection="none")
        eager = open_index(folder / "index")
        asked = eager.query(like=0, k=1)[0].path
        rows = []
        for runtime in ("onnx", "openvino"):
            engine = open_index(folder / "index", runtime=runtime)  # type: ignore[arg-type]
            mine, other = compare(partial(engine.query, image=asked), partial(eager.query, image=asked), repeats=15)
            rows.append(result(f"export/{runtime}/{size}px, a whole query/eager", 1e3 * mine, 1e3 * other, "ms"))
    return rows


def _of_encoder(what: str, encoder: ImageEncoder) -> list[dict[str, Any]]:
    model, size = Model([encoder], ""), encoder.preprocessing.size
    eager = graphs_of(model)[0].module
    images = np.random.default_rng(0).random((max(BATCHES), 3, size, size), np.float32)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        functions = {name: function["image"] for name, function in _functions(model, images, Path(folder)).items()}
        for name, function in functions.items():
            for n in BATCHES:
                some = images[:n]
                mine, other = compare(partial(function, some), partial(_eagerly, eager, some), repeats=15)
                rows.append(result(f"export/{name}/{what} x {n}/eager", 1e3 * mine, 1e3 * other, "ms"))
    return rows


def _functions(model: Model, images: np.ndarray, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("onnx", "openvino"):
        (folder / name).mkdir()
        write_graphs(model, name, folder / name)  # type: ignore[arg-type]
        found[name] = functions_of(name, folder / name)  # type: ignore[arg-type]
    for name in ("onnx", "openvino"):  # those that are read above lie mapped in memory, and must stay
        shutil.copytree(folder / name, folder / f"{name} int8")
    quantize(folder / "onnx int8" / "image.onnx", images)
    found["onnx int8"] = functions_of("onnx", folder / "onnx int8")
    convert(folder / "onnx int8" / "image.onnx", folder / "openvino int8" / "image.xml")
    found["openvino int8"] = functions_of("openvino", folder / "openvino int8")
    return found


@torch.inference_mode()
def _eagerly(module: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    return module(torch.from_numpy(images)).numpy()
