"""What `pip install` brings."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LISTED = """
from setuptools import Distribution

made = Distribution({"script_name": "setup.py"})
made.parse_config_files()
build = made.get_command_obj("build_py")
build.ensure_finalized()
print(*(each.removeprefix(f"{build.build_lib}/") for each in build.get_outputs(include_bytecode=False)), sep="\\n")
"""


def test_the_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    """Templates, pages, recipes and py.typed, too: by setuptools' list of what it would put there, without building."""
    source = tmp_path / "src"
    shutil.copytree(ROOT / "src" / "pullpush", source / "pullpush", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    done = subprocess.run([sys.executable, "-c", LISTED], cwd=tmp_path, capture_output=True, text=True, check=True)
    files = {str(each.relative_to(source)) for each in (source / "pullpush").rglob("*") if each.is_file()}
    assert {"pullpush/py.typed", "pullpush/server/page/app.js", "pullpush/recipes/sop-xbm.yaml"} <= files
    assert set(done.stdout.splitlines()) == files
