"""No finding on healthy runs; and what a finished run shows, on the command line and on its page."""

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bedside import Bedside, Options

import pullpush
from pullpush.cli import main
from pullpush.criterion import Criterion, CrossBatchMemory
from pullpush.doctor import FINDINGS, MEANINGS, Objective, examine, measure_course
from pullpush.reports import diagnose_run, diagnosis_page
from pullpush.training import train
from pullpush.training.log import read_log

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def healthy(small: Options, tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = {**small, "encoder": {"size": 32, "dim": 16}, "optimizer": {"lr": 5e-4}}
    return train(**options, out=str(tmp_path_factory.mktemp("runs") / "healthy"))


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        ("multi_similarity", {"miner": "multi_similarity"}),
        ("triplet", {}),
        ("contrastive", {"memory": CrossBatchMemory(400, dim=16)}),
        ("nt_xent", {}),
        ("circle", {}),
    ],
)
def test_nothing_is_found_in_healthy_training(watched: Any, loss: str, options: dict[str, Any]) -> None:
    bedside: Bedside = watched(Criterion(loss, **options), loss=loss, optimizer={"lr": 2e-3})
    assert not bedside.found
    assert len(bedside.monitor.history.looks) == 5


def test_two_equal_pictures_in_one_batch_of_many_are_no_finding() -> None:
    """Of 32 batches one had four items of 128 with an equal one of another class: 0.1% of all that were seen."""
    looks = [{"step": 10.0 * i, "embeddings/items": 128.0, "duplicates": 0.0} for i in range(31)]
    once = [*looks, {"step": 320.0, "embeddings/items": 128.0, "duplicates": 4 / 128}]
    assert measure_course(once, [])["duplicates"] == pytest.approx(4 / (32 * 128))
    assert not examine(measure_course(once, []), Objective())
    always = [{**look, "duplicates": 4 / 128} for look in looks]
    assert [each.finding for each in examine(measure_course(always, []), Objective())] == ["false_negatives"]
    assert not examine(measure_course(always[:1], []), Objective())  # one batch says too little


def test_nothing_is_found_in_a_healthy_run(healthy: Path) -> None:
    assert (healthy / "findings.jsonl").read_text() == ""
    assert diagnose_run(healthy) == []
    looks = [line for line in read_log(healthy / "log.jsonl") if "monitor/nearest" in line]
    assert [look["step"] for look in looks] == [1, 4, 8, 10, 12]
    assert "Nothing is wrong" in diagnosis_page(healthy, []).read_text()


def test_alarms_are_counted_over_runs(
    healthy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["alarms.py", str(healthy)])
    runpy.run_path(str(DOCS / "alarms.py"), run_name="__main__")
    assert capsys.readouterr().out == "1 runs: no finding\n"


def test_findings_of_a_run_on_the_command_line(
    small: Options, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**small, "loss": {"name": "n_pair", "temperature": 1.0}, "optimizer": {"lr": 1.0}}
    run = train(**options, out=str(tmp_path / "run"))
    said = capsys.readouterr().out
    # Once each, with the cure, while it went.
    for name in ("temperature_too_high", "learning_rate_too_high"):
        assert said.count(name) == 1
    assert "--loss.temperature 0.07" in said
    assert main(["diagnose", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"temperature_too_high", "learning_rate_too_high"} <= {finding["finding"] for finding in found}
    assert all(set(finding) == {"finding", "severity", "evidence", "advice"} for finding in found)
    assert main(["diagnose", str(run)]) == 0
    assert "--loss.temperature 0.07" in capsys.readouterr().out
    page = (run / "diagnosis.html").read_text()
    assert page.count("<section") == len(found)
    assert MEANINGS["learning_rate_too_high"] in page
    assert "http" not in page.replace("http-equiv", "")
    assert main(["diagnose", str(tmp_path)]) == 2
    assert "no run folder" in capsys.readouterr().err


def test_monitor_of_a_resumed_run_says_nothing_twice(small: Options, tmp_path: Path) -> None:
    options = {**small, "loss": {"name": "n_pair", "temperature": 1.0}, "checkpoint_every": 5, "steps": 10}

    def stop(run: Any, step: int) -> None:
        if step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(**options, callbacks=[stop], out=str(tmp_path / "run"))
    train(resume=tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "findings.jsonl").read_text().splitlines()]
    assert [line["finding"] for line in lines].count("temperature_too_high") == 1


def test_every_finding_has_a_meaning_a_test_and_a_place_in_the_docs() -> None:
    tests = (Path(__file__).parent / "test_findings.py").read_text()
    docs = (DOCS / "doctor.md").read_text()
    assert FINDINGS.keys() == MEANINGS.keys()
    for name in FINDINGS:
        assert f'"{name}"' in tests, name
        assert f"`{name}`" in docs, name


def test_arrays_of_a_healthy_run(healthy: Path) -> None:
    items = pullpush.Items.load(healthy / "items.parquet").split("train")
    embeddings = np.load(healthy / "embeddings" / "train-after.npy")
    assert pullpush.diagnose(embeddings, items.labels, items.ids, loss="multi_similarity") == []
