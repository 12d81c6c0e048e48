"""The margin study, from the command line to the page."""

import re
from pathlib import Path

import pandas as pd
import pytest

from pullpush.cli.main import main
from pullpush.errors import UserError
from pullpush.runs.config import write_config
from pullpush.runs.options import config_from, parse
from pullpush.studies import runner
from pullpush.studies.obtained import margin_meaning
from pullpush.studies.plan import StudyRun, numbers

STUDY = ["study", "margin", "--losses", "circle,triplet", "--margins", "0.2,0.4", "--seeds", "2"]


@pytest.fixture(scope="module")
def finished(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "whole"
    assert main([*STUDY, *words, "--out", str(out)]) == 0
    return out


def test_table_figures_and_page(finished: Path) -> None:
    table = pd.read_csv(finished / "table.csv")
    assert list(table.columns) == ["loss", "margin", "seed", "steps", "recall@1", "map@r", "seconds"]
    assert sorted(map(tuple, table[["loss", "margin", "seed"]].to_numpy().tolist())) == [
        (loss, margin, seed) for loss in ("circle", "triplet") for margin in (0.2, 0.4) for seed in (0, 1)
    ]
    assert table["recall@1"].between(0, 1).all()
    for name in ("margin.png", "curves.png"):
        assert (finished / name).read_bytes().startswith(b"\x89PNG")
    page = (finished / "page.html").read_text()
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?https?:""", page)
    assert "squared Euclidean" in page
    assert "relaxation m" in page
    assert "Seeds: 0, 1. Of fewer than four repeats the runs themselves" in page
    assert "Student" not in page
    found = pd.read_csv(finished / "difference.csv")
    assert sorted(set(found["metric"])) == ["map@r", "recall@1"]
    assert (found["seeds"] == 2).all()
    assert "Differences, paired by seed" in page
    assert page.count(" of 2 seeds") == len(found) / 2


def test_a_stopped_study_goes_on_to_the_same_table(
    finished: Path, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = runner.train, []

    class Killed(Exception):
        """As abrupt as a kill: nothing is saved on the way out."""

    def stop(run: object, step: int) -> None:
        if step == 5:
            raise Killed

    def dying(config: object, **options: object) -> Path:
        calls.append(options["resume"])
        return real(config, **{**options, "callbacks": [stop]} if len(calls) == 2 else options)

    monkeypatch.setattr(runner, "train", dying)
    with pytest.raises(Killed):
        main([*STUDY, *words, "--out", str(tmp_path)])
    first = next((tmp_path / "runs").glob("*/metrics.json"))
    written = first.stat().st_mtime_ns
    assert main([*STUDY, *words, "--out", str(tmp_path)]) == 0
    assert first.stat().st_mtime_ns == written
    assert len(calls) == 2 + 7  # the finished run is not repeated
    assert calls[2] is not None  # the killed one goes on from its checkpoint
    one, two = (pd.read_csv(out / "table.csv").drop(columns="seconds") for out in (finished, tmp_path))
    pd.testing.assert_frame_equal(one, two)


def test_runs_of_other_options_are_not_taken_for_these(
    finished: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*STUDY, *words, "--optimizer.lr", "0.01", "--out", str(finished)]) == 2
    assert "another --optimizer.lr:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        (["--losses", "circel"], "losses with a margin: .*circle"),
        (["--margin", "0.4"], "did you mean --margins"),
        (["--encoder.freez", "true"], "did you mean --encoder.freeze"),
        (["--margins", "0.4:1"], "--margins '0.4:1'"),
        (["--losses", "infonce"], "no option margin|is unknown"),
    ],
)
def test_wrong_options_are_named(
    typed: list[str], answer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", "margin", *typed, "--out", str(tmp_path / "study")]) == 2
    assert re.search(answer, capsys.readouterr().err)
    assert not (tmp_path / "study").exists()


def test_numbers_include_both_ends() -> None:
    assert numbers("0.4:1.0:0.1", "margins") == [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    with pytest.raises(UserError, match="empty"):
        numbers("1:0.5:0.1", "margins")


def test_margin_meaning_follows_the_similarity() -> None:
    assert "squared Euclidean" in margin_meaning(config_from({"loss": "triplet"}))
    assert "cosine similarity" in margin_meaning(config_from({"loss": "triplet", "similarity": "cosine"}))
    assert "d_p²" not in margin_meaning(config_from({"loss": "lifted_structure"}))
    assert "radians" in margin_meaning(config_from({"loss": "arcface"}))
    assert "multiplies the angle" in margin_meaning(config_from({"loss": "sphereface"}))
    assert margin_meaning(config_from({"loss": "nt_xent"})) == ""


def test_a_study_of_the_built_in_data_goes_on(tmp_path: Path) -> None:
    """The emoji reader's options hold a tuple, which YAML gives back as a list."""
    config = parse(["--data=emoji"])
    assert config.data.options["held_out"] == ()
    (tmp_path / "run").mkdir()
    write_config(config, tmp_path / "run" / "config.yaml")
    runner.check_same(StudyRun("run", config, {}), tmp_path / "run")
    config.data.options["held_out"] = ("google",)
    with pytest.raises(UserError, match="another --data"):
        runner.check_same(StudyRun("run", config, {}), tmp_path / "run")
