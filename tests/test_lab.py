"""The lab of several data sets: goes on after a kill, says what its results say, and trains PML's loops."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import lab, lab_runs
from benchmarks.lab_runs import Run, measured, split
from benchmarks.lab_settings import SETTINGS, DataSet
from benchmarks.lab_table import (
    BEGIN,
    DOCS,
    END,
    Results,
    current,
    differences,
    left_out,
    markdown,
    pairs,
    said,
    tables,
    write_docs,
)
from pullpush.encoders.encoder import Encoder
from pullpush.training.loop import train
from pullpush.training.task import Task
from tests.support.fake import write_folder
from tests.support.killing import killed_before


def record(setting: str, value: float, seed: int = 1, set: str = "emoji", **more: Any) -> dict[str, Any]:
    """A result of which all metrics are `value`, MAP@R half of it."""
    metrics = {"recall@1": value, "map@r": value / 2}
    known = {"key": setting, "budget": "a", "steps": 100, "size": 40, "options": dict(SETTINGS.get(setting, {}))}
    parts = {"validation": metrics, "test": metrics, "seconds": 1.0}
    return {"set": set, "setting": setting, "seed": seed, **known, **parts, **more}


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that were made, of a lab whose runs take no time and whose data are never read."""
    names: list[str] = []

    def made(runs: Sequence[Run], jobs: int) -> Iterator[tuple[Run, dict[str, Any]]]:
        for run in runs:
            names.append(run.name)
            yield run, record(run.setting, 0.5, run.seed, run.set, key=run.key, budget=run.budget)

    monkeypatch.setattr(lab, "results_of", made)
    monkeypatch.setattr(lab, "at_hand", lambda *_: True)
    monkeypatch.setattr(lab_runs, "fingerprint", lambda *_: "the same pixels")
    monkeypatch.setattr(lab, "tell", lambda *_: 0)
    return names


def words(folder: Path, *more: str) -> list[str]:
    return [
        "--sets",
        "emoji",
        "--settings",
        "default,circle",
        "--out",
        str(folder),
        "--results",
        str(folder / "r.jsonl"),
        *more,
    ]


def lines(folder: Path) -> list[str]:
    return [f"{each['set']}/{each['setting']}/{each['seed']}" for each in lab.records_of(folder / "r.jsonl")]


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_killed_lab_goes_on_with_what_is_missing(ran: list[str], tmp_path: Path, step: int) -> None:
    """Killed before it has flushed result number `step`, which was then written, of four."""
    killed = killed_before(step, lambda: lab.main(words(tmp_path, "--seeds", "2")), [(os, "fsync")])
    assert killed is None
    assert len(lines(tmp_path)) == step
    assert lab.main(words(tmp_path, "--seeds", "2")) == 0
    assert len(ran) == 4 - step
    assert sorted(lines(tmp_path)) == [
        f"emoji/{setting}/{seed}" for setting in ("circle", "default") for seed in (1, 2)
    ]


def test_a_line_that_was_cut_off_counts_for_nothing_and_spoils_no_other(ran: list[str], tmp_path: Path) -> None:
    lab.main(words(tmp_path, "--seeds", "1"))
    whole = (tmp_path / "r.jsonl").read_bytes()
    (tmp_path / "r.jsonl").write_bytes(whole[:-40])
    ran.clear()
    lab.main(words(tmp_path, "--seeds", "1"))
    assert ran == ["emoji/circle/1"]
    assert lines(tmp_path) == ["emoji/default/1", "emoji/circle/1"]


def test_another_seed_or_setting_runs_what_is_missing(ran: list[str], tmp_path: Path) -> None:
    lab.main(words(tmp_path, "--seeds", "1"))
    ran.clear()
    lab.main(words(tmp_path, "--seeds", "2"))
    assert ran == ["emoji/default/2", "emoji/circle/2"]
    ran.clear()
    lab.main([*words(tmp_path, "--seeds", "2"), "--settings", "default,circle,n_pair"])
    assert ran == ["emoji/n_pair/1", "emoji/n_pair/2"]


def test_a_setting_with_other_options_is_another_run(
    ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.main(words(tmp_path, "--seeds", "1"))
    ran.clear()
    monkeypatch.setitem(SETTINGS, "circle", {"loss": {"name": "circle", "margin": 0.3}})
    lab.main(words(tmp_path, "--seeds", "1"))
    assert ran == ["emoji/circle/1"]
    assert len({each["key"] for each in lab.records_of(tmp_path / "r.jsonl")}) == 3


def test_settings_with_the_same_options_are_one_run(
    ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SETTINGS, "circle", {})
    lab.main(words(tmp_path, "--seeds", "1"))
    assert ran in (["emoji/default/1"], ["emoji/circle/1"])
    assert sorted(lines(tmp_path)) == ["emoji/circle/1", "emoji/default/1"]


def test_what_is_missing_is_listed_and_not_run(
    ran: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.main(words(tmp_path, "--seeds", "1"))
    ran.clear()
    assert lab.main(words(tmp_path, "--seeds", "2", "--only", "*/circle/*", "--list")) == 0
    assert ran == []
    shown = capsys.readouterr().out
    assert "done    emoji/circle/1" in shown
    assert "missing emoji/circle/2" in shown
    assert "1 of 2 runs are missing, about 1 s on one core" in shown


def test_an_unknown_setting_is_named_with_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lab.main([*words(tmp_path)[:2], "--settings", "contrastiv", "--out", str(tmp_path)]) == 2
    assert "did you mean 'contrastive'?" in capsys.readouterr().err


def test_only_results_that_can_be_compared_are() -> None:
    old = [
        record("default", 0.1, budget="old"),
        record("circle", 0.1, key="old options"),
        record("circle", 0.2, seed=2, key="old options"),
    ]
    new = [record("default", 0.5), record("default", 0.6), record("circle", 0.7)]
    assert current([*old, *new]) == [new[1], new[2]]


def test_differences_are_paired_by_seed() -> None:
    """Seeds of 0.1 to 0.4 with 0.01, 0.03, 0.02, 0.02 more: mean 0.02, s = 0.00816, t(0.975, 3) = 3.182."""
    more = (0.01, 0.03, 0.02, 0.02)
    one = [record("default", 0.1 * seed, seed) for seed in range(1, 5)]
    other = [record("circle", 0.1 * seed + more[seed - 1], seed) for seed in range(1, 5)]
    found = Results([*one, *other]).less("emoji", "circle", "default", "test/recall@1")
    half = 3.1824 * np.std(more, ddof=1) / 2
    assert found[:3] == pytest.approx((0.02, 0.02 - half, 0.02 + half), abs=1e-6)
    assert said(found).replace("\u00a0", " ") == "+0.020 (+0.007 to +0.033) above"


@pytest.mark.parametrize(
    ("values", "words"),
    [((0.1, 0.2), "above"), ((-0.1, -0.2), "below"), ((-0.1, 0.2), "within"), ((-0.1, 0.0), "within")],
)
def test_a_difference_of_few_seeds_is_one_only_where_all_agree(values: tuple[float, float], words: str) -> None:
    runs = [record("default", 0.5, seed) for seed in (1, 2)]
    runs += [record("circle", 0.5 + value, seed) for seed, value in enumerate(values, 1)]
    assert said(Results(runs).less("emoji", "circle", "default", "test/recall@1")).endswith(words)


# Validation and test are the same; circle is the best on two sets, and the worst on the third.
THREE = {
    "a": {"default": 0.5, "circle": 0.6, "contrastive": 0.4, "pml-circle": 0.55},
    "b": {"default": 0.5, "circle": 0.6, "contrastive": 0.4, "pml-circle": 0.55},
    "c": {"default": 0.5, "circle": 0.4, "contrastive": 0.6, "pml-circle": 0.55},
}


@pytest.fixture
def three() -> list[dict[str, Any]]:
    return [
        record(name, value, seed, set=set)
        for set, row in THREE.items()
        for name, value in row.items()
        for seed in (1, 2)
    ]


def test_mean_ranks(three: list[dict[str, Any]]) -> None:
    ranks = Results(three).ranks(["default", "circle", "contrastive"])
    assert dict(ranks) == pytest.approx({"circle": 5 / 3, "default": 2.0, "contrastive": 7 / 3})
    assert list(ranks.index) == ["circle", "default", "contrastive"]


def test_a_setting_that_lacks_a_data_set_has_no_rank(three: list[dict[str, Any]]) -> None:
    results = Results([*three, record("n_pair", 0.9, set="a")])
    assert "n_pair" not in results.ranks(results.of_ours())


def test_a_recipe_is_chosen_without_the_data_set_on_which_it_is_judged(three: list[dict[str, Any]]) -> None:
    table = left_out(Results(three)).set_index("left out")
    assert table.loc["c", "recipe of the others"] == "circle"
    assert table.loc["c", "recall@1, it"] == "0.400"
    assert table.loc["c", "best here"] == "contrastive"
    assert table.loc["c", "recall@1, best"] == "0.600"
    assert table.loc["c", "best of PML"] == "pml-circle"
    assert table.loc["c", "it less PML"].split()[0] == "-0.150"
    # On b and c circle is 1 and 3, contrastive 3 and 1, default 2 and 2: of equals, the lab's first.
    assert table.loc["a", "recipe of the others"] == "default"


def test_the_figure_of_a_data_set_has_all_settings_but_the_reference(three: list[dict[str, Any]]) -> None:
    shown = differences(Results([*three, record("contrastive+memory", 0.3, set="b")]), "b")
    assert [each.name for each in shown] == ["contrastive", "circle", "contrastive +memory", "pml-circle"]
    assert [each.of["recall@1"].mean for each in shown] == pytest.approx([-0.1, 0.1, -0.2, 0.05])


def test_a_setting_is_compared_with_the_one_it_names() -> None:
    runs = [record("contrastive", 0.5), record("contrastive+memory", 0.6), record("circle", 0.1)]
    table = pairs(Results(runs))
    assert table.to_dict("records") == [{"setting": "contrastive+memory less contrastive", "emoji": "+0.100"}]


def test_tables_and_page_are_made_of_the_lines_alone(three: list[dict[str, Any]], tmp_path: Path) -> None:
    store = tmp_path / "results.jsonl"
    store.write_text("".join(json.dumps(each) + "\n" for each in three))
    assert lab.main(["--table", "--results", str(store), "--out", str(tmp_path)]) == 0
    html = (tmp_path / "page.html").read_text()
    for title in tables(Results(three)):
        assert title in html
    assert html.count("data:image/") >= 6  # three sets, light and dark
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"a", "b", "c"}
    docs = tmp_path / "lab.md"
    docs.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_docs(three, docs)
    text = docs.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "| circle | 0.600 / 0.300 | 0.600 / 0.300 | 0.400 / 0.200 | 2.0 |" in text


def test_the_tables_of_the_docs_are_those_of_the_results() -> None:
    """`python benchmarks/lab.py --table` makes them."""
    records = lab.records_of(lab.HERE / "lab.jsonl")
    section = DOCS.read_text().partition(BEGIN)[2].partition(END)[0].strip()
    assert section == (markdown(records) if records else "")


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return DataSet(str(write_folder(tmp_path_factory.mktemp("colours"), each=4)), batch=(2, 2))


@pytest.mark.parametrize(
    "setting", ["untrained", "default", "pml-triplet-semihard", "pml-contrastive+memory", "pml-contrastive@notebooks"]
)
def test_two_steps_of_a_setting(colours: DataSet, tmp_path: Path, setting: str) -> None:
    if setting.startswith("pml-"):
        pytest.importorskip("pytorch_metric_learning")
    run = Run("colours", colours, setting, SETTINGS[setting], 1, 2, 32, tmp_path)
    result = measured(run)
    assert result["items"] == 4 * len(list(Path(colours.source).iterdir()))
    for part in ("validation", "test"):
        found, recall = (result[part][name] for name in ("map@r", "recall@1"))
        # With three positives, who misses at first still finds 1/2 and 2/3 behind it.
        assert 0 <= found <= recall + (1 - recall) * (1 / 2 + 2 / 3) / 3 <= 1
    if setting != "untrained":
        assert result["best_step"] in (0, 1, 2)
        assert [row[0] for row in result["curve"]][-2:] == [1, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]  # nothing of the run is left


def test_with_the_same_loss_both_loops_are_the_same(colours: DataSet, tmp_path: Path) -> None:
    """Start, batches, augmentation, optimiser, schedule: three steps of ours and of PML's loop give equal weights."""
    pytest.importorskip("pytorch_metric_learning")
    from benchmarks.lab_pml import steps_of_pml

    (tmp_path / "data").mkdir()
    ours, peer = (
        Run("colours", colours, name, SETTINGS[name], 1, 3, 32, tmp_path)
        for name in ("contrastive_euclidean", "pml-contrastive")
    )
    items, found = split(colours, 32, tmp_path, 1), []
    config = ours.config
    config.out = str(tmp_path / "run")
    train(config, items=items, quiet=True, callbacks=[lambda run, step: found.append(weights(run.task.encoder))])
    task = Task(peer.config, items)
    task.start()
    start = weights(task.encoder)
    for _, expected in zip(steps_of_pml(task, peer.config, peer.options), found, strict=True):
        torch.testing.assert_close(weights(task.encoder), expected, rtol=1e-4, atol=1e-5)
    assert (found[-1] - start).norm() > 100 * (found[-1] - weights(task.encoder)).norm()


def weights(encoder: Encoder) -> torch.Tensor:
    return torch.cat([each.detach().flatten() for each in encoder.parameters()]).clone()
