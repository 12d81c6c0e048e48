"""Names as people and other programs write them: formulas, markup, escapes, bytes that are no UTF-8, NA."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pullpush.cli import main
from pullpush.data.items import Items
from pullpush.data.sources import open_items
from pullpush.data.synthetic import make_tree

NAMES = [b"$5_$10", b"[bold]x", b"[b]", b"\x1b[31mred\x1b[0m", b"caf\xe9", b"NA", b"null", "مرحبا\u202e".encode()]
RUN = [
    *("--encoder", "test_resnet", "--encoder.weights", "none", "--encoder.size", "32", "--encoder.dim", "8"),
    *("--encoder.frozen_stages", "0", "--batch.classes", "2", "--batch.samples", "2", "--data.test", "0.5"),
    *("--data.validation", "0.25", "--steps", "2", "--tensorboard", "false"),
]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of eight classes with those names, and an image with such a name in each."""
    root = tmp_path_factory.mktemp("odd")
    made = make_tree("folder", root / "made", classes=len(NAMES), images=3)
    for folder, name in zip(sorted(made.iterdir()), NAMES, strict=True):
        target = os.path.join(os.fsencode(root / "photos"), name)
        shutil.copytree(os.fsencode(folder), target)
        first = sorted(os.listdir(target))[0]
        os.rename(os.path.join(target, first), os.path.join(target, name + b".png"))
    return root / "photos"


def test_every_verb_shows_odd_names_as_they_are(
    odd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    said = {}
    for words in (
        ["data", str(odd)],
        ["train", "--data", str(odd), *RUN, "--out", "run"],
        ["report", "run"],
        ["diagnose", "run"],
        ["evaluate", "run", "--data", str(odd)],
        ["embed", "run", "--data", str(odd), "--out", "out.npz"],
        ["embed", "run", "--data", str(odd), "--out", "out.parquet"],
        ["index", "run", "--images", str(odd), "--out", "index", "--projection", "pca"],
        ["index", "run", "--images", str(odd), "--out", "index", "--projection", "pca"],
        ["search", "index", "--like", "0", "-k", "24"],
        ["search", "index", "--like", "0", "-k", "24", "--json"],
    ):
        assert main(words) == 0, (words, capsys.readouterr().err)
        found = capsys.readouterr()
        said[words[0]] = said.get(words[0], "") + found.out
        assert "\x1b" not in found.out + found.err, words
        (found.out + found.err).encode()
    for name in ("$5_$10", "[b]", "[bold]x", r"\x1b[31mred", r"caf\xe9"):
        assert name in said["search"].replace("\n", ""), name
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "\x1b" not in page
    items = Items.load(tmp_path / "run" / "items.parquet")
    assert set(items.table["path"]) == {str(path) for path in odd.rglob("*.png")}
    assert {"NA", "null", r"caf\xe9", "$5_$10"} <= set(items.classes)
    kept, read = np.load(tmp_path / "out.npz", allow_pickle=False), open_items(str(odd))
    assert {key: len(kept[key]) for key in kept} == dict.fromkeys(
        ("embeddings", "ids", "labels", "classes", "paths"), len(read)
    )
    assert kept["classes"].tolist() == [read.classes[label] for label in kept["labels"]]
    assert kept["paths"].tolist() == [read.path(row) for row in range(len(read))]
    assert all(os.path.isfile(path) for path in kept["paths"].tolist())
    assert any(os.fsencode(path).endswith(b"caf\xe9.png") for path in kept["paths"].tolist())


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_words_for_missing_values_are_names(odd: Path, tmp_path: Path, suffix: str) -> None:
    paths = sorted(str(path) for path in odd.rglob("*.png") if str(path).isascii())[:8]
    names = ["NA", "None", "null", "nan"] * 2
    table = pd.DataFrame({"path": paths, "label": names, "category": names, "text": names})
    manifest = tmp_path / f"items{suffix}"
    table.to_csv(manifest, index=False) if suffix == ".csv" else table.to_parquet(manifest)
    items = open_items(str(manifest))
    assert sorted(items.classes) == sorted(set(names))
    assert [items.classes[label] for label in items.table["label"]] == names
    assert list(items.table["category"]) == names
    assert [text[0] for text in items.table["text"]] == names


def test_closing_markup_in_a_manifest(odd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = sorted(str(path) for path in odd.rglob("*.png") if str(path).isascii())[:8]
    manifest = tmp_path / "[b].csv"
    pd.DataFrame({"path": paths, "label": ["[/b]", "[/]"] * 4, "category": "[/x]"}).to_csv(manifest, index=False)
    assert main(["data", str(manifest)]) == 0
    said = capsys.readouterr().out
    assert "[/b]" in said
    assert "[b]: 8 items" in said
