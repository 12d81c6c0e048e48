"""Maps of embeddings."""

import subprocess
import sys

import pytest

SIZES = """
import numpy as np, torch
from pullpush.evaluation.projection import project
torch.set_num_threads(1)
print(project(np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32))[1], torch.get_num_threads())
"""


def test_a_map_leaves_torch_the_threads_that_were_set() -> None:
    pytest.importorskip("umap", reason="the extra report")
    ended = subprocess.run([sys.executable, "-c", SIZES], capture_output=True, text=True, timeout=120)
    assert ended.stdout == "UMAP 1\n", ended.stderr
