"""Runs the tests of what changed: the 12 files nearest to it, the nearest first, for at most 75 seconds.

Changed is what differs from where this branch left `main`, committed or not; where nothing does, the last commit.
A test file is as near as the imports between it and a changed module are few. Of these files, the tests that bear the
name of a changed module come first: thousands of tests of all losses would else fill the time.

    python tools/quick.py
"""

import ast
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import grimp
import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES, SECONDS = 12, 75
NAMES = "PULLPUSH_QUICK_NAMES"


class Limit:
    """Ends the tests when their time is over, and says what was run and what was left out."""

    def __init__(self, near: list[str], farther: int, names: set[str]) -> None:
        self.near, self.farther, self.names, self.start = near, farther, names, time.monotonic()
        self.known: set[str] = set()
        self.ran: set[str] = set()
        self.failed = 0

    def pytest_sessionstart(self) -> None:
        signal.signal(signal.SIGALRM, self.over)
        signal.alarm(SECONDS)

    def over(self, *_: Any) -> None:
        pytest.exit("the time is over", returncode=int(self.failed > 0))

    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        self.known = set(ids)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed += report.failed
        self.ran.add(report.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        signal.alarm(0)

    def __str__(self) -> str:
        """What was run, and what was not."""
        named = {test for test in self.known if bears(test, self.names)}
        left = Counter(map(file_of, self.known - self.ran))
        parts = [
            f"ran {len(self.ran)} of {len(self.known)} tests of {len(self.near)} files",
            *([f"{len(named & self.ran)} of {len(named)} named {' or '.join(sorted(self.names))}"] if named else []),
            f"in {time.monotonic() - self.start:.0f} s",
        ]
        out = [*(f"{left[file]} of {file}" for file in self.near if left[file]), f"{self.farther} farther files"]
        return f"{', '.join(parts)}; left out: {', '.join(out)}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In each worker: the tests that bear the name of what changed, of all files, before the others."""
    names = set(os.environ[NAMES].split())
    for item in items:
        kind = " named" if bears(item.nodeid, names) else ""
        item.add_marker(pytest.mark.xdist_group(f"{file_of(item.nodeid)}{kind}"))
    items.sort(key=lambda item: not bears(item.nodeid, names))


def bears(test: str, names: set[str]) -> bool:
    return any(name in test.partition("@")[0] for name in names)


def file_of(test: str) -> str:
    return test.partition("::")[0]


def git(*words: str) -> list[str]:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()


def changed() -> list[str]:
    """Paths from the root of the repository."""
    base = (git("merge-base", "HEAD", "main") or ["HEAD"])[0]
    files = [*git("diff", "--name-only", base), *git("ls-files", "--others", "--exclude-standard")]
    return files or git("diff", "--name-only", "HEAD~1")


@cache
def graph_of_src() -> grimp.ImportGraph:
    return grimp.build_graph("pullpush")


def distances(modules: set[str]) -> dict[str, int]:
    """Imports from each module to the nearest of these."""
    graph = graph_of_src()
    distance = dict.fromkeys(modules & graph.modules, 0)
    for module in modules & graph.modules - {"pullpush"}:  # losses and findings are known to their package by name
        distance.setdefault(module.rpartition(".")[0], 1)
    queue = list(distance)
    for module in queue:  # it grows: each module is visited after those that are nearer
        for importer in graph.find_modules_that_directly_import(module) - set(distance):
            distance[importer] = distance[module] + 1
            queue.append(importer)
    return distance


@cache
def imported(path: Path) -> set[str]:
    """What a test file imports, with the names that it takes, which may be modules."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def module_of(file: str) -> str:
    """The module of a file; of a page or a recipe, the package that it lies in."""
    path = Path(file.removeprefix("src/"))
    if file.startswith("src/") and path.suffix != ".py":
        path = next(each for each in path.parents if (ROOT / "src" / each / "__init__.py").exists() or each == Path())
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def tests_of(files: list[str]) -> list[str]:
    """Test files, the nearest first; all of a room where what they share changed.

    What is no source, such as docs and `pyproject.toml`, is reached by the tests that name it or its folder.
    """
    modules = {module_of(file) for file in files if file.startswith("src/") or file.endswith(".py")}
    others = {Path(file).parts[0] for file in files} - {"src", "tests"}  # docs, README.md, pyproject.toml
    near, names = distances(modules), names_of(files)
    shared = {module for module in modules if module.startswith(("tests.", "tools."))}
    rooms = {module.split(".")[1] for module in modules if "." in module}
    order: dict[str, tuple[int, bool, bool]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        name, room = str(path.relative_to(ROOT)), path.parent.name
        own = name in files or any(file.startswith(f"tests/{room}/") and "/test_" not in file for file in files)
        imports = imported(path)
        text = path.read_text(encoding="utf-8")
        about = any(f'"{each}' in text or name == f"tests/test_{each}.py" for each in others)
        reached = [0] if own or imports & shared else [1] if about else []
        reached += [near[each] + 1 for each in imports if each in near]
        if reached:
            order[name] = (min(reached), room not in rooms, path.stem.removeprefix("test_") not in names | others)
    return sorted(order, key=lambda name: order[name])


def names_of(files: list[str]) -> set[str]:
    """What the tests of these files are likely to be called."""
    return {module_of(file).rpartition(".")[2] for file in files if file.startswith("src/") and file.endswith(".py")}


def main() -> int:
    files = changed()
    tests = tests_of(files)
    near = tests[:FILES]
    if not near:
        print("no test reaches what changed:", *files or ["nothing"])
        return 0
    limit = Limit(near, len(tests) - len(near), names_of(files))
    os.environ[NAMES] = " ".join(names_of(files))
    words = ["-p", "quick", "-n", "2", "--dist", "loadgroup", "--no-loadscope-reorder", *near]
    code = pytest.main(words, plugins=[limit])
    print(limit)
    return code


if __name__ == "__main__":
    sys.exit(main())
