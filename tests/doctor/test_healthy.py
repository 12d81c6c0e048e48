"""No finding on healthy runs; and what a finished run shows, on the command line and on its page."""

import importlib.util
import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pullpush
from pullpush.cli import main
from pullpush.criterion import Criterion, CrossBatchMemory
from pullpush.data.sources import open_items
from pullpush.doctor.declaration import Finding
from pullpush.doctor.diagnose import examine, explained_by
from pullpush.doctor.findings import FINDINGS
from pullpush.doctor.history import measure_course
from pullpush.doctor.objective import Objective
from pullpush.reports import diagnose_run, diagnosis_page
from pullpush.reports.diagnosis import Diagnosis
from pullpush.runs.log import read_log
from pullpush.training import train
from tests.support.bedside import Bedside, Options

DOCS = Path(__file__).parents[2] / "docs"


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def healthy(small: Options, tmp_path_factory: pytest.TempPathFactory) -> Path:
    # With this seed the two validation classes show a gain.
    options = {**small, "encoder": {"size": 32, "dim": 16}, "optimizer": {"lr": 5e-4}, "seed": 1}
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
    assert diagnose_run(healthy).findings == []
    looks = [line for line in read_log(healthy / "log.jsonl") if "monitor/nearest" in line]
    assert [look["step"] for look in looks] == [1, 4, 8, 10, 12]
    assert "Nothing is wrong" in diagnosis_page(healthy, diagnose_run(healthy)).read_text()


def test_alarms_of_healthy_runs_and_of_sick_ones_are_counted(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    alarms = script("alarms", monkeypatch)
    few = {"batch.classes": 2, "steps": 4, "validate_every": 2}
    alone = {**few, "batch.samples": 1}
    monkeypatch.setattr(alarms, "SEEDS", (0,))
    monkeypatch.setattr(alarms, "SICK_SEEDS", (0,))
    monkeypatch.setattr(alarms, "DATA", (lambda folder: open_items(photos),))
    monkeypatch.setattr(alarms, "HEALTHY", [alarms.Setting("plain", few)])
    monkeypatch.setattr(
        alarms,
        "SICK",
        [
            alarms.Setting("alone", alone, ("no_positives",), "--batch.samples"),
            alarms.Setting("other", alone, ("dead_dimensions",), "--encoder.dim"),
        ],
    )
    monkeypatch.setattr(alarms, "gain_of", lambda run: 0.1)
    monkeypatch.setattr("sys.argv", ["alarms.py", str(tmp_path)])
    for _ in range(2):  # the second time from what is there
        alarms.main()
        said = capsys.readouterr().out
        assert "1 healthy runs" in said
        assert "| `no_positives` | 0 of 1 | 1 of 1 |" in said
        assert "| `dead_dimensions` | 0 of 1 | 0 of 1 |" in said
        assert "| `not_normalised` | 0 of 1 | 1 of 1 |" in said


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
    assert re.findall(r'<section id="(\w+)"', page) == [finding["finding"] for finding in found]
    assert FINDINGS["learning_rate_too_high"].meaning in page
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


def test_every_finding_has_a_meaning_a_test_and_a_place_in_the_docs(monkeypatch: pytest.MonkeyPatch) -> None:
    tests = "".join((Path(__file__).parent / f"test_{name}.py").read_text() for name in ("findings", "border"))
    docs = (DOCS / "doctor.md").read_text()
    for name, declared in FINDINGS.items():
        assert declared.meaning.endswith("."), name
        assert FINDINGS.keys() >= set(declared.hides), name
        assert f'"{name}"' in tests, name
        assert f"`{name}`" in docs, name
        assert re.search(rf"\n\| `{name}` \| \d+ \|", docs), f"{name} is not among the alarms"
    assert script("build", monkeypatch).findings(docs) == docs, "run: python docs/build.py"


def test_arrays_of_a_healthy_run(healthy: Path) -> None:
    items = pullpush.Items.load(healthy / "items.parquet").split("train")
    embeddings = np.load(healthy / "embeddings" / "train-after.npy")
    assert pullpush.diagnose(embeddings, items.labels, items.ids, loss="multi_similarity") == []


def changed(run: Path, folder: Path, change: Callable[[Path], Any]) -> Diagnosis:
    copy = shutil.copytree(run, folder / "run")
    change(copy)
    return diagnose_run(copy)


def test_what_could_not_be_looked_at_is_named(healthy: Path, tmp_path: Path) -> None:
    whole = diagnose_run(healthy)
    assert whole.not_seen == []
    assert "as far as the doctor can see" in whole.sentence

    def without_test(run: Path) -> None:
        items = pullpush.Items.load(run / "items.parquet")
        items.select(items.table["split"].to_numpy() != "test").save(run / "items.parquet")
        (run / "embeddings" / "test-after.npy").unlink()
        (run / "metrics.json").write_text(json.dumps({"test": {"before": {}, "after": {}}}))

    found = changed(healthy, tmp_path / "a", without_test)
    assert found.findings == []
    assert "in what the doctor could look at" in found.sentence
    for part in ("test before training", "Embeddings of the test items", "queries have positives"):
        assert any(part in line for line in found.not_seen), part
    page = diagnosis_page(tmp_path / "a" / "run", found).read_text()
    assert "Not looked at" in page
    assert all(line.partition("'")[0] in page for line in found.not_seen)

    unfinished = changed(
        healthy, tmp_path / "b", lambda run: [(run / n).unlink() for n in ("metrics.json", "log.jsonl")]
    )
    assert any("did not come to its end" in line for line in unfinished.not_seen)
    assert any("How training went" in line for line in unfinished.not_seen)
    assert unfinished.source == "what else the run folder holds"
    assert whole.source == "5 looks of the monitor during training, the log and what else the run folder holds"


def test_embeddings_that_are_no_numbers_are_counted_and_the_others_looked_at(healthy: Path, tmp_path: Path) -> None:
    def spoil(run: Path) -> None:
        for name in ("test-after", "train-after"):
            x = np.load(run / "embeddings" / f"{name}.npy")
            x[:2] = np.nan
            np.save(run / "embeddings" / f"{name}.npy", x)

    found = changed(healthy, tmp_path, spoil)
    assert [f.finding for f in found.findings] == ["not_finite"]
    assert [line.partition(",")[0] for line in found.not_seen] == [
        "2 of the 8 test embeddings",
        "2 of the 16 train embeddings",
    ]


def test_old_findings_are_judged_by_the_thresholds_of_today(healthy: Path, tmp_path: Path) -> None:
    def say(run: Path) -> None:
        old = {"step": 8, "severity": "warning", "evidence": {"loss": 1.0}, "advice": "--loss.temperature 0.07."}
        lines = [{**old, "finding": name} for name in ("loss_at_chance", "weights_not_loaded")]
        (run / "findings.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    found = changed(healthy, tmp_path, say)
    assert [f.finding for f in found.findings] == ["weights_not_loaded"]  # which the folder does not tell again
    assert ["loss at chance at step 8" in note for note in found.notes] == [True]


def test_what_another_finding_explains_is_a_note(healthy: Path, tmp_path: Path) -> None:
    def reach_the_floor(run: Path) -> None:
        bare = {"monitor/floor": 3.8, "monitor/chance": 4.8, "monitor/temperature": 1.0}
        lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        for line in lines:
            line.update({"train/loss": 4.8 if line["step"] == 1 else 3.85} if "train/loss" in line else {})
            line.update(bare if "monitor/nearest" in line else {})
        (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    found = changed(healthy, tmp_path, reach_the_floor)
    assert [f.finding for f in found.findings] == ["loss_at_floor"]
    assert found.findings[0].evidence["step"] > 1
    assert found.notes == ["Temperature too high was seen as well: loss at floor explains it."]
    assert explained_by("near_collapse", ["moving_fast", "collapse"]) == "collapse"  # the first of another version
    assert explained_by("collapse", ["near_collapse"]) == ""


def test_one_finding_is_not_the_first_of_several(healthy: Path) -> None:
    one = Finding("worse_than_start", "critical", {"map@r_before": 0.1434, "map@r_after": 0.1431}, "Lower it.")
    assert replace(diagnose_run(healthy), findings=[one]).sentence == "1 critical."
    assert "Mend the first one first" in replace(diagnose_run(healthy), findings=[one, one]).sentence
    assert "MAP@R before training 0.1434, MAP@R after training 0.1431" in str(one)


def test_page_has_words_for_what_was_measured_and_no_backticks(healthy: Path) -> None:
    evidence = {"mean_cosine": 0.5, "queries_with_positive": 0.25, "first_tensor": "output of encode.head"}
    advice = "Lower the learning rate: --optimizer.lr 5e-05; or <b> look. `pullpush data a b` lists them."
    advice += ' Or --views.query "1 crop 0.7".'
    finding = Finding("collapse", "critical", evidence, advice)
    page = diagnosis_page(healthy, replace(diagnose_run(healthy), findings=[finding])).read_text()
    assert "mean cosine of unrelated items" in page
    assert "share of queries with a positive" in page
    assert "<code>--optimizer.lr 5e-05</code>; or &lt;b&gt; look. <code>pullpush data a b</code> lists them." in page
    assert "Or <code>--views.query &#34;1 crop 0.7&#34;</code>." in page
    assert "`" not in page
    diagnosis_page(healthy, diagnose_run(healthy))
