"""What a person sees first: the README, and the names of the package."""

import re
import subprocess
import sys
from pathlib import Path

from pullpush.data.sources import open_items
from pullpush.data.splits import split_by_class
from pullpush.runs.groups import DataConfig

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_readme_counts_the_test_classes_of_the_default_run() -> None:
    data = DataConfig()
    test = split_by_class(open_items(data.source), test=data.test, validation=data.validation).split("test")
    assert f"queries of {test.labels.unique().numel()} classes" in README.replace("\n", " ")


def test_readme_says_where_the_command_is() -> None:
    assert ". .venv/bin/activate" in README
    assert README.index("make demo") < README.index("activate") < README.index("pullpush data photos/")


def test_dir_shows_the_names_without_loading_them() -> None:
    code = "import sys, pullpush; print(*dir(pullpush)); assert 'torch' not in sys.modules; print(pullpush.UserError)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    import pullpush

    assert set(pullpush.__all__) <= set(re.findall(r"\w+", done.stdout.splitlines()[0]))
