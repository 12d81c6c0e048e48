"""Heat maps over images: colours, the figure of the worst queries, the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pullpush.cli import main
from pullpush.encoders import ImageEncoder, save
from pullpush.images.heat import LESS, MORE, heated
from pullpush.reports import blocks, matches
from pullpush.reports.context import Context
from pullpush.runs.reader import Absent, Missing, RunFolder


@pytest.fixture(scope="module")
def run(new_run: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a model, which is not the one of its embeddings."""
    folder = new_run(tmp_path_factory.mktemp("matches") / "run")
    save(folder / "model", ImageEncoder("resnet18", dim=16, weights="none", size=96))
    return folder


def test_orange_adds_purple_takes_away_and_is_striped() -> None:
    grey = np.full((80, 80, 3), 100, np.uint8)
    shown = heated(grey, np.array([[1.0, 0.0], [-1.0, -0.5]]), scale=1.0).astype(int)
    np.testing.assert_allclose(
        shown[:40, :40].reshape(-1, 3), np.tile(0.2 * 100 + 0.8 * np.array(MORE), (1600, 1)), atol=1
    )
    assert (shown[:40, 40:] == 100).all()
    striped = np.unique(shown[40:, :40].reshape(-1, 3), axis=0)
    assert len(striped) == 2
    np.testing.assert_allclose(striped[np.abs(striped - 100).sum(1).argmax()], 20 + 0.8 * np.array(LESS), atol=1)
    assert np.abs(shown[40:, 40:] - 100).max() < np.abs(shown[40:, :40] - 100).max()
    assert (heated(grey, np.zeros((3, 3)), 0.0) == 100).all()


def test_colours_are_told_apart_by_people_who_see_fewer() -> None:
    """In each dimension of a red-green blind eye's plane (here: luma and blue against yellow) they differ."""
    more, less = (np.array(each, float) for each in (MORE, LESS))
    luma = np.array([0.2126, 0.7152, 0.0722])
    assert abs((more - less) @ luma) > 25
    assert abs((more[2] - more[:2].mean()) - (less[2] - less[:2].mean())) > 100


def test_the_worst_queries_of_a_report(run: Path) -> None:
    context = Context(RunFolder(run))
    pairs = matches.worst_pairs(context.test, context.after, matches.model_of(context.run))
    assert pairs
    labels = context.test.table["label"]
    queries = matches.grids.worst_queries(context.after)
    for place, pair in zip(queries, pairs, strict=True):
        own, wrong, right = (
            context.test.classes[labels[int(row)]]
            for row in (
                context.after.per_query.index[place],
                *(context.after.per_query[name].iat[place] for name in ("nearest_negative", "nearest_positive")),
            )
        )
        assert pair.titles == (own, wrong, right)
        assert own == right != wrong
        assert pair.place == context.after.per_query["rank"].iat[place]
        for one in (pair.wrong, pair.right):
            assert one.match.exact
            assert one.match.map_b.sum() == pytest.approx(one.match.score, abs=1e-5)
    block = blocks.matched(context)
    assert block.figure is not None
    assert block.figure.narrow is not None  # a phone has its own, with names that can be read
    assert (run / "plots" / "why_matched.png").read_bytes().startswith(b"\x89PNG")
    assert "exactly" in block.caption


def test_without_a_model_or_images_there_is_no_figure(run: Path, run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Absent, match="no model"):
        matches.model_of(RunFolder(run_folder))
    (tmp_path / "model").mkdir()
    with pytest.raises(Missing, match="no model in"):
        matches.model_of(RunFolder(tmp_path))


def test_the_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "other"):
        seed = len(name)
        pixels = np.random.default_rng(seed).integers(0, 256, (60, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    words = ["explain", str(run), str(tmp_path / "one.png"), str(tmp_path / "other.png")]
    assert main([*words, "--out", str(tmp_path / "why.png")]) == 0
    assert "exactly" in capsys.readouterr().out
    assert (tmp_path / "why.png").read_bytes().startswith(b"\x89PNG")
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["exact"]
    assert np.sum(found["map_a"]) == pytest.approx(found["score"], abs=1e-5)
    assert main([*words, "--out", str(tmp_path / "why.jpg")]) == 2
    assert "--out why.png" in capsys.readouterr().err
    assert main(["explain", str(run), str(tmp_path / "none.png"), str(tmp_path / "one.png")]) == 2
    assert "none.png" in capsys.readouterr().err
