"""What `pip install` brings."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

import pullpush

ROOT = Path(__file__).parents[1]
KINDS = ("Added", "Changed", "Deprecated", "Fixed", "Removed", "Security")
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


def test_one_version_in_one_place() -> None:
    """The package says it; what installs and what cites it read or repeat it."""
    version = re.search(r'^__version__ = "(.+)"$', (ROOT / "src/pullpush/__init__.py").read_text(), re.MULTILINE)
    assert version is not None
    assert importlib.metadata.version("pullpush") == version[1] == pullpush.__version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version[1]


def test_the_changelog_keeps_its_form() -> None:
    """Keep a Changelog 1.1: what is not released yet first, versions by date below it, entries of one line by kind."""
    _, *versions = re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    headings = [version.splitlines()[0] for version in versions]
    assert headings[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", each) for each in headings[1:])
    dates = [each[-10:] for each in headings[1:]]
    assert dates == sorted(dates, reverse=True)
    for version in versions:
        kinds = re.findall(r"^### (.+)", version, re.MULTILINE)
        assert kinds == [each for each in KINDS if each in kinds]
        for line in filter(None, version.splitlines()[1:]):
            assert re.fullmatch(r"### .+|- .{,180}\.", line), line


def test_workflows_and_forms_can_be_read() -> None:
    files = [*(ROOT / ".github").rglob("*.yml")]
    assert {"release.yml", "test.yml", "bug.yml", "wish.yml"} <= {each.name for each in files}
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for file in files:
        held = yaml.safe_load(file.read_text())
        for job in held.get("jobs", {}).values():
            for step in job["steps"]:
                words = step.get("run", "").split()
                assert words[:1] != ["make"] or words[1] in targets, (file.name, step)
