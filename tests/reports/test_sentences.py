"""Every sentence of the report follows from what is in the run folder; what does not is not said, and not drawn."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pullpush.data.items import Items
from pullpush.evaluation.protocols import evaluate_items
from pullpush.reports import interactive, projection, style
from pullpush.reports.context import Context
from pullpush.reports.layout import build, sentence
from pullpush.reports.tables import metric_rows
from pullpush.runs.reader import RunFolder


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures themselves have their own tests; here is what is said of them."""
    monkeypatch.setattr(style, "save", lambda draw, path, **options: style.Drawing(path, b"", b"", 5.0))
    monkeypatch.setattr(projection, "project", lambda embeddings, seed: (embeddings[:, :2], "PCA"))
    monkeypatch.setattr(interactive, "thumbnail_uri", lambda one, row, size: "")


class Said:
    """The sections of the report of a run, its figures, and all that it says."""

    def __init__(self, folder: Path) -> None:
        context = Context(RunFolder(folder))
        found = build(context)
        self.sections = [section.id for section in found]
        blocks = [block for section in found for block in section.blocks]
        self.figures = {block.figure.path.stem for block in blocks if block.figure}
        rows = metric_rows(context.known_metrics.get("test") or {})
        words = [sentence(context.run, context.known_metrics, rows, context.queried), *context.notes]
        words += [text for section in found for text in (section.title, section.lead)]
        for block in blocks:
            words += [block.heading, block.caption, block.alt, *block.head, *(c for row in block.rows for c in row)]
            words += block.lines
        self.text = re.sub(r"\s+", " ", "\n".join(words))


def copy_without(run: Path, target: Path, *missing: str) -> Path:
    shutil.copytree(run, target, ignore=shutil.ignore_patterns("plots", "report.html", *missing))
    return target


def write_metrics(run: Path, **metrics: object) -> None:
    (run / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")


def test_pairs_without_classes_have_no_sections_of_classes(new_run: Callable[[Path], Path], tmp_path: Path) -> None:
    """Each item is a class of its own: what is said of classes is left out, not drawn empty."""
    run = new_run(tmp_path / "run")
    items = Items.load(run / "items.parquet")
    n = len(items)
    table = items.table.assign(label=range(n), category="", text=[[f"item number {row}"] for row in range(n)])
    Items(table, [f"{row:03d} file.png" for row in range(n)], "pairs").save(run / "items.parquet")
    texts = table.explode("text")[["split", "id", "text"]].assign(label=table["id"])
    texts[["split", "label", "id", "text"]].to_parquet(run / "texts.parquet", index=False)
    shutil.copy(run / "embeddings" / "test-after.npy", run / "embeddings" / "test-after-text.npy")
    write_metrics(run, test={"after": {"text_to_image/recall@1": 1.0, "image_to_text/recall@1": 1.0}})
    said = Said(run)
    assert said.sections == ["texts", "training", "map", "how", "setup"]
    assert said.figures == {"text_to_image", "image_to_text", "loss", "validation_recall", "learning_rate"}
    assert "100.0% of the texts of unseen images find an image of their own first." in said.text
    for word in ("class", "before training", "R-precision", "NMI", "MAP@R", "Leave-one-out", "rank"):
        assert word not in said.text, word


@pytest.mark.parametrize("seen", ["none", "all", "some"])
def test_seen_classes_are_not_called_unseen(new_run: Callable[[Path], Path], tmp_path: Path, seen: str) -> None:
    run = new_run(tmp_path / "run")
    items = Items.load(run / "items.parquet")
    labels, test = items.table["label"].to_numpy(), (items.table["split"] == "test").to_numpy()
    first = labels[test].min()
    shared = {"none": test & False, "all": test, "some": test & (labels < first + 5)}[seen]
    labels = np.where(shared, (labels - first) % 20, labels)
    Items(items.table.assign(label=labels), items.classes, "shapes").save(run / "items.parquet")
    said = Said(run).text
    words = {"none": "unseen classes", "all": "seen classes", "some": "the test split"}[seen]
    assert f"queries of {words} find" in said
    assert ("No class is in two of the splits" in said) == (seen == "none")
    assert ("classes are in more than one split" in said) == (seen != "none")
    assert ("unseen" in said.replace("not one of unseen", "")) == (seen == "none")


@pytest.mark.parametrize("mined", [True, False])
def test_the_caption_of_the_losses_says_what_is_drawn(run_folder: Path, tmp_path: Path, mined: bool) -> None:
    run = copy_without(run_folder, tmp_path / "run", "items.parquet")
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    for line in lines:
        if "validation/loss_miner" in line:
            line["validation/loss_no_miner"] = line["validation/loss_miner"] - 0.5 * mined
    short = lines if mined else [line for line in lines if line["step"] <= 40]
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in short))
    said = Said(run).text
    assert ("The miner picks hard pairs" in said) == mined
    assert ("their moving average over 30 values on top" in said) == mined  # 40 values are drawn as they are
    assert "The validation loss on batches as in training compares" in said
    assert "neither trained on nor in the test" not in said  # without the items nobody knows
    kept = [{k: v for k, v in line.items() if not k.startswith("validation")} for line in lines]
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    without = Said(run)
    assert "validation loss" not in without.text
    assert "validation_recall" not in without.figures


def test_what_is_said_of_validation_and_the_sampler(
    run_folder: Path, new_run: Callable[[Path], Path], tmp_path: Path
) -> None:
    said = Said(run_folder).text
    assert said.count("neither trained on nor in the test") == 2
    assert "between 40 and 59, 50 on average" in said
    assert "The dotted line is at the step" in said
    run = new_run(tmp_path / "run")
    items = Items.load(run / "items.parquet")
    validation = (items.table["split"] == "validation").to_numpy()
    items.assign(label=np.where(validation, 0, items.table["label"])).save(run / "items.parquet")
    (run / "classes_seen.csv").write_text("class,items,drawn\n0,7,40\n1,7,40\n")
    write_metrics(run)
    said = Said(run).text
    assert "neither trained on nor in the test" not in said
    assert "from each of 2 training classes: 40." in said
    assert "The dotted line" not in said
    assert "The model is that of step" not in said


def test_a_perfect_run_has_no_mistakes(new_run: Callable[[Path], Path], tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    labels = Items.load(run / "items.parquet").split("test").table["label"].to_numpy()
    np.save(run / "embeddings" / "test-after.npy", np.eye(24, dtype=np.float32)[labels - labels.min()])
    (run / "embeddings" / "test-before.npy").unlink()
    said = Said(run)
    assert "mistakes" not in said.sections
    assert "retrieval" in said.figures
    assert "the same before and after" not in said.text  # there is no before


def test_without_categories_and_of_few_classes(new_run: Callable[[Path], Path], tmp_path: Path) -> None:
    """One category tells nothing apart; all of few classes are coloured; few classes have no bootstrap; PCA keeps
    distances."""
    run = new_run(tmp_path / "run")
    said = Said(run).text
    assert "By category" in said
    assert "up to 8 classes drawn at random" in said
    assert "with a 95% interval" in said
    assert "Distances between far groups" not in said
    items = Items.load(run / "items.parquet")
    items.assign(label=items.table["label"] % 4, category="one").save(run / "items.parquet")
    said = Said(run).text
    assert "By category" not in said
    assert "drawn at random are coloured" not in said
    assert "95% interval" not in said


@pytest.mark.parametrize("stated", [None, "own", "other"])
def test_a_recall_of_other_files_is_said_to_be(run_folder: Path, tmp_path: Path, stated: str | None) -> None:
    run = copy_without(run_folder, tmp_path / "run", "train-after.npy")
    items = Items.load(run / "items.parquet").split("test")
    own = evaluate_items(np.load(run / "embeddings" / "test-after.npy"), items).metrics["recall@1"]
    values = {None: {"nmi": 0.5}, "own": {"recall@1": own}, "other": {"recall@1": own - 0.01}}[stated]
    write_metrics(run, test={"after": values})
    said = Said(run).text
    assert f"recall@1 of the stored embeddings: {own:.3f}" in said
    assert ("This differs from metrics.json" in said) == (stated == "other")
    assert ("NMI: normalised" in said) == (stated is None)
    assert ("recall@k: the share" in said) == (stated is not None)
