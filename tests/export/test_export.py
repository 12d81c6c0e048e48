"""`export_cases.py`, in a process of its own: the libraries of the runtimes stay out of that of the other tests."""

import os
import subprocess
import sys
from pathlib import Path

CASES = Path(__file__).with_name("export_cases.py")


def test_exports_in_a_process_of_their_own(tmp_path: Path) -> None:
    words = [
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:xdist",
        "-p",
        "no:cacheprovider",
        f"--basetemp={tmp_path / 'cases'}",
        str(CASES),
    ]
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=CASES.parents[2], env=own)
    assert done.returncode == 0, done.stdout[-6000:]
