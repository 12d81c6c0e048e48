"""What newcomers get wrong first: status 2, one message that names the input, and ends with what mends it."""

import re
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pullpush import extras
from pullpush.cli import main
from pullpush.errors import UserError
from pullpush.training.run import Run

# The command line, what the message names, and how it ends.
MISTAKES = {
    "a verb misspelt": (["trian"], "'trian'", r"did you mean train\?"),
    "an option misspelt": (["train", "--los", "circle"], "--los", r"did you mean --loss\?"),
    "an option of a loss misspelt": (
        ["train", "--loss", "circle", "--loss.margn", "0.3"],
        "--loss.margn",
        r"did you mean --loss\.margin\?",
    ),
    "a loss misspelt": (["train", "--loss", "circel"], "'circel'", r"did you mean 'circle'\?"),
    "a word too many": (["train", "photos"], "'photos'", r"give --OPTION VALUE, see pullpush train --help"),
    "no value": (["train", "--steps"], "--steps", r"a whole number from 1 to 1,000,000,000"),
    "steps and minutes": (["train", "--steps", "1", "--minutes", "1"], "--minutes", r"give one of them"),
    "a folder that is not there": (["train", "--data", "phots"], "'phots'", r"a sub-folder for each class, .*file"),
    "a data set misspelt": (["train", "--data", "emojis"], "'emojis'", r"did you mean 'emoji'\? .*"),
    "an empty folder": (["train", "--data", "empty"], "empty", r"CLASS/IMAGE\.jpg"),
    "images without folders": (["train", "--data", "photos/a"], "photos/a", r"`pullpush index` need none\)"),
    "one class": (["train", "--data", "one"], "one class", r"`pullpush index` need none\)"),
    "an image a class": (
        ["train", "--data", "single"],
        "single",
        r"--data\.test 0\.25 --data\.validation 0, or add classes",
    ),
    "a corrupt file": (["train", "--data", "broken"], "not an image", r"go on without them: --on-bad-item skip"),
    "a table without labels": (["train", "--data", "notes.csv"], "'label'", r"rename one of them to 'label'"),
    "images of a table gone": (["train", "--data", "gone.csv"], "nowhere.png", r"--data\.missing skip.*\)"),
    "no texts": (
        ["train", "--data", "photos", "--task", "image-text", "--encoder.size", "32"],
        "photos has no texts",
        r"leave out --task image-text",
    ),
    "a download not named": (
        ["train", "--data", "sop"],
        "Stanford Online Products",
        r"--root FOLDER",
    ),
    "a broken configuration": (["train", "--config", "cut.yaml"], "'cut.yaml'", r"give a YAML file or a recipe \(.*\)"),
    "no run to go on with": (["train", "--resume", "runs/none"], "'runs/none'", r"give its command again"),
    "no GPU": (["train", "--data", "photos", "--device", "mps"], "--device mps", r"leave it out to take what is there"),
    "no run": (["evaluate", "runs/none"], "'runs/none'", r"pullpush train --out runs/none"),
    "a run that is none": (["evaluate", "photos"], "'photos'", r"pullpush train --out runs/NAME"),
    "no report of a run": (["report", "runs/none"], "'runs/none'", r"pullpush train --out runs/none"),
    "one run": (["compare", "runs/a"], "1 runs", r"pullpush compare runs/ONE runs/OTHER"),
    "nothing to index": (["index", "runs/none"], "what to index", r"--images FOLDER or --data NAME"),
    "no index": (
        ["search", "indexes/none", "cat"],
        "indexes/none",
        r"pullpush index RUN --images FOLDER --out indexes/none",
    ),
    "no index at all": (["serve"], "indexes", r"pullpush index RUN --images FOLDER, or name one"),
    "no runs to show": (["board", "nowhere"], "'nowhere'", r"pullpush board runs/"),
    "a search without options": (["tune", "--over", "lr"], "'lr'", r"give for instance optimizer\.lr=1e-4:1e-2:log"),
}


def save(folder: Path, classes: str, images: int) -> None:
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(images):
            Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(folder / name / f"{number}.png")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("mistakes")
    for folder, classes, images in (
        ("photos", "abcd", 3),
        ("one", "a", 3),
        ("single", "abcd", 1),
        ("broken", "abcd", 3),
    ):
        save(here / folder, classes, images)
    (here / "broken" / "a" / "0.png").write_bytes(b"nothing")
    (here / "empty").mkdir()
    (here / "notes.csv").write_text("name,score\nx,1\n")
    (here / "gone.csv").write_text("path,label\nnowhere.png,cat\n")
    (here / "cut.yaml").write_text("steps: [1\n")
    return here


@pytest.fixture
def refused(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    monkeypatch.chdir(place)

    def run(words: list[str], named: str, cure: str) -> None:
        assert main(words) == 2
        said = capsys.readouterr()
        before, start, message = f"\n{said.err}".rpartition("\npullpush: ")
        assert start
        assert "\npullpush: " not in before
        assert "Traceback" not in said.err + said.out
        assert named in message
        assert re.search(rf"{cure}\n$", message), message

    yield run
    assert not (place / "runs").exists() or not list((place / "runs").iterdir())


@pytest.mark.parametrize(("words", "named", "cure"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_named_and_mended(refused: Any, words: list[str], named: str, cure: str) -> None:
    refused(words, named, cure)


def test_a_port_that_is_taken(refused: Any, place: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused(["board", str(place), "--port", str(port)], f"port {port}", rf"--port {port + 1}")


def test_an_extra_that_is_not_installed(refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(extras.EXTRAS, "train", ("no_such_module",))
    refused(["train"], "no_such_module", r"pip install 'pullpush\[train\]'")


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("can't allocate memory: 9")]
)
def test_a_batch_that_does_not_fit_into_memory_says_what_would(error: Exception) -> None:
    def fail(arguments: Any) -> Any:
        raise error

    config = SimpleNamespace(steps=9, minutes=0, gradient_cache=0, optimizer=SimpleNamespace(warmup=0.1))
    task = SimpleNamespace(prepare=lambda batch, device: batch, sampler=SimpleNamespace(classes=32))
    run: Any = SimpleNamespace(
        share=0.0,
        config=config,
        task=task,
        optimizer=SimpleNamespace(param_groups=[]),
        fabric=SimpleNamespace(device=0),
    )
    run._backward, run._too_large = fail, partial(Run._too_large, run)
    with pytest.raises(UserError, match=r"--batch.classes 16, or --gradient_cache 32, .* or --tune head$"):
        Run.do(run, 1, None)
