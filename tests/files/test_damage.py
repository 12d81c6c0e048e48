"""Every file that a run, its model, an index and a study hold, damaged in every way, through the verbs that read it.

Which files there are and which verb reads which is found from what the verbs write and open, so a new file is in.
Whatever is wrong: status 2 and one message that names the file, or the work is done and the file is named in what is
said; never a traceback.
"""

import builtins
import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_files import BAD

from pullpush.cli import main
from pullpush.data.miniature import make_tree
from pullpush.reports import style

RUN = [
    *("--encoder", "test_resnet", "--encoder.weights", "none", "--encoder.size", "32", "--encoder.dim", "8"),
    *("--encoder.frozen_stages", "0", "--batch.classes", "2", "--batch.samples", "2", "--data.test", "0.25"),
    *("--data.validation", "0.25", "--steps", "2", "--tensorboard", "false", "--report", "false"),
]
GARBAGE = np.random.default_rng(0).integers(0, 256, 500, np.uint8).tobytes()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Pictures, a run, an index and a study, as the verbs leave them."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PULLPUSH_CACHE", str(home / "cache"))
        patch.chdir(home)
        make_tree("folder", home / "photos", classes=8, images=3)
        for name in ("run", "frozen"):
            freeze = str(name == "frozen").lower()
            assert main(["train", "--data", "photos", *RUN, "--encoder.freeze", freeze, "--out", name]) == 0
        assert main(["index", "run", "--images", "photos", "--out", "index", "--projection", "pca"]) == 0
        yield home


def _resume(home: Path) -> list[str]:
    (home / "run" / "metrics.json").unlink()
    return ["train", "--resume", "run"]


VERBS: dict[str, tuple[str, Callable[[Path], list[str]]]] = {
    "report": ("run", lambda home: ["report", "run"]),
    "diagnose": ("run", lambda home: ["diagnose", "run"]),
    "resume": ("run", _resume),
    "embed": ("run", lambda home: ["embed", "run", "--data", "photos", "--out", "out.npy"]),
    "search": ("index", lambda home: ["search", "index", "--like", "0", "--json"]),
    "config": ("run", lambda home: ["train", "--config", "run/config.yaml", "--out", "again"]),
}


def opened_by(folder: Path, act: Callable[[], object]) -> list[Path]:
    """The files below `folder` that are opened while `act` runs: what is read is checked by one function first."""
    from pullpush.files import arrays, tables, tensors, text

    seen: set[Path] = set()

    def noting(path: object, *rest: object, **options: object) -> object:
        seen.add(Path(str(path)).resolve())
        return regular(path, *rest, **options)  # type: ignore[arg-type]

    def opening(path: object, mode: str = "r", *rest: object, **options: object) -> object:
        if isinstance(path, str | os.PathLike) and "r" in mode:
            seen.add(Path(path).resolve())
        return opener(path, mode, *rest, **options)  # type: ignore[call-overload]

    regular, opener = text.regular, builtins.open
    with pytest.MonkeyPatch.context() as patch:
        for module in (arrays, tables, tensors, text):
            patch.setattr(module, "regular", noting)
        patch.setattr(builtins, "open", opening)
        patch.setattr(io, "open", opening)
        act()
    return sorted(path for path in seen if path.is_relative_to(folder.resolve()) and path.is_file())


def damages(path: Path) -> Iterator[bytes]:
    good = path.read_bytes()
    yield from (b"", good[: len(good) // 2], bytes(max(len(good), 1)), GARBAGE, b"\xff\xfe" + good)
    kind = {"jsonl": "json", "pth": "pt"}.get(path.suffix[1:], path.suffix[1:])
    yield from BAD.get(kind, ())


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn by other tests."""
    stream = io.BytesIO()
    Image.new("RGB", (2, 2)).save(stream, "PNG")
    png = stream.getvalue()
    monkeypatch.setattr(style, "save", lambda draw, path: style.Picture(path, png, png, 1.0))


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("verb", VERBS)
def test_damaged_files(
    home: Path,
    verb: str,
    every: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    no_drawing: None,
) -> None:
    place, make = VERBS[verb]
    root = tmp_path / "home"
    shutil.copytree(home, root)
    monkeypatch.chdir(root)
    monkeypatch.setenv("PULLPUSH_CACHE", str(root / "cache"))

    def afresh() -> list[str]:
        for folder in (place, "again"):
            shutil.rmtree(root / folder, ignore_errors=True)
        shutil.copytree(home / place, root / place)
        (root / "out.npy").unlink(missing_ok=True)
        return make(root)

    words = afresh()
    read = opened_by(root / place, lambda: main(words))
    capsys.readouterr()
    assert read, f"{verb} reads nothing of {place}"
    noticed, wrong = 0, []
    for number, path in enumerate(read):
        ways = list(damages(home / place / path.relative_to((root / place).resolve())))
        for bad in ways[number % every :: every]:
            words = afresh()
            path.write_bytes(bad)
            try:
                status: object = main(words)
            except Exception as error:
                status = repr(error)
            said = capsys.readouterr()
            told = path.name in said.out + said.err or path.parent.name in said.err
            refused = status == 2 and told and said.err.startswith("pullpush: ") and len(said.err) < 3000
            if status != 0 and not refused:
                wrong.append((path.name, bad[:40], status, said.err[:500]))
            noticed += refused or told
    assert not wrong
    assert noticed >= len(read)
