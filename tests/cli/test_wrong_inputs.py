"""What people get wrong: one message that names the input and the cure, status 2, nothing overwritten."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pullpush.cli import main
from pullpush.data.synthetic import make_tree
from tests.support.bare import BARE

FAST = [
    *BARE,
    *("--encoder.weights", "none", "--encoder.size", "32", "--batch.classes", "2", "--batch.samples", "2"),
    *("--data.test", "0.25", "--data.validation", "0", "--steps", "1"),
]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_tree("folder", tmp_path / "photos", classes=6, images=2)


def refused(capsys: pytest.CaptureFixture[str], argv: list[str], *said: str) -> str:
    """Runs the command line, which must end with status 2 and one message that holds all of `said`."""
    assert main(argv) == 2
    out = capsys.readouterr()
    progress, start, message = f"\n{out.err}".partition("\npullpush: ")
    assert start
    assert "\npullpush: " not in message
    # The plan was told before, and on a slow machine progress.
    assert all(re.search(r"^plan: |^ {6}|: .* (so far|left)\b", line) for line in progress.splitlines() if line)
    assert "Traceback" not in out.err + out.out
    for words in said:
        assert words in out.err, out.err
    return out.err


def train(photos: Path | str, tmp_path: Path, *more: str) -> list[str]:
    return ["train", "--data", str(photos), "--out", str(tmp_path / "run"), *FAST, *more]


def first_image(photos: Path) -> Path:
    return sorted(path for path in photos.rglob("*") if path.is_file())[0]


def test_missing_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, train("no/such/folder", tmp_path), "no/such/folder")
    refused(capsys, train("emojy", tmp_path), "did you mean 'emoji'")
    assert not (tmp_path / "run").exists()


def test_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    refused(capsys, train(tmp_path / "photos", tmp_path), "photos")


def test_one_class_only(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in sorted(path for path in photos.iterdir() if path.is_dir())[1:]:
        shutil.rmtree(folder)
    refused(capsys, train(photos, tmp_path), "class")


@pytest.mark.parametrize(
    ("name", "content"), [("text.png", b"this is no image"), ("empty.png", b""), ("cut.png", None)]
)
def test_unreadable_image_is_named(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes | None
) -> None:
    bad = first_image(photos).with_name(name)
    bad.write_bytes(first_image(photos).read_bytes()[:200] if content is None else content)
    refused(capsys, train(photos, tmp_path), name, "--on-bad-item skip")
    assert not (tmp_path / "run").exists()
    assert main(train(photos, tmp_path, "--on-bad-item", "skip")) == 0
    assert name in capsys.readouterr().out


def test_unusual_images_are_fine(photos: Path, tmp_path: Path) -> None:
    beside = first_image(photos)
    colours = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.new("RGB", (1, 1), "red").save(beside.with_name("dot.png"))
    Image.fromarray(colours).convert("CMYK").save(beside.with_name("print.jpg"))
    Image.fromarray(colours[..., 0].astype(np.uint16) * 257).save(beside.with_name("deep.png"))
    frames = [Image.fromarray(colours), Image.fromarray(255 - colours)]
    frames[0].save(beside.with_name("moving.gif"), save_all=True, append_images=frames[1:])
    assert main(train(photos, tmp_path)) == 0


def test_class_with_one_image_is_counted(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (path for path in photos.iterdir() if path.is_dir()):
        for spare in sorted(folder.iterdir())[1:]:
            spare.unlink()
    refused(capsys, train(photos, tmp_path), "positive")
    assert main(["data", str(photos)]) == 0
    assert "one item" in capsys.readouterr().out


def test_unknown_names(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, train(photos, tmp_path, "--loss", "cirlce"), "cirlce", "did you mean 'circle'")
    refused(capsys, train(photos, tmp_path, "--loss.marjin", "1"), "--loss.marjin")
    refused(capsys, train(photos, tmp_path, "--loss", "circle", "--loss.marjin", "1"), "did you mean --loss.margin")
    refused(capsys, train(photos, tmp_path, "--stepz", "1"), "did you mean --steps")
    refused(capsys, train(photos, tmp_path, "--steps", "many"), "steps", "many")
    refused(capsys, train(photos, tmp_path, "--miner", "hardes"), "did you mean 'hardest'")
    refused(capsys, train(photos, tmp_path, "--encoder", "resnet5O"), "resnet5O", "resnet50")
    refused(capsys, ["trian"], "did you mean train")
    refused(capsys, ["evaluate", "runs/none", "--date", "emoji"], "did you mean --data")


def test_more_classes_in_a_batch_than_there_are(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, train(photos, tmp_path, "--batch.classes", "50"), "50", "lower")


def test_existing_out_is_kept(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("precious")
    refused(capsys, train(photos, tmp_path), "exists", "--out")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_unwritable_out(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("no folder")
    argv = ["train", "--data", str(photos), *FAST, "--out", str(tmp_path / "file" / "run")]
    refused(capsys, argv, "file", "--out")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_full_disk(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(train(photos, tmp_path)) == 0
    kept = (tmp_path / "run" / "model" / "config.json").read_bytes()
    refused(capsys, ["embed", str(tmp_path / "run"), "--data", str(photos), "--out", "/dev/full"], "/dev/full")
    assert (tmp_path / "run" / "model" / "config.json").read_bytes() == kept


def test_damaged_checkpoint_and_model(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(train(photos, tmp_path)) == 0
    run = tmp_path / "run"
    (run / "metrics.json").unlink()
    last = run / "checkpoints" / "last.pt"
    last.write_bytes(last.read_bytes()[:1000])
    refused(capsys, ["train", "--resume", str(run)], "last.pt", "damaged")
    refused(capsys, ["train", "--resume", str(tmp_path / "nowhere")], "nowhere")
    weights = run / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    refused(capsys, ["evaluate", str(run), "--data", str(photos)], "damaged")
    refused(capsys, ["report", str(tmp_path / "nowhere")], "nowhere")
