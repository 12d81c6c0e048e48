"""Runs the tests of what changed: the 12 files nearest to it, the nearest first, for at most 80 seconds.

Changed is what differs from where this branch left `main`, committed or not; where nothing does, the last commit.
A test file is as near as the imports between it and a changed module are few.

    python tools/quick.py
"""

import ast
import subprocess
import sys
import time
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES, SECONDS = 12, 80.0


class Limit:
    """Ends the tests when their time is over."""

    def __init__(self) -> None:
        self.end, self.failed = time.monotonic() + SECONDS, 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed += report.failed
        if time.monotonic() > self.end:
            said = f"{SECONDS:.0f} s are over, the farther tests were not run"
            pytest.exit(said, returncode=int(self.failed > 0))


def git(*words: str) -> list[str]:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()


def changed() -> list[str]:
    """Paths from the root of the repository."""
    base = (git("merge-base", "HEAD", "main") or ["HEAD"])[0]
    files = [*git("diff", "--name-only", base), *git("ls-files", "--others", "--exclude-standard")]
    return files or git("diff", "--name-only", "HEAD~1")


def distances(modules: set[str]) -> dict[str, int]:
    """Imports from each module to the nearest of these."""
    graph = grimp.build_graph("pullpush")
    distance = dict.fromkeys(modules & graph.modules, 0)
    for module in modules & graph.modules - {"pullpush"}:  # losses and findings are known to their package by name
        distance.setdefault(module.rpartition(".")[0], 1)
    queue = list(distance)
    for module in queue:  # it grows: each module is visited after those that are nearer
        for importer in graph.find_modules_that_directly_import(module) - set(distance):
            distance[importer] = distance[module] + 1
            queue.append(importer)
    return distance


def imported(path: Path) -> set[str]:
    """What a test file imports, with the names that it takes, which may be modules."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def tests_of(files: list[str]) -> list[str]:
    """Test files, the nearest first; all of a room where what they share changed."""
    modules = {
        file.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for file in files
        if file.endswith(".py")
    }
    near = distances(modules)
    shared = {name for module in modules if module.startswith("tests.") for name in (module, module.rpartition(".")[0])}
    rooms = {module.split(".")[1] for module in modules if "." in module}
    order: dict[str, tuple[int, bool]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        name, room = str(path.relative_to(ROOT)), path.parent.name
        own = name in files or any(file.startswith(f"tests/{room}/") and "/test_" not in file for file in files)
        imports = imported(path)
        reached = [0] if own or imports & shared else []
        reached += [near[each] + 1 for each in imports if each in near]
        if reached:
            order[name] = (min(reached), room not in rooms)
    return sorted(order, key=lambda name: order[name])


def main() -> int:
    tests = tests_of(changed())
    near = tests[:FILES]
    print(f"{len(tests)} test files reach what changed; the nearest {len(near)}:", *near, sep="\n  ", flush=True)
    words = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", *near]
    return pytest.main(words, plugins=[Limit()]) if near else 0


if __name__ == "__main__":
    sys.exit(main())
