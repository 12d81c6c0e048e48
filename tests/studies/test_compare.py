"""Runs side by side: numbers against loops, laws, tests that differ, the page and the command."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from pullpush.cli import main
from pullpush.data.items import Items
from pullpush.errors import UserError
from pullpush.evaluation import evaluate_items
from pullpush.runs.reader import RunFolder
from pullpush.studies import compare, draw_comparison
from tests.reports.conftest import make_run
from tests.support.browser import browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["browser"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs on the same pictures, whose embeddings, loss and one option differ."""
    folder = tmp_path_factory.mktemp("compared")
    one, other = make_run(folder / "one", seed=0), make_run(folder / "other", seed=1)
    (other / "config.yaml").write_text("loss:\n  name: triplet\n  margin: 0.4\nseed: 0\nout: elsewhere\n")
    return one, other


@pytest.fixture
def copies(runs: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """The same, to be changed."""
    return tuple(Path(shutil.copytree(run, tmp_path / run.name)) for run in runs)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def page(runs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_comparison(compare(*runs), tmp_path_factory.mktemp("page") / "both.html")


def cosines(run: Path) -> np.ndarray:
    x = np.load(run / "embeddings" / "test-after.npy").astype(np.float64)
    return np.asarray((x / np.linalg.norm(x, axis=1, keepdims=True)) @ (x / np.linalg.norm(x, axis=1, keepdims=True)).T)


def test_scores_and_intervals_equal_float64_loops(runs: tuple[Path, Path]) -> None:
    labels = RunFolder(runs[0]).split("test").table["label"].to_numpy()
    hits = []
    for run in runs:
        similarity = cosines(run)
        np.fill_diagonal(similarity, -np.inf)
        hits.append([float(labels[row.argmax()] == own) for row, own in zip(similarity, labels, strict=True)])
    one, other = np.array(hits)
    by_class = {label: np.flatnonzero(labels == label) for label in np.unique(labels)}
    names, generator, drawn = list(by_class), np.random.default_rng(0), []
    for _ in range(1000):
        chosen = np.concatenate([by_class[names[at]] for at in generator.integers(len(names), size=len(names))])
        drawn.append((other[chosen].mean(), (other - one)[chosen].mean()))
    (low, least), (high, most) = np.quantile(drawn, [0.025, 0.975], axis=0)

    score = compare(*runs).score("recall@1", 1)
    np.testing.assert_allclose(score.after, [other.mean(), low, high], rtol=1e-12)
    assert score.difference is not None
    np.testing.assert_allclose(score.difference, [(other - one).mean(), least, most], atol=1e-12)
    assert (score.won, score.lost) == ((other > one).sum(), (other < one).sum())
    assert (score.queries, score.classes) == (len(labels), len(names))


def test_a_run_beside_itself_differs_by_exactly_nothing(runs: tuple[Path, Path]) -> None:
    found = compare(runs[0], runs[0], runs[1])
    assert [each.name for each in found.runs] == ["one", "one (2)", "other"]
    for score in (*found.scores, *found.groups):
        if score.run == "one (2)":
            assert score.difference == (0, 0, 0)
            assert score.won == score.lost == 0
    assert (np.nan_to_num(found.won(1)) == 0).all()


def test_differences_turn_their_sign_with_the_order(runs: tuple[Path, Path]) -> None:
    there, back = compare(*runs).score("map@r", 1).difference, compare(*runs[::-1]).score("map@r", 1).difference
    assert there is not None
    assert back is not None
    np.testing.assert_allclose([-there.mean, -there.high, -there.low], back, atol=1e-12)


def test_groups_options_findings_and_plain_values(runs: tuple[Path, Path]) -> None:
    found = compare(*runs)
    assert found.options == {"loss.name": ["circle", "triplet"]}  # where a run lies is no option of it
    assert [(each.group, each.run) for each in found.groups] == [
        (("category", value), name) for value in ("round", "square") for name in ("one", "other")
    ]
    table = RunFolder(runs[1]).split("test").table
    recall = found.runs[1].after.per_query["recall@1"][(table["category"] == "round").to_numpy()].mean()
    assert found.groups[1].after.mean == pytest.approx(recall, rel=1e-12)
    assert set(found.findings) == {"one", "other"}
    plain = json.loads(json.dumps(found.json(), allow_nan=False))
    assert [each["seconds"] for each in plain["runs"]] == [83.0, 83.0]
    assert plain["scores"][0]["difference"] is None
    assert plain["scores"][1]["difference_low"] <= plain["scores"][1]["difference"]
    assert 0 < plain["scores"][0]["before"] < plain["scores"][0]["after"]


def test_other_tests_are_compared_on_what_they_share(copies: tuple[Path, Path]) -> None:
    """The second run is tested on half of the classes, in another order, from a folder elsewhere."""
    one, other = copies
    whole = Items.load(other / "items.parquet")
    test, tested = whole.split("test"), np.flatnonzero(whole.table["split"] == "test")
    kept = np.flatnonzero(test.table["label"] % 2 == 0)[::-1]
    order = np.concatenate([np.flatnonzero(whole.table["split"] != "test"), tested[kept]])
    whole.select(order).save(other / "items.parquet")
    for when in ("before", "after"):
        path = other / "embeddings" / f"test-{when}.npy"
        np.save(path, np.load(path)[kept])

    found = compare(one, other)
    assert len(found.items) == len(kept)
    assert "other test splits" in " ".join(found.notes)
    for run, rows in ((one, np.sort(kept)), (other, np.arange(len(kept))[::-1])):
        place = (one, other).index(run)
        x = np.load(run / "embeddings" / "test-after.npy")[rows]
        expected = evaluate_items(x, test.select(np.sort(kept)), nmi=False).metrics
        assert found.score("map@r", place).after.mean == pytest.approx(expected["map@r"], abs=1e-12)
    back = compare(other, one)
    assert back.score("map@r", 0).after.mean == pytest.approx(found.score("map@r", 1).after.mean, abs=1e-12)

    moved = Items.load(other / "items.parquet")
    paths = [f"elsewhere/{Path(path).name}" for path in moved.table["path"]]
    moved.assign(path=pd.Series(paths, dtype=object)).save(other / "items.parquet")
    by_id = compare(one, other)
    assert [each.after for each in by_id.scores] == [each.after for each in found.scores]


def test_what_cant_be_compared_says_why(copies: tuple[Path, Path], tmp_path: Path) -> None:
    one, other = copies
    with pytest.raises(UserError, match="give two run folders"):
        compare(one)
    with pytest.raises(UserError, match="there is no run folder"):
        compare(one, tmp_path / "nowhere")

    items = Items.load(other / "items.parquet")
    renamed = [f"{name} again" for name in items.classes]
    Items(items.table, renamed, items.name).save(other / "items.parquet")
    with pytest.raises(UserError, match=r"other rules: the class of .*no\. 26.*no\. 26 again.*144 such items"):
        compare(one, other)

    strange = items.assign(path=[f"x/{n}.png" for n in range(len(items))])
    strange.save(other / "items.parquet")
    with pytest.raises(UserError, match="'one' and 'other' are tested on other items"):
        compare(one, other)

    items.save(other / "items.parquet")
    (other / "embeddings" / "test-after.npy").unlink()
    with pytest.raises(UserError, match=r"test-after\.npy is not in the run folder\. Has the run come to its end"):
        compare(one, other)


def test_an_untested_start_and_a_damaged_file(copies: tuple[Path, Path]) -> None:
    one, other = copies
    (other / "embeddings" / "test-before.npy").unlink()
    found = compare(one, other)
    assert np.isnan(found.score("recall@1", 1).before)
    assert found.score("recall@1", 0).before > 0
    (other / "metrics.json").write_text("{")
    with pytest.raises(UserError, match=r"metrics\.json"):
        compare(one, other).json()


def test_images_without_classes_are_compared_by_their_texts(copies: tuple[Path, Path], tmp_path: Path) -> None:
    for run in copies:
        items = Items.load(run / "items.parquet")
        alone = [f"item {row}" for row in range(len(items))]
        Items(items.table.assign(label=range(len(items)), id=range(len(items))), alone).save(run / "items.parquet")
        table = Items.load(run / "items.parquet").table
        texts = table.assign(text=[f"text {row}" for row in range(len(table))])[["split", "label", "id", "text"]]
        texts.to_parquet(run / "texts.parquet")
        x = np.load(run / "embeddings" / "test-after.npy")
        noise = np.random.default_rng(len(run.name)).normal(scale=0.2, size=x.shape)
        np.save(run / "embeddings" / "test-after-text.npy", (x + noise).astype(np.float32))
    found = compare(*copies)
    assert found.asked == "texts"
    for place, run in enumerate(copies):
        images, texts = (np.load(run / "embeddings" / f"test-after{side}.npy") for side in ("", "-text"))
        images, texts = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (images, texts))
        right = (texts.astype(np.float64) @ images.T.astype(np.float64)).argmax(1) == np.arange(len(images))
        assert found.score("recall@1", place).after.mean == pytest.approx(right.mean(), abs=1e-12)
    page = draw_comparison(found, tmp_path / "texts.html").read_text(encoding="utf-8")
    assert "144 texts that search images" in page
    (copies[1] / "embeddings" / "test-after-text.npy").unlink()
    with pytest.raises(UserError, match="compared by their texts"):
        compare(*copies)


def test_the_page_is_one_file_with_everything(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<code>pullpush diagnose RUN</code>" in text
    assert "`" not in re.sub(r"data:image/[^\"]+", "", text)
    for title in ("Metrics", "Won and lost: other", "By category", "Runs", "Findings", "How the numbers were obtained"):
        assert f"<h2>{title}</h2>" in text
    assert "loss.name" in text
    assert "loss.margin" not in text
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?https?:""", text)
    assert [path.name for path in page.parent.iterdir()] == ["both.html"]


def test_the_command(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Path] = []
    monkeypatch.setattr("pullpush.studies.compare_page.draw_comparison", lambda found, out: drawn.append(out) or out)
    words = ["compare", *map(str, runs), "--out", str(tmp_path / "both.html")]
    assert main(words) == 0
    assert "Of 144 queries of 24 classes of the test, one finds" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["queries"] == 144
    assert drawn == [tmp_path / "both.html"] * 2
    assert main(["compare", str(runs[0])]) == 2
    assert main(["compare"]) == 2


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_the_page_fits_a_phone(browser: Browser, page: Path, width: int, scheme: str) -> None:
    view = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    problems: list[str] = []
    view.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
    view.goto(page.as_uri())
    assert not problems
    assert view.evaluate("document.documentElement.scrollWidth") == width
    assert view.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    view.close()
