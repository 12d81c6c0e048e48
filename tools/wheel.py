"""Builds the sdist and the wheel into dist/, and uses the wheel where nothing else is installed. `make wheel` runs it.

python tools/wheel.py                 without extras, and with each extra alone
python tools/wheel.py base train      these alone
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # tests.support
DIST = ROOT / "dist"
UV = (sys.executable, "-m", "uv")
# What every environment runs: the criterion, the help of the verbs of its extra, and the modules that the extra brings.
ALWAYS = """
import importlib, sys
import pullpush
from pullpush.cli.main import VERBS, main
from pullpush.extras import EXTRAS, missing
extra = sys.argv[1]
pullpush.Criterion(pullpush.losses.circle(margin=0.4))
assert not (extra in EXTRAS and missing(extra)), missing(extra)
for module in EXTRAS.get(extra, ()):
    importlib.import_module(module)
for verb, (_, needs, _) in VERBS.items():
    if needs == extra:
        assert main([verb, "--help"]) == 0, verb
"""
OPTIONS = """
  --data photos --data.test 0.25 --data.validation 0.25 --encoder.weights none --encoder.size 32 --encoder.dim 16
  --batch.classes 2 --batch.samples 2 --steps 4 --views none --rerank none --table false
"""
TRAIN = f"pullpush train {OPTIONS} --encoder test_efficientnet --out run"
# What else it runs: with the extra, the part of pullpush that needs it, on images and models of `inputs`.
USES = {
    "": ["pullpush losses"],
    "train": [TRAIN, "pullpush evaluate run", "pullpush embed run --data photos --out embeddings.npz"],
    "text": ["python -c \"import pullpush; pullpush.TextEncoder()(['a cat'])\""],
    "hf": ["pullpush embed hf:vit --data photos --out embeddings.npz"],
    "clip": ["pullpush embed open_clip:clip --data photos --out embeddings.npz"],
    "report": [TRAIN, "pullpush report run", "pullpush explain run photos/class_4/3.png photos/class_4/0.png"],
    "study": [f"pullpush tune {OPTIONS} --encoder test_efficientnet --trials 1"],
    "search": [TRAIN, "pullpush index run --images photos", "pullpush search indexes/run --image photos/class_4/3.png"],
    "demo": ["pullpush demo --steps 1 --serve false --browser false --port 0"],
    "export": [TRAIN, "pullpush export run --to onnx", "pullpush export run --to openvino"],
    "lora": [f"pullpush train {OPTIONS} --encoder test_vit --tune lora --out run"],
    "mlflow": [f"{TRAIN} --track mlflow"],
    "trackio": [f"{TRAIN} --track trackio"],
    "milvus": ["python -c 'import milvus, pymilvus'"],
    "pgvector": ["python -c 'import psycopg'"],
    "icons": ["python -c 'import resvg_py'"],
}
NOT_ALONE = ("all", "dev", "bench")


def build() -> Path:
    """The wheel, built from the sdist."""
    for old in DIST.glob("pullpush-*"):
        old.unlink()
    subprocess.run([*UV, "build", "--quiet", "--out-dir", str(DIST), str(ROOT)], check=True)
    (wheel,) = DIST.glob("pullpush-*.whl")
    return wheel


def extras() -> list[str]:
    """All that a user may name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [extra for extra in project["optional-dependencies"] if extra not in NOT_ALONE]


def inputs(folder: Path) -> None:
    """A folder of images, and small models of other libraries, for what the environments run."""
    from pullpush.data.synthetic import make_tree
    from tests.support.tiny_models import tiny_vit
    from tests.support.tiny_open_clip import tiny_open_clip

    make_tree("folder", folder / "photos")
    tiny_vit(folder / "vit")
    tiny_open_clip(folder / "clip")


def tried(wheel: Path, extra: str, at: Path) -> None:
    """Installs the wheel with one extra into a new environment, and uses it there, on a copy of what is `at`."""
    print(f"--- {extra or 'without extras'}", flush=True)
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with tempfile.TemporaryDirectory() as folder:
        here = shutil.copytree(at, Path(folder) / "work")
        programs = Path(folder) / "environment" / "bin"
        subprocess.run([*UV, "venv", "--quiet", "--python", sys.executable, str(programs.parent)], check=True)
        target = f"{wheel}[{extra}]" if extra else str(wheel)
        subprocess.run([*UV, "pip", "install", "--quiet", "--python", str(programs / "python"), target], check=True)
        for words in (["python", "-c", ALWAYS, extra], *map(shlex.split, USES[extra])):
            command = [str(programs / words[0]), *words[1:]]
            done = subprocess.run(
                command, cwd=here, env=outside, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            if done.returncode:
                raise SystemExit(f"{done.stdout}\n{shlex.join(words)}: status {done.returncode}")


if __name__ == "__main__":
    made = build()
    with tempfile.TemporaryDirectory() as used:
        inputs(Path(used))
        for each in sys.argv[1:] or ["base", *extras()]:
            tried(made, "" if each == "base" else each, Path(used))
