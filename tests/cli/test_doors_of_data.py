"""Data as a new user has them: few classes, train and test folders, no test at all, no classes, broken files."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pullpush.cli import main
from pullpush.cli.items import of_the_run
from pullpush.data.items import Items
from pullpush.data.synthetic import make_tree
from tests.support.bare import BARE

FAST = [
    *BARE,
    *("--encoder.weights", "none", "--encoder.size", "32", "--steps", "2"),
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree("folder", tmp_path_factory.mktemp("data") / "photos", classes=6, images=4)


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "small"
    assert main(["train", "--data", str(photos), "--out", str(out), *FAST]) == 0
    return out


def test_a_run_evaluates_and_embeds_its_own_test_split(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test = Items.load(run / "items.parquet").split("test")
    for model in (run, run / "model"):
        assert main(["evaluate", str(model), "--json", "--nmi", "false"]) == 0
        found = json.loads(capsys.readouterr().out)
        metrics = json.loads((run / "metrics.json").read_text())
        assert found["recall@1"] == pytest.approx(metrics["test"]["after"]["recall@1"])
    assert main(["embed", str(run), "--out", str(tmp_path / "test.npz")]) == 0
    kept = np.load(tmp_path / "test.npz")
    assert kept["paths"].tolist() == [test.path(row) for row in range(len(test))]
    assert kept["classes"].tolist() == [test.classes[label] for label in test.table["label"]]
    shutil.copytree(run / "model", tmp_path / "alone")
    assert main(["embed", str(tmp_path / "alone"), "--out", str(tmp_path / "no.npz")]) == 2
    assert "--data" in capsys.readouterr().err


def test_a_folder_of_the_same_name_is_not_the_data_of_the_run(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(*words: str) -> int:
        assert main(["verify", str(run), *words, "--json"]) == 0
        return int(json.loads(capsys.readouterr().out)["items"])

    other = make_tree("folder", tmp_path / photos.name, classes=3, images=5)
    assert measured() == 12
    for folder, items in ((photos, 24), (other, 15)):
        assert measured("--data", str(folder)) == items
        monkeypatch.chdir(folder.parent)
        assert measured("--data", folder.name) == items


def test_a_model_of_a_library_is_of_no_run(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert of_the_run(str(run / "model")) is not None
    monkeypatch.chdir(run)
    assert of_the_run("timm:resnet50") is None


def test_no_classes_are_needed_to_embed_and_broken_files_are_left_out(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for place, file in enumerate(sorted(photos.rglob("*.png"))[:3]):
        shutil.copy(file, flat / f"{place}.png")
    assert main(["embed", str(run), "--data", str(flat / "1.png"), "--out", str(tmp_path / "one.npy")]) == 0
    assert np.load(tmp_path / "one.npy").shape[0] == 1
    (flat / "cut.png").write_bytes((flat / "0.png").read_bytes()[:99])
    os.mkfifo(flat / "pipe.png")
    (tmp_path / "list.csv").write_text("path\nflat/0.png\nflat/cut.png\n")
    for name, source, rows in (("flat", flat, 3), ("list", tmp_path / "list.csv", 1)):
        assert main(["embed", str(run), "--data", str(source), "--out", str(tmp_path / f"{name}.npy")]) == 0
        said = capsys.readouterr().err
        assert "cut.png" in said
        assert "1 of" in said
        assert np.load(tmp_path / f"{name}.npy").shape[0] == rows
    assert main(["evaluate", str(run), "--data", str(flat)]) == 2
    assert "two classes or more are needed" in capsys.readouterr().err
    broken = shutil.copytree(photos, tmp_path / "broken")
    sorted(broken.rglob("*.png"))[0].write_bytes(b"")
    assert main(["evaluate", str(run), "--data", str(broken), "--nmi", "false"]) == 0
    assert "1 of 24 images left out" in capsys.readouterr().err


def test_pipes_and_devices_hang_no_training(photos: Path, tmp_path: Path) -> None:
    odd = shutil.copytree(photos, tmp_path / "odd")
    inside = next(path for path in odd.iterdir() if path.is_dir())
    os.mkfifo(inside / "pipe.png")
    os.symlink("/dev/zero", inside / "zero.png")
    os.symlink("/sys", inside / "tree")
    assert main(["train", "--data", str(odd), "--data.check", "false", "--out", str(tmp_path / "run"), *FAST]) == 0
    assert main(["data", str(odd)]) == 0


def test_train_and_test_folders_with_the_same_classes_are_of_seen_classes(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (path for path in photos.iterdir() if path.is_dir()):
        for place, file in enumerate(sorted(folder.iterdir())):
            split = tmp_path / "tree" / ("train" if place < 2 else "test") / folder.name
            split.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, split / file.name)
    assert main(["train", "--data", str(tmp_path / "tree"), "--out", str(tmp_path / "run"), *FAST]) == 0
    said = capsys.readouterr().out
    assert "the test is of seen classes" in said
    assert "on classes seen in training" in said
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["test_classes"] == "seen"
    shutil.rmtree(next((tmp_path / "tree" / "train").iterdir()))
    assert main(["train", "--data", str(tmp_path / "tree"), "--out", str(tmp_path / "other"), *FAST]) == 2
    assert "--data.given_splits false" in capsys.readouterr().err


def test_two_classes_are_split_by_image(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = tmp_path / "few"
    for folder in sorted(path for path in photos.iterdir() if path.is_dir())[:2]:
        shutil.copytree(folder, few / folder.name)
    assert main(["train", "--data", str(few), "--out", str(tmp_path / "run"), *FAST]) == 0
    assert "2 classes are too few to keep some for the test" in capsys.readouterr().out


@pytest.mark.parametrize("validation", ["0.2", "0"])
def test_the_final_model_needs_no_test(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], validation: str
) -> None:
    argv = ["train", "--data", str(photos), "--data.test", "0", "--data.validation", validation]
    assert main([*argv, "--out", str(tmp_path / "run"), *FAST]) == 0
    assert "no test: " in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["test"] == {"before": {}, "after": {}}
    assert main(["diagnose", str(tmp_path / "run"), "--page", "false"]) == 0
    assert main(["evaluate", str(tmp_path / "run")]) == 2
    assert "--split train" in capsys.readouterr().err
    if validation == "0":
        assert main(["report", str(tmp_path / "run")]) == 0


def test_data_prints_what_the_images_are(photos: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    some = shutil.copytree(photos, tmp_path / "some")
    Image.new("RGB", (40, 80)).save(next(path for path in some.iterdir() if path.is_dir()) / "tall.jpg")
    assert main(["data", str(some)]) == 0
    said = capsys.readouterr().out
    for words in ("sizes of the images", "width / height", "formats", "JPEG", "PNG"):
        assert words in said
