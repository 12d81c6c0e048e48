"""The examples run as they stand."""

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_plain_loop_trains_and_evaluates() -> None:
    script = EXAMPLES / "plain_loop.py"
    code = [line for line in script.read_text().splitlines() if line.strip() and not line.startswith(('"""', "#"))]
    assert len(code) < 30
    done = subprocess.run([sys.executable, str(script), "2"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "step 2: loss" in done.stdout
    recall = float(done.stdout.rsplit("classes: ", 1)[1])
    assert 0.2 < recall < 1
