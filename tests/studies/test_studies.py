"""The other studies: from the command line to their pages, and what they compute."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pullpush.cli.main import main
from pullpush.errors import UserError
from pullpush.studies.drift import drift_of, suggested_start
from pullpush.studies.grid import settings_of
from pullpush.studies.recorders import seconds_per_step
from pullpush.studies.tune import ranges_of


def check_page(path: Path) -> str:
    page = path.read_text()
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?https?:""", page)
    assert "How the numbers were obtained" in page
    return page


def test_losses(words: list[str], tmp_path: Path) -> None:
    assert (
        main(["study", "losses", "--losses", "circle,proxy_anchor", "--seeds", "1", *words, "--out", str(tmp_path)])
        == 0
    )
    for name in ("validation", "losses", "plane", "map-circle", "map-proxy_anchor"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    table = pd.read_csv(tmp_path / "table.csv")
    assert (table["ms_per_step"] > 0).all()
    assert set(table["steps_to_target"]) <= {0.0, 3.0, 6.0}  # 0: the untrained model has it
    gaps = pd.read_csv(tmp_path / "gap.csv").set_index("loss")
    assert gaps.loc["circle", ["training", "with_miner", "without_miner", "all_pairs"]].notna().all()
    assert "proxies of training classes" in check_page(tmp_path / "page.html")


def test_grid(words: list[str], tmp_path: Path) -> None:
    over = ["--over", "loss.margin=0.2,0.4", "batch.samples=2"]
    assert (
        main(
            ["study", "grid", *over, *words, "--loss", "triplet", "--steps", "3", "--jobs", "2", "--out", str(tmp_path)]
        )
        == 0
    )
    table = pd.read_csv(tmp_path / "table.csv")
    assert table[["loss.margin", "batch.samples"]].to_numpy().tolist() == [[0.2, 2], [0.4, 2]]
    check_page(tmp_path / "page.html")


def test_drift(words: list[str], tmp_path: Path) -> None:
    own = ["--losses", "contrastive", "--steps", "30", "--age", "10"]
    assert main(["study", "drift", *own, *(w for w in words if "steps" not in w), "--out", str(tmp_path)]) == 0
    found = pd.read_csv(tmp_path / "drift.csv")
    assert found[["step", "span"]].to_numpy().tolist() == [[20, 10], [30, 10]]
    assert (found["drift"] > 0).all()
    check_page(tmp_path / "page.html")


def test_tune_goes_on(words: list[str], tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    search = ["tune", "--loss", "circle", "--over", "loss.margin=0.1:0.8", *words, "--out", str(tmp_path)]
    assert main([*search, "--trials", "1"]) == 0
    first = (tmp_path / "runs" / "trial-0" / "metrics.json").stat().st_mtime_ns
    assert main([*search, "--trials", "2"]) == 0
    assert (tmp_path / "runs" / "trial-0" / "metrics.json").stat().st_mtime_ns == first
    table = pd.read_csv(tmp_path / "table.csv")
    assert len(table) == 2
    assert table["loss.margin"].between(0.1, 0.8).all()
    assert "recall@1" not in table  # test metrics of the runs not chosen stay unseen
    check_page(tmp_path / "page.html")


def test_drift_by_hand() -> None:
    steps = np.array([10, 20, 30])
    embeddings = np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, -1.0]]], np.float32)
    found = drift_of(steps, embeddings, spans=(10, 20))
    assert found.to_numpy().tolist() == [[20, 10, 1.0], [30, 10, 2.0], [30, 20, 3.0]]


def test_start_is_after_the_last_large_drift() -> None:
    drift = pd.DataFrame({"step": [110, 120, 130, 140], "span": 100, "drift": [0.5, 0.2, 0.05, 0.01]})
    assert suggested_start(drift, 100, 0.1) == 30
    assert suggested_start(drift, 100, 1.0) == 10
    assert suggested_start(drift, 100, 0.001) is None


def test_settings_and_ranges() -> None:
    assert settings_of("a.b=1,2 c=0.1:0.2:0.1") == [{"a.b": a, "c": c} for a in ("1", "2") for c in ("0.1", "0.2")]
    for wrong in ("", "a", "a=1 a=2"):
        with pytest.raises(UserError, match="--over"):
            settings_of(wrong)
    assert ranges_of("optimizer.lr=1e-4:1e-2:log")[0].log
    for wrong in ("", "a=1", "a=2:1", "a=0:1:log", "a=1:2:lin"):
        with pytest.raises(UserError, match="--over"):
            ranges_of(wrong)


def test_step_time_leaves_out_the_pause_of_a_resumed_run(tmp_path: Path) -> None:
    (tmp_path / "times.csv").write_text("\n1,0.0\n2,0.5\n3,1.0\n3,900.0\n4,900.5")
    assert seconds_per_step(tmp_path) == 0.5
