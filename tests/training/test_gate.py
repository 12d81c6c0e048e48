"""A run never hands back a model that its validation classes do not show to be better than the untrained one."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pullpush
from pullpush.evaluation import evaluate_items
from pullpush.runs.checkpoint import load_checkpoint
from pullpush.runs.gain import Gain, gain_over_start, kept_sentence
from pullpush.runs.log import read_log
from pullpush.runs.neighbours import save_neighbours
from pullpush.training import train

Options = dict[str, Any]


@pytest.fixture(scope="module")
def harmful(small: Options) -> Options:
    """Steps so large that the pretrained weights are lost."""
    encoder = {"size": 32, "dim": 16, "frozen_stages": 0}
    alone = {"average": {"ema": 0, "blend": False}, "on_collapse": "warn"}
    return {**small, **alone, "encoder": encoder, "optimizer": {"lr": 1.5e-2}, "batch": {"classes": 4, "samples": 3}}


@pytest.fixture(scope="module")
def harmed(harmful: Options, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(**harmful, out=str(tmp_path_factory.mktemp("runs") / "harmed"))


def metrics_of(run: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    return metrics


def test_where_training_did_harm_the_start_is_the_model(harmed: Path) -> None:
    metrics = metrics_of(harmed)
    assert metrics["gain"].pop("shown") is False
    gain = Gain(**metrics["gain"])
    assert (metrics["kept"], metrics["best_step"], gain.shown) == ("start", 0, False)
    assert gain.difference == pytest.approx(gain.trained - gain.start)
    first = next(line for line in read_log(harmed / "log.jsonl") if "validation/map@r" in line)
    assert first["step"] == 0
    assert gain.start == pytest.approx(first["validation/map@r"], abs=1e-12)
    assert metrics["validation"] == {k[11:]: v for k, v in first.items() if k.startswith("validation/")}
    assert metrics["test"]["after"] == metrics["test"]["before"]
    for name in ("test", "validation"):
        for folder, kind in (("embeddings", "npy"), ("neighbours", "npz")):
            before, after = (harmed / folder / f"{name}-{when}.{kind}" for when in ("before", "after"))
            if name == "test" or kind == "npy":
                assert before.read_bytes() == after.read_bytes()
    test = pullpush.Items.load(harmed / "items.parquet").split("test")
    embeddings = pullpush.load(harmed).embed([test.path(row) for row in range(len(test))])
    np.testing.assert_allclose(embeddings, np.load(harmed / "embeddings" / "test-before.npy"), atol=1e-5)
    # What training found stays: the best of its weights, and the last.
    steps = [load_checkpoint(harmed / "checkpoints" / f"{name}.pt") for name in ("best", "last")]
    assert [steps[0]["step"], steps[1]["saved"]["step"]] == [steps[1]["saved"]["best"]["step"], 12]


def test_without_the_gate_the_trained_weights_are_the_model(harmful: Options, harmed: Path, tmp_path: Path) -> None:
    run = train(**harmful, gate=False, out=str(tmp_path / "run"))
    metrics, gated = metrics_of(run), metrics_of(harmed)
    assert (metrics["kept"], metrics["gain"]) == ("trained", gated["gain"])
    assert metrics["best_step"] > 0
    assert metrics["test"]["after"]["map@r"] < metrics["test"]["before"]["map@r"] == gated["test"]["after"]["map@r"]


def test_without_validation_classes_training_is_kept_and_said_to_be_unproved(
    harmful: Options, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {**harmful["data"], "validation": 0.0}
    run = train(**{**harmful, "data": data, "steps": 2}, out=str(tmp_path / "run"))
    metrics = metrics_of(run)
    assert (metrics["kept"], metrics["gain"], metrics["validation"]) == ("trained", None, {})
    assert "nothing shows that they are better than the untrained model" in capsys.readouterr().out
    assert (run / "checkpoints" / "start.pt").exists()  # for a collapse, which needs no validation to be seen


def test_the_gain_is_that_of_queries_and_its_error_that_of_classes(harmed: Path, tmp_path: Path) -> None:
    table = pullpush.Items.load(harmed / "items.parquet")
    table.save(tmp_path / "items.parquet")
    items = table.split("validation")
    before = evaluate_items(np.load(harmed / "embeddings" / "validation-before.npy"), items, nmi=False)
    save_neighbours(tmp_path, "validation-before", before)
    rng = np.random.default_rng(0)
    scores = before.per_query["map@r"] + rng.normal(size=len(items)) + 2
    after = replace(before, per_query=before.per_query.assign(**{"map@r": scores}))
    gain = gain_over_start(tmp_path, after, "map@r")
    change = (scores - before.per_query["map@r"]).to_numpy()
    one, other = (change[items.labels.numpy() == label] for label in items.labels.unique().tolist())
    assert gain.difference == pytest.approx(change.mean())
    # Of two classes of one size, half the distance of their means.
    assert (len(one), gain.classes) == (len(other), 2)
    assert gain.error == pytest.approx(abs(one.mean() - other.mean()) / 2)
    assert gain.shown
    assert not replace(gain, difference=0.5 * gain.error).shown
    assert replace(gain, difference=0.51 * gain.error).shown
    assert gain_over_start(tmp_path, before, "map@r").shown is False  # equal is no gain
    alone = replace(before, per_query=before.per_query.assign(label=0))
    assert gain_over_start(tmp_path, alone, "map@r") is None
    (tmp_path / "neighbours" / "validation-before.npz").unlink()
    assert gain_over_start(tmp_path, after, "map@r") is None


def test_a_gain_on_few_classes_is_said_to_be_uncertain() -> None:
    gain = Gain("map@r", 0.502, 0.594, 0.092, 0.045, 6)
    metrics = {"kept": "trained", "share": 1.0, "gain": gain.values()}
    assert kept_sentence(metrics).endswith("6 classes are few: a gain on them may not be one on others.")
    assert kept_sentence(metrics | {"gain": replace(gain, classes=10).values()}).endswith("standard error 0.0450).")
    assert "are few" not in kept_sentence(metrics | {"kept": "start"})
