"""The section on pairs: the same or different."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import rc_context

from pullpush.encoders import Decision
from pullpush.evaluation import reliability, verify
from pullpush.reports import verification
from pullpush.reports.context import Context
from pullpush.reports.error_rates import LEAST, draw_errors, draw_pairs, draw_reliability
from pullpush.reports.style import DARK, LIGHT, settings
from pullpush.reports.verification import error_table, errors, reliable
from pullpush.runs.reader import Absent, RunFolder


def test_the_curves_are_those_of_verify(new_run: Callable[[Path], Path], tmp_path: Path) -> None:
    context = Context(RunFolder(new_run(tmp_path / "runs" / "shapes")))
    block = errors(context)
    table = context.test.table
    found = {
        when: verify(context.run.embeddings("test", when), table["label"].to_numpy(), table["id"].to_numpy())
        for when in ("before", "after")
    }
    assert f"after training {found['after'].metrics['eer']:.3f}" in block.caption
    assert (context.run.path / "plots" / "verification.png").exists()
    for theme in (LIGHT, DARK):
        with rc_context(settings(theme)):
            axes = draw_errors(found, theme).axes[0]
        curve, dot = (line.get_xydata() for line in axes.lines[2:])  # after training
        np.testing.assert_allclose(dot, [[found["after"].metrics["eer"]] * 2])
        assert (np.diff(curve[:, 0]) <= 0).all()  # a higher threshold accepts less
        assert (np.diff(curve[:, 1]) >= 0).all()
        assert axes.get_xlim() == (LEAST, 1)
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("false accept rate", "false reject rate")


def test_the_table_shows_what_the_run_measured(new_run: Callable[[Path], Path], tmp_path: Path) -> None:
    run = new_run(tmp_path / "runs" / "shapes")
    with pytest.raises(Absent, match="did not measure"):
        error_table(Context(RunFolder(run)))
    measured = {"eer": 0.1, "eer_low": 0.05, "eer_high": 0.2, "threshold": 0.3}
    measured |= {"tar@far=1e-3": None, "tar@far=1e-3_low": None, "tar@far=1e-3_high": None}
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["verification"] = {"after": measured, "calibration_error": 0.01}
    (run / "metrics.json").write_text(json.dumps(metrics))
    block = error_table(Context(RunFolder(run)))
    assert block.rows == [["equal error rate", "0.100 (0.050 to 0.200)"], ["true accepts at 1e-3 false accepts", "–"]]
    assert "0.0100" in block.caption


DECISION = Decision("logistic", (-1, 0, 1), (-9, -2, 9), (0.5,), (0.01,), 30)


def test_the_diagram_shows_how_the_probabilities_hold(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = Context(RunFolder(run_folder))
    monkeypatch.setattr(verification, "model_of", lambda run: SimpleNamespace(decision=None))
    with pytest.raises(Absent, match="no decision"):
        reliable(context)
    monkeypatch.setattr(verification, "model_of", lambda run: SimpleNamespace(decision=DECISION))
    block = reliable(context)
    found = reliability(DECISION, context.run.embeddings("test", "after"), context.test.table["label"].to_numpy())
    assert f"{found.error:.4f}" in block.caption
    for theme in (LIGHT, DARK):
        with rc_context(settings(theme)):
            axes, below = draw_reliability(found, theme).axes
        some = found.weight > 0
        np.testing.assert_allclose(
            axes.lines[1].get_xydata(), np.stack([found.predicted, found.observed], 1)[some], atol=1e-12
        )
        assert [bar.get_height() for bar in below.patches] == found.pairs.tolist()
        assert found.pairs.sum() == len(context.test) * (len(context.test) - 1) / 2
        assert f"{found.error:.3f}" in axes.get_title("left")


def test_the_figure_of_the_command_has_all_of_it(run_folder: Path) -> None:
    run = RunFolder(run_folder)
    labels = run.split("test").table["label"].to_numpy()
    x = run.embeddings("test", "after")
    found = verify(x, labels, replicates=0)
    with rc_context(settings(LIGHT)):
        roc, det, cosines, probabilities, _ = draw_pairs(found, reliability(DECISION, x, labels), LIGHT).axes
        assert len(draw_pairs(found, None, replace(LIGHT, narrow=True)).axes) == 3
    accepted, refused = (dict(axes.lines[0].get_xydata().tolist()) for axes in (roc, det))
    assert refused.keys() <= accepted.keys()
    assert len(refused) > 100
    assert "EER" in det.get_title("left")
    assert cosines.get_xlabel() == "cosine"
    assert "probabilities" in probabilities.get_title("left")
