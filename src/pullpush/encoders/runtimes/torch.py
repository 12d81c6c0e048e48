"""PyTorch alone: a graph that `torch.export` has written, which needs neither timm nor pullpush."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from pullpush.encoders.graph import Graph
from pullpush.encoders.runtimes.runtime import Function

__all__ = ["PACKAGES", "SUFFIX", "read", "share", "write"]

PACKAGES: tuple[str, ...] = ()
SUFFIX = ".pt2"


def write(graph: Graph, file: Path) -> None:
    """Writes a graph with its weights into one file."""
    with torch.no_grad():
        program = torch.export.export(graph.module, graph.example, dynamic_shapes=graph.dynamic())
    torch.export.save(program, file)


def share(files: Sequence[Path]) -> None:
    """Nothing: a program of `torch.export` holds its weights itself."""


def read(file: Path) -> Function:
    """The graph as a function of arrays."""
    module: Any = torch.export.load(file).module()

    def run(*inputs: Any) -> Any:
        with torch.inference_mode():
            return module(*map(torch.from_numpy, inputs)).numpy()

    return run
