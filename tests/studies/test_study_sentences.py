"""Sentences of the pages of studies that depend on what was measured."""

from pathlib import Path

import pandas as pd
import pytest

from pullpush.errors import UserError
from pullpush.reports import style
from pullpush.studies.drift import _advice, _caption, check_age
from pullpush.studies.grid import _figures, _number, _shown
from pullpush.studies.losses import _summary, _targets
from pullpush.studies.margin import _sentence
from pullpush.studies.seeds import differences_of


def drift(*values: float, span: int = 100, seeds: int = 1) -> pd.DataFrame:
    rows = [(span + 10 * (i + 1), span, v, "circle", s) for i, v in enumerate(values) for s in range(seeds)]
    return pd.DataFrame(rows, columns=["step", "span", "drift", "loss", "seed"])


@pytest.mark.parametrize(
    ("measured", "steps", "answer"),
    [
        (drift(0.5, 0.4, span=10), 60, "was not measured: it takes runs of 110 steps, and these have 60"),
        (drift(0.5, 0.01), 120, "memory.start_step 20, as from there on"),
        (drift(0.05, 0.01), 120, "memory.start_step 10, as from there on"),
        (drift(0.5, 0.4), 120, "the mean squared change of the embeddings is 0.4, more than 0.1"),
        (drift(), 5, "was not measured: it takes runs of 110 steps, and these have 5"),
    ],
)
def test_drift_says_what_was_measured(measured: pd.DataFrame, steps: int, answer: str) -> None:
    said = _advice("circle", measured, steps, 100, 0.1)
    assert answer in said
    assert ("settle" in said) is False


def test_drift_is_of_one_seed_or_of_several_and_of_ages_that_are_measured() -> None:
    assert "seeds" not in _caption(drift(0.5))
    assert "Of fewer than four" in _caption(drift(0.5, seeds=2))
    assert "Student" in _caption(drift(0.5, seeds=4))
    check_age(100)
    with pytest.raises(UserError, match="--age 60"):
        check_age(60)


def grid(seeds: int) -> pd.DataFrame:
    rows = [
        (b, m, s, 0.5 + 0.01 * b + 0.1 * s, 0.3, 2.0, 0.4 + 0.01 * b)
        for b in (2, 16)
        for m in (0.1, 0.2)
        for s in range(seeds)
    ]
    columns = ["batch.samples", "loss.margin", "seed", "recall@1", "map@r", "seconds", "validation/map@r"]
    return pd.DataFrame(rows, columns=columns)


def test_a_grid_of_one_seed_has_no_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style, "save", lambda draw, path, **options: draw(style.LIGHT) and None)
    options = ["batch.samples", "loss.margin"]
    found = _figures(grid(1), options, tmp_path)
    assert [one.caption for one in found] == [
        "batch.samples, a line for each loss.margin, each point one run.",
        "loss.margin, a line for each batch.samples, each point one run.",
    ]
    assert differences_of(grid(1), options, [{"batch.samples": 16, "loss.margin": 0.1}]) == []
    assert "Student" in _figures(grid(4), options, tmp_path)[0].caption
    two = _figures(grid(2), options, tmp_path)[0].caption
    assert "mean over seeds" in two
    assert "Student" not in two


def test_numbers_of_a_grid_are_as_they_were_typed() -> None:
    assert [_number(text) for text in ("16", "0.5", "none")] == [16, 0.5, "none"]
    shown = _shown(grid(1), ["batch.samples", "loss.margin"])
    assert shown["batch.samples"].tolist() == [16, 16, 2, 2]
    assert shown["test recall@1"].tolist()[0] == "0.660"


def test_a_target_that_a_run_never_reached_has_no_mean() -> None:
    table = pd.DataFrame({"loss": "circle", "recall@1": [0.5, 0.6], "map@r": [0.1, 0.2], "ms_per_step": [2.0, 3.0]})
    table = table.assign(steps_to_target=[100.0, float("nan")], seconds_to_target=[1.0, float("nan")])
    (row,) = _summary(table).to_dict("records")
    assert row["steps to target"] == "not reached in 1 of 2"
    assert row["test recall@1"] == "0.550 (0.500, 0.600)"
    assert _targets(table.assign(steps_to_target=float("nan")), 0.5) == []
    assert "seconds are" not in _targets(table.assign(seconds_to_target=float("nan")), 0.5)[0]


def test_margins_that_make_no_difference_have_no_best() -> None:
    rows = [("circle", m, 0.5, 0.4 + m) for m in (0.2, 0.4)] + [("triplet", m, m, m) for m in (0.2, 0.4)]
    table = pd.DataFrame(rows, columns=["loss", "margin", "recall@1", "validation/map@r"])
    said = _sentence(table)
    assert "circle: test recall@1 0.500 at margin 0.2, 0.4." in said
    assert "triplet: test recall@1 from 0.200 (margin 0.2) to 0.400" in said
    assert "choose margin 0.4, which has 0.400" in said


def test_a_legend_is_not_wider_than_its_figure() -> None:
    figure, axes = style.panels(style.LIGHT, 1, width=4.8)
    for name in ("training", "validation, with the miner", "validation, without", "validation, all pairs"):
        axes[0].plot([0, 1], label=name)
    style.legend_below(figure, columns=4)
    figure.canvas.draw()
    assert figure.legends[0].get_window_extent().width <= figure.bbox.width
