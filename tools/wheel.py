"""Builds the sdist and the wheel into dist/, and tries the wheel where nothing else is installed. `make wheel` runs it.

python tools/wheel.py                 without extras, and with each extra alone
python tools/wheel.py base train      these alone
"""

import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
BARE = "import pullpush; print(pullpush.Criterion(pullpush.losses.circle(margin=0.4)))"
# Shows the help of each verb that the extra brings, and loads what the names of its rooms stand for.
VERBS = """
import sys
from pullpush.cli.main import VERBS, main
from pullpush.extras import EXTRAS, missing
extra = sys.argv[1]
assert not (extra in EXTRAS and missing(extra)), missing(extra)
for verb, (_, needs, _) in VERBS.items():
    if needs == extra:
        assert main([verb, "--help"]) == 0, verb
"""
NOT_ALONE = ("all", "dev", "bench")


def build() -> Path:
    """The wheel."""
    for old in DIST.glob("pullpush-*"):
        old.unlink()
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(DIST), str(ROOT)], check=True)
    (wheel,) = DIST.glob("pullpush-*.whl")
    return wheel


def extras() -> list[str]:
    """All that a user may name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [extra for extra in project["optional-dependencies"] if extra not in NOT_ALONE]


def tried(wheel: Path, extra: str) -> None:
    """Installs the wheel with one extra into a new environment, and uses it there."""
    print(f"--- {extra or 'without extras'}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder) / "bin" / "python")
        target = f"{wheel}[{extra}]" if extra else str(wheel)
        subprocess.run([python, "-m", "pip", "install", "--quiet", target], check=True)
        for code in (BARE, VERBS):
            subprocess.run([python, "-c", code, extra], check=True, cwd=folder, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    made = build()
    for each in sys.argv[1:] or ["base", *extras()]:
        tried(made, "" if each == "base" else each)
