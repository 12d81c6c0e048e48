"""The forked children of the tests."""

import subprocess
import sys

PRODUCT = """
import torch
from tests.support.killing import killed_before
torch.set_num_threads(2)
x = torch.ones(500, 500)
x @ x  # starts the pool
print(killed_before(0, lambda: x @ x))
"""


def test_a_forked_child_does_not_wait_for_threads_of_its_parent() -> None:
    ended = subprocess.run([sys.executable, "-c", PRODUCT], capture_output=True, text=True, timeout=60)
    assert ended.stdout == "0\n", ended.stderr
