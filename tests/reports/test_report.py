"""A whole report: self-contained, complete, the same again, and standing when parts of the run are not there."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pullpush import reports
from pullpush.errors import UserError

PLOTS = {
    "retrieval",
    "worst_queries",
    "confused_classes",
    "loss",
    "validation_recall",
    "learning_rate",
    "classes_seen",
    "similarities",
    "class_recall",
    "verification",
    "maps",
}
# Drawn once more for phones.
WIDE = {"retrieval", "worst_queries", "maps"}
SECTIONS = ["retrieval", "mistakes", "training", "classes", "verification", "map", "how", "setup"]


class Page(HTMLParser):
    """Collects tags with their attributes, and the text outside of scripts and styles."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._silent = False
        html = path.read_text(encoding="utf-8")
        self.figures = re.findall(r"<figure.*?</figure>", html, re.S)
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._silent = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._silent = False

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.text += data

    @property
    def ids(self) -> list[str | None]:
        return [attrs.get("id") for _, attrs in self.tags]


def test_nothing_is_loaded_from_elsewhere(page: Path) -> None:
    for tag, attributes in Page(page).tags:
        for name in ("src", "srcset", "data", "poster", "action"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, name)
        assert tag not in ("link", "iframe", "object", "embed")
        assert (attributes.get("href") or "#").startswith("#"), tag
    styles = re.findall(r"<style>(.*?)</style>", page.read_text(encoding="utf-8"), re.S)
    assert styles
    assert not any("url(" in style or "@import" in style for style in styles)
    assert page.stat().st_size < 8e6


def test_every_picture_is_one_and_has_a_text(page: Path) -> None:
    parsed = Page(page)
    uris = [a["src"] for t, a in parsed.tags if t == "img"] + [a["srcset"] for t, a in parsed.tags if t == "source"]
    narrow = [image for image in parsed.figures if image.count("max-width: 640px") == 2]
    assert len(uris) == 2 * (len(PLOTS) + len(narrow))  # light and dark, and once more for phones
    assert {f'id="figure-{name}"' for name in WIDE} <= {re.search(r'id="[^"]*"', image).group() for image in narrow}
    for uri in uris:
        kind, data = re.fullmatch(r"data:image/(png|webp);base64,([A-Za-z0-9+/=]+)", uri or "").groups()
        image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
        image.load()
        assert image.format == kind.upper()
    assert all(a["alt"] for t, a in parsed.tags if t == "img")


def test_every_section_and_plot_is_there(page: Path) -> None:
    parsed = Page(page)
    assert [i for i in parsed.ids if i in SECTIONS] == SECTIONS
    assert len(set(parsed.ids) - {None}) == len([i for i in parsed.ids if i])
    assert {f"figure-{plot}" for plot in PLOTS} | {"result", "interactive"} <= set(parsed.ids)
    assert {p.stem for p in (page.parent / "plots").glob("*.png")} == PLOTS
    assert not [a for _, a in parsed.tags if "missing" in (a.get("class") or "")]
    for plot in PLOTS:
        pixels = np.asarray(Image.open(page.parent / "plots" / f"{plot}.png").convert("L"))
        assert pixels.std() > 4, f"{plot} is nearly empty"


def test_the_numbers_stand_in_the_text(page: Path) -> None:
    text = re.sub(r"\s+", " ", Page(page).text)
    assert "After 300 steps with the loss circle on shapes (1 min 23 s), 83.8% of the queries" in text
    assert "before training it was 41.2%." in text
    assert text.count("0.412") >= 8
    assert "+0.425" in text
    assert "No class is in two of the splits" in text
    assert "each of 144 items is a query against all others" in text
    assert "2 files were left out." in text
    assert "margin: 0.4" in text
    assert "between 40 and 59" in text
    assert "The model is that of step 270" in text
    assert "As the run recorded it." in text
    assert "This differs from metrics.json" in text  # the fixture's metrics are invented


def test_names_are_escaped(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    assert "<thing>" not in html


def test_drawn_again_it_shows_the_same(page: Path) -> None:
    plots = {p.name: p.read_bytes() for p in (page.parent / "plots").iterdir()}
    text = Page(page).text
    assert reports.report(page.parent) == page
    assert Page(page).text == text
    assert {p.name: p.read_bytes() for p in (page.parent / "plots").iterdir()} == plots
    assert not list(page.parent.rglob("*.part"))


def copy_without(run: Path, target: Path, *missing: str) -> Path:
    shutil.copytree(run, target, ignore=shutil.ignore_patterns("plots", "report.html", *missing))
    return target


ITEM_PLOTS = {"retrieval", "verification", "worst_queries", "confused_classes", "similarities", "class_recall", "maps"}
LOG_PLOTS = {"loss", "validation_recall", "learning_rate"}


@pytest.mark.parametrize(
    ("missing", "sentences", "gone", "sections"),
    [
        (
            ("metrics.json", "config.yaml", "classes_seen.csv", "test-before.npy", "train-after.npy"),
            (
                "metrics.json is not in the run folder.",
                "config.yaml is not in the run folder.",
                "After 300 steps, no evaluation of the test split was recorded.",
                "The map of the training classes was left out: embeddings/train-after.npy is not in the run folder.",
            ),
            {"classes_seen"},
            SECTIONS,
        ),
        (
            ("log.jsonl", "items.parquet"),
            ("log.jsonl is not in", "items.parquet is not in"),
            ITEM_PLOTS | LOG_PLOTS,
            ["training", "setup"],
        ),
        (
            ("test-after.npy",),
            ("embeddings/test-after.npy is not in the run folder.",),
            ITEM_PLOTS,
            ["training", "map", "how", "setup"],
        ),
    ],
)
def test_missing_parts_are_left_out_and_named_below(
    run_folder: Path,
    tmp_path: Path,
    missing: tuple[str, ...],
    sentences: tuple[str, ...],
    gone: set[str],
    sections: list[str],
) -> None:
    run = copy_without(run_folder, tmp_path / "run", *missing)
    parsed = Page(reports.report(run))
    for sentence in sentences:
        assert parsed.text.count(sentence) == 1
    assert {p.stem for p in (run / "plots").glob("*.png")} == PLOTS - gone
    assert [i for i in parsed.ids if i in SECTIONS] == sections


def test_a_run_that_has_only_begun_gives_a_page_and_what_is_no_run_an_error(tmp_path: Path) -> None:
    (tmp_path / "begun").mkdir()
    with pytest.raises(UserError, match="begun' is no run folder"):
        reports.report(tmp_path / "begun")
    assert not list((tmp_path / "begun").iterdir())
    (tmp_path / "begun" / "config.yaml").write_text("steps: 5\n", encoding="utf-8")
    text = Page(reports.report(tmp_path / "begun")).text
    assert "no evaluation of the test split was recorded" in text
    assert "the table of before and after is left out" in text
    assert "unseen" not in text
    with pytest.raises(UserError, match="nowhere"):
        reports.report(tmp_path / "nowhere")


@pytest.mark.parametrize(("after", "worse"), [(0.3, True), (0.39, True), (0.399, False), (0.5, False)])
def test_a_result_worse_than_untrained_is_said_in_words_and_colour(tmp_path: Path, after: float, worse: bool) -> None:
    test = {"before": {"recall@1": 0.4}, "after": {"recall@1": after}}
    (tmp_path / "metrics.json").write_text(json.dumps({"test": test}), encoding="utf-8")
    html = reports.report(tmp_path).read_text()
    assert ("The trained model is worse than the untrained one." in html) == worse
    assert ('class="after worse"' in html) == worse
    assert ('class="numbers worse"' in html) == worse


def test_a_damaged_run_is_reported_as_far_as_it_goes(run_folder: Path, tmp_path: Path) -> None:
    run = copy_without(run_folder, tmp_path / "run")
    with (run / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"step": 300, "train/loss": 0.12')  # killed while writing
    (run / "metrics.json").write_text("{", encoding="utf-8")
    np.save(run / "embeddings" / "test-before.npy", np.zeros((3, 4), np.float32))
    np.save(run / "embeddings" / "test-after.npy", np.full((144, 4), np.nan, np.float32))
    with pytest.warns(UserWarning, match="damaged") as warned:
        text = Page(reports.report(run)).text
    assert "Line 311 of log.jsonl is cut off" in text
    assert "'metrics.json' is damaged or of another kind: it is not JSON" in text
    said = " ".join(str(warning.message) for warning in warned)
    assert "metrics.json" in said
    assert "test-after.npy" in said
    assert "log.jsonl" not in said
    assert "embeddings/test-after.npy holds values that are not finite." in text


def test_pictures_that_cannot_be_opened_and_metrics_of_one_side_only(
    new_run: Callable[[Path], Path], tmp_path: Path
) -> None:
    run = new_run(tmp_path / "run")
    shutil.rmtree(tmp_path / "pictures")
    after = {"recall@1": 0.5, "nmi": 0.25}
    (run / "metrics.json").write_text(json.dumps({"test": {"after": after}}), encoding="utf-8")
    text = Page(reports.report(run)).text
    assert {p.stem for p in (run / "plots").glob("*.png")} == PLOTS
    assert "50.0% of the queries" in text
    assert "NMI" in text
    assert "recall@2" not in text.rpartition("What do these numbers mean?")[0]
