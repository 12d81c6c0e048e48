"""The section on pairs: the same or different."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib import rc_context

from pullpush.evaluation import verify
from pullpush.reports.context import Context
from pullpush.reports.style import DARK, LIGHT, settings
from pullpush.reports.verification import LEAST, draw_errors, error_table, errors
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
