"""Each finding is triggered by a small run that has the fault. Healthy runs are in test_healthy.py."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import normalize

import pullpush
from pullpush import losses
from pullpush.criterion import Criterion, CrossBatchMemory
from pullpush.data.synthetic import make_tree
from pullpush.doctor.diagnose import examine
from pullpush.doctor.history import measure_course
from pullpush.doctor.measures import measure_sides
from pullpush.doctor.objective import Objective
from pullpush.errors import UserError
from pullpush.reports import diagnose_run
from pullpush.training import run as run_module
from pullpush.training import train
from tests.support.batches import exact_memory
from tests.support.bedside import Bedside, Head, Options, digits, mlp, seeded, towers_apart

Watched = Callable[..., Bedside]


def of(name: str, folder: Path) -> dict[str, Any]:
    """A finding that the monitor wrote down."""
    lines = [json.loads(line) for line in (folder / "findings.jsonl").read_text().splitlines()]
    return next(line for line in lines if line["finding"] == name)


def test_collapse_and_its_approach(watched: Watched) -> None:
    # Hard triplets pull everything together before they can push: the known collapse.
    criterion = Criterion("triplet", kind="hard", average="all")
    options = {"loss": {"name": "triplet", "kind": "hard", "average": "all"}}
    bedside = watched(criterion, steps=45, optimizer={"lr": 3e-3}, **options)
    assert bedside.steps_of["near_collapse"] < bedside.steps_of["collapse"]
    assert bedside.found["collapse"].evidence["mean_cosine"] > 0.99
    assert bedside.found["collapse"].severity == "critical"
    margin = bedside.found["triplet_at_margin"]
    assert margin.evidence["loss"] == pytest.approx(margin.evidence["margin"], rel=0.02)
    assert "--loss.kind semihard" in margin.advice
    # The same with the kind that it names trains.
    options["loss"]["kind"] = "semihard"
    cured = watched(Criterion("triplet", kind="semihard", average="all"), steps=60, optimizer={"lr": 5e-4}, **options)
    assert not cured.found


def test_floor_of_bare_cosines_and_its_cure(watched: Watched) -> None:
    options = {"loss": {"name": "n_pair", "temperature": 1.0}, "similarity": "cosine", "optimizer": {"lr": 1e-2}}
    stuck = watched(Criterion("n_pair", temperature=1.0, similarity="cosine"), steps=60, **options)
    high, floor = stuck.found["temperature_too_high"], stuck.found["loss_at_floor"]
    assert stuck.steps_of["temperature_too_high"] == 1
    assert floor.evidence["floor"] < floor.evidence["loss"] < floor.evidence["floor"] + 0.3
    assert "--loss.temperature 0.07" in high.advice
    assert "--loss.temperature 0.07" in floor.advice
    options["loss"]["temperature"] = 0.07
    cured = watched(Criterion("n_pair", temperature=0.07, similarity="cosine"), steps=60, **options)
    assert not cured.found
    assert cured.losses[-1] < 0.5


def test_temperature_too_low(watched: Watched) -> None:
    options = {"loss": {"name": "nt_xent", "temperature": 0.003}, "optimizer": {"lr": 1e-3}}
    bedside = watched(Criterion("nt_xent", temperature=0.003), **options)
    assert "--loss.temperature 0.07" in bedside.found["temperature_too_low"].advice


def test_loss_at_chance(watched: Watched) -> None:
    # Labels that belong to other images.
    class Shuffled(Criterion):
        def forward(self, embeddings: Tensor, labels: Tensor, *args: Any, **named: Any) -> Tensor:
            draw = torch.Generator().manual_seed(int(args[0].sum()))
            return super().forward(embeddings, labels[torch.randperm(len(labels), generator=draw)], *args, **named)

    bedside = watched(Shuffled("nt_xent", temperature=0.2), loss={"name": "nt_xent", "temperature": 0.2}, steps=60)
    evidence = bedside.found["loss_at_chance"].evidence
    assert evidence["loss"] == pytest.approx(evidence["chance"], rel=0.02)


def test_learning_rate_too_high(watched: Watched) -> None:
    bedside = watched(Criterion("nt_xent"), loss="nt_xent", optimizer={"lr": 0.1}, steps=20)
    finding = bedside.found["learning_rate_too_high"]
    assert finding.evidence["update_over_weights"] > 0.2
    assert "--optimizer.lr 1e-03" in finding.advice
    assert not watched(Criterion("nt_xent"), loss="nt_xent", optimizer={"lr": 1e-3}, steps=20).found


def test_no_active_triplet(watched: Watched) -> None:
    options = {"loss": {"name": "triplet", "margin": 0.05}, "optimizer": {"lr": 3e-3}}
    bedside = watched(Criterion("triplet", margin=0.05), classes=(0, 1), **options)
    look = bedside.monitor.history.looks[bedside.steps_of["no_active_triplet"] // 10]
    apart = float(f"{look['positive'] - look['negative']:.2g}")
    assert apart > 2 * 0.05
    assert f"--loss.margin {apart:g};" in bedside.found["no_active_triplet"].advice
    assert bedside.losses[-1] == 0


def test_miner_leaves_nothing(watched: Watched) -> None:
    strict = {"name": "angular", "degrees": 89.0}
    bedside = watched(Criterion("multi_similarity", miner=strict), loss="multi_similarity", miner=strict, steps=20)
    assert "--miner none" in bedside.found["miner_leaves_nothing"].advice
    assert not any(bedside.losses)


def test_embeddings_not_normalised(watched: Watched) -> None:
    bedside = watched(Criterion("n_pair"), mlp(unit=False), loss="n_pair", steps=10)
    assert "--similarity cosine" in bedside.found["not_normalised"].advice
    assert not watched(
        Criterion("n_pair", similarity="cosine"), mlp(unit=False), loss="n_pair", similarity="cosine", steps=10
    ).found


def test_dead_dimensions(watched: Watched) -> None:
    bedside = watched(Criterion("nt_xent"), mlp(64, nn.ReLU()), loss="nt_xent", steps=10)
    evidence = bedside.found["dead_dimensions"].evidence
    assert 0 < evidence["dead"] < evidence["dimensions"] == 64


def test_dominating_dimension(watched: Watched) -> None:
    class Beside(nn.Module):
        """The amount of ink, in its own unit, beside what was learned."""

        def __init__(self) -> None:
            super().__init__()
            self.head = mlp()

        def forward(self, x: Tensor) -> Tensor:
            ink = x.sum(1, keepdim=True)
            return normalize(torch.cat([self.head(x), ink - ink.mean()], 1), dim=-1)

    bedside = watched(Criterion("nt_xent"), Beside(), loss="nt_xent", steps=10)
    assert bedside.found["dominating_dimension"].evidence["share"] > 0.5


def test_stale_memory(watched: Watched) -> None:
    options = {"loss": "contrastive", "memory": {"size": 1500, "tolerance": 0}, "optimizer": {"lr": 0.1}}
    criterion = Criterion("contrastive", memory=exact_memory(1500, dim=16))
    deep = seeded(lambda: Head(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 16)))
    bedside = watched(criterion, deep, each=16, steps=30, **options)
    finding = bedside.found["stale_memory"]
    assert "--memory.tolerance 0.5" in finding.advice
    assert "--memory.start_step" in finding.advice
    assert finding.evidence["memory_age"] >= 1


def test_a_memory_of_a_model_that_moves_too_fast_stays_shut_and_is_told(watched: Watched) -> None:
    """The same run, with a memory that tolerates little."""
    options = {"loss": "contrastive", "memory": {"size": 1500, "tolerance": 1e-4}, "optimizer": {"lr": 0.1}}
    criterion = Criterion("contrastive", memory=CrossBatchMemory(1500, dim=16, tolerance=1e-4))
    deep = seeded(lambda: Head(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 16)))
    bedside = watched(criterion, deep, each=16, steps=30, **options)
    assert "stale_memory" not in bedside.found
    finding = bedside.found["shut_memory"]
    assert finding.evidence["memory_open"] < 0.05
    assert "--optimizer.backbone_scale 0.1" in finding.advice


def test_memory_that_was_stale_when_last_looked_at_is_found_by_a_look_that_meets_none_of_its_items() -> None:
    stale = {"memory_drift": 1.5, "memory_age": 10.0, "memory_oldest": 20.0, "negative": 0.1}
    looks = [{"step": 10.0, **stale}, {"step": 20.0, **stale}, {"step": 30.0, "negative": 0.1}]
    (finding,) = examine(measure_course(looks, []), Objective())
    assert finding.finding == "stale_memory"
    assert finding.evidence["memory_age"] == 10
    assert "--memory.start_step 40" in finding.advice


def test_modality_gap_of_towers_that_hardly_learn(tmp_path: Path) -> None:
    # A rate too small for the steps leaves each tower in its cone.
    loss = {"name": "nt_xent", "temperature": 0.02}
    bedside = towers_apart(tmp_path, 1.0, loss=loss, steps=20, **{"optimizer.lr": 1e-5})
    evidence = bedside.found["modality_gap"].evidence
    assert evidence["matching_cosine"] < evidence["same_side_cosine"]


def test_batches_without_positives(small: Options, tmp_path: Path) -> None:
    run = train(**{**small, "batch": {"classes": 3, "samples": 1}, "steps": 2}, out=str(tmp_path / "run"))
    finding = of("no_positives", run)
    assert (finding["severity"], finding["evidence"]["anchors_with_positive"]) == ("critical", 0)
    assert "--batch.samples 4" in finding["advice"]


def test_classes_that_no_batch_ever_holds(small: Options, tmp_path: Path) -> None:
    options = {**small, "batch": {"classes": 2, "samples": 2}}
    short = train(**{**options, "steps": 1}, out=str(tmp_path / "short"))
    finding = of("classes_never_drawn", short)
    drawn = pd.read_csv(short / "classes_seen.csv")["drawn"]
    assert finding["step"] == 0  # before anything is trained
    assert (
        finding["evidence"]
        == {"classes": len(drawn), "never_drawn": (drawn == 0).sum()}
        == {"classes": 4, "never_drawn": 2}
    )
    assert "--steps 2" in finding["advice"]
    assert "--batch.classes 4" in finding["advice"]
    assert "classes_never_drawn" in [each.finding for each in diagnose_run(short).findings]
    # As many steps as it names draw each class, and nothing is said.
    cured = train(**{**options, "steps": 2}, out=str(tmp_path / "cured"))
    assert (pd.read_csv(cured / "classes_seen.csv")["drawn"] > 0).all()
    assert "classes_never_drawn" not in (cured / "findings.jsonl").read_text()


def test_equal_pictures_under_two_labels(small: Options, photos: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for folder in sorted(path for path in photos.iterdir() if path.is_dir()):
        for name in (folder.name, f"{folder.name}-again"):
            (tree / name).mkdir(parents=True)
            for picture in folder.iterdir():
                (tree / name / picture.name).write_bytes(picture.read_bytes())
    encoder = {**small["encoder"], "weights": "auto"}
    data = {**small["data"], "source": str(tree)}
    run = train(**{**small, "encoder": encoder, "data": data, "steps": 2}, out=str(tmp_path / "run"))
    found = {finding.finding: finding for finding in diagnose_run(run).findings}
    assert found["false_negatives"].evidence["share_of_items"] > 0.2
    assert "pullpush data" in found["false_negatives"].advice


def test_first_tensor_that_is_not_finite(small: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "learning_rate", lambda step, steps, warmup: 1e38 * step)
    optimizer = {"lr": 0.1, "clip": 0.0}
    with pytest.raises(UserError, match=r"first tensor .* (output|weights|gradient)"):
        train(**{**small, "optimizer": optimizer, "validate_every": 12}, out=str(tmp_path / "run"))
    evidence = of("not_finite", tmp_path / "run")["evidence"]
    assert "encode." in evidence["first_tensor"]
    assert diagnose_run(tmp_path / "run").findings[0].finding == "not_finite"


def test_weights_that_did_not_load(small: Options, tmp_path: Path) -> None:
    state = pullpush.ImageEncoder(weights="none", size=32).backbone.state_dict()
    file = tmp_path / "half.safetensors"
    save_file({name: tensor for place, (name, tensor) in enumerate(state.items()) if place % 2}, file)
    encoder = {**small["encoder"], "weights": str(file)}
    with pytest.warns(UserWarning, match="in part"):
        run = train(**{**small, "encoder": encoder, "steps": 2}, out=str(tmp_path / "run"))
    evidence = of("weights_not_loaded", run)["evidence"]
    assert evidence["tensors_missing"] > 100
    assert evidence["tensors_loaded"] > 100


def test_evaluation_without_positives(small: Options, photos: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    rows = ["path,label,split"]
    folders = sorted(path for path in photos.iterdir() if path.is_dir())
    for place, folder in enumerate(folders):
        kept = sorted(folder.iterdir())[: 4 if place < 5 else 1]
        rows += [f"{picture},{folder.name},{'train' if place < 5 else 'test'}" for picture in kept]
    tree.mkdir()
    (tree / "items.csv").write_text("\n".join(rows) + "\n")
    data = {"source": str(tree / "items.csv"), "validation": 0.0}
    with pytest.raises(UserError, match="positive"):
        train(**{**small, "data": data, "steps": 2}, out=str(tmp_path / "run"))
    finding = of("evaluation_without_positives", tmp_path / "run")
    assert finding["evidence"]["queries_with_positive"] == 0


def test_over_fitting(small: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULLPUSH_CACHE", str(tmp_path / "cache"))
    # Four training classes and a head that can bend everything to them.
    tree = make_tree("folder", tmp_path / "tree", classes=80, images=3)
    options = {
        **small,
        "data": {"source": str(tree), "test": 0.05, "validation": 0.9, "check": False},
        "encoder": {"size": 64, "dim": 64, "freeze": True, "head": "mlp"},
        "batch": {"classes": 4, "samples": 3},
        "optimizer": {"lr": 3e-3, "warmup": 0.3},
        "loss": "nt_xent",
        "steps": 40,
        "validate_every": 5,
    }
    run = train(**options, out=str(tmp_path / "run"))
    evidence = of("over_fitting", run)["evidence"]
    assert evidence["best_validation_recall"] - evidence["validation_recall"] > 0.075
    assert evidence["best_validation_step"] <= 10
    # It ends where it was best, as advised.
    advised = int(of("over_fitting", run)["advice"].split("--steps ")[1].split(";")[0].rstrip("."))
    cured = train(**{**options, "steps": advised}, out=str(tmp_path / "cured"))
    assert "over_fitting" not in (cured / "findings.jsonl").read_text()
    kept = [json.loads((each / "metrics.json").read_text())["validation"]["recall@1"] for each in (run, cured)]
    assert kept[1] > kept[0] - 0.02


def test_a_model_worse_than_its_start(small: Options, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder = {"size": 32, "dim": 16, "frozen_stages": 0}
    options = {**small, "encoder": encoder, "optimizer": {"lr": 1.5e-2}, "batch": {"classes": 4, "samples": 3}}
    options |= {"validate_every": 3, "average": {"ema": 0, "blend": False}}
    run = train(**options, gate=False, out=str(tmp_path / "run"))
    worse = of("worse_than_start", run)
    test = json.loads((run / "metrics.json").read_text())["test"]
    assert worse["severity"] == "critical"
    assert worse["evidence"]["map@r_after"] == test["after"]["map@r"] < test["before"]["map@r"]
    said = capsys.readouterr().out
    assert "worse than untrained" in said
    assert "worse_than_start" in said
    found = {finding.finding: finding for finding in diagnose_run(run).findings}
    assert found["worse_than_start"].evidence == worse["evidence"]
    assert found["worse_than_start"].advice == worse["advice"]
    # The gate keeps the untrained model of the same run, and the doctor says why.
    gated = train(**options, out=str(tmp_path / "gated"))
    said, metrics = capsys.readouterr().out, json.loads((gated / "metrics.json").read_text())
    assert metrics["kept"] == "start"
    assert metrics["test"]["before"] == metrics["test"]["after"] == test["before"]
    assert "The untrained model is kept, as training shows no gain: on 2 validation classes MAP@R went from" in said
    advice = of("no_gain", gated)["advice"]
    assert "--optimizer.lr 5e-03" in advice
    assert advice.endswith("The untrained model is kept.")
    assert diagnose_run(gated).findings[-1].advice == advice


def test_arrays() -> None:
    draw = np.random.default_rng(0)
    labels = np.arange(400) // 4
    centres = draw.normal(size=(100, 32))
    healthy = centres[labels] + 0.3 * draw.normal(size=(400, 32))
    assert pullpush.diagnose(healthy, labels, loss="multi_similarity") == []
    one = np.ones((400, 32)) + 1e-3 * healthy
    assert [f.finding for f in pullpush.diagnose(one, labels)] == ["collapse"]
    texts = pullpush.diagnose(one, labels, references=one, reference_labels=labels, loss="nt_xent", temperature=1.0)
    assert {"collapse", "temperature_too_high"} <= {f.finding for f in texts}
    (found,) = examine(
        measure_sides({"image": torch.from_numpy(one)}), Objective(losses.n_pair(temperature=1.0), "cosine")
    )
    assert "--loss.temperature 0.07" in found.advice  # from the configuration
    healthy[7, 3] = np.nan
    assert [f.finding for f in pullpush.diagnose(healthy, labels)] == ["not_finite"]
    with pytest.raises(UserError, match="labels"):
        pullpush.diagnose(healthy, labels[:-1])
    with pytest.raises(UserError, match="no option"):
        pullpush.diagnose(healthy, labels, loss="nt_xent", temperatur=1.0)
    with pytest.raises(UserError, match="which loss"):
        pullpush.diagnose(healthy, labels, temperature=1.0)
    for wrong, named in (
        ({"similarity": "cosin"}, "unknown similarity 'cosin': did you mean 'cosine'"),
        ({"references": healthy[:, :-1], "reference_labels": labels}, "references have .* dimensions"),
        ({"reference_labels": labels}, "reference_labels are of references"),
        ({"ids": [str(each) for each in labels]}, "ids must be"),
    ):
        with pytest.raises(UserError, match=named):
            pullpush.diagnose(healthy, labels, **wrong)


def test_ids_and_arrays_of_any_kind_are_diagnosed_alike() -> None:
    """References have numbers of their own, whatever the ids are; an array may run backwards."""
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(20).repeat_interleave(2)
    x = normalize(torch.eye(20)[labels] + 0.1 * torch.randn(40, 20, generator=g)).numpy()
    both = {"references": x, "reference_labels": labels}
    plain = pullpush.diagnose(x, labels, torch.arange(40), **both)
    assert pullpush.diagnose(x, labels, -1 - torch.arange(40), **both) == plain
    assert pullpush.diagnose(x[::-1], labels.numpy()[::-1]) == pullpush.diagnose(x[::-1].copy(), labels.flip(0))


def test_lengths_count_only_where_the_loss_sees_them() -> None:
    x, labels, _ = digits()

    def names(**named: Any) -> set[str]:
        return {finding.finding for finding in pullpush.diagnose(x, labels, **named)}

    assert "not_normalised" in names(loss="n_pair")
    assert "not_normalised" in names(loss=losses.n_pair(temperature=0.5))
    assert "not_normalised" not in names(loss="n_pair", similarity="cosine")
    assert "not_normalised" not in names(loss="margin")  # which the criterion hands unit vectors
