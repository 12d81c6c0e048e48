"""What tests share, here and in a process of a test's own (`alone`)."""

import subprocess
import sys
from pathlib import Path

__all__ = ["ROOT", "alone"]

ROOT = Path(__file__).parents[2]


def alone(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs the code in a new process, which can import what tests share; its output and its exit status."""
    return subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=False)
