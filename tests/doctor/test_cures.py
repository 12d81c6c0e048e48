"""The doctor's advice cures: each fault is made, the advice followed as it is typed, and the next run is healthy."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pullpush.doctor.declaration import SEVERITIES, Finding
from pullpush.evaluation import evaluate
from pullpush.runs.config import Config
from pullpush.runs.options import config_from
from pullpush.training import train
from pullpush.training.criteria import make_criteria
from tests.support.bedside import Bedside, Head, Options, batches, digits, mlp, seeded, towers_apart

OPTION = re.compile(r"--([\w.]+) ([\w.+-]*\w)")
# Runs in which a person follows the advice of the one before.
ROUNDS = 3


def followed(advice: str) -> Options:
    """The options of the first piece of advice that names any, as they are typed."""
    return next((dict(found) for part in advice.split("; or ") if (found := OPTION.findall(part))), {})


def head(config: Config) -> nn.Module:
    return mlp(config.encoder.dim, unit=False) if config.similarity != "cosine" else mlp(config.encoder.dim)


def ends_in_relu(config: Config) -> nn.Module:
    """An mlp that ends with its activation, as heads of other libraries do; a linear head doesn't."""
    return Head(nn.Linear(64, 64)) if config.encoder.head == "linear" else mlp(config.encoder.dim, nn.ReLU())


def deep(config: Config) -> nn.Module:
    wide = nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU()
    return Head(*wide, nn.Linear(128, config.encoder.dim))


@dataclass(frozen=True)
class Fault:
    """A way to spoil a run.

    Attributes:
        options: of the run.
        classes: digits that there are.
        make: the encoder.
        batch: items of each class.
        wrong_labels: each label stands beside another item.
    """

    options: Options
    classes: tuple[int, ...] = tuple(range(10))
    make: Callable[[Config], nn.Module] = lambda config: mlp(config.encoder.dim)
    batch: int = 4
    wrong_labels: bool = False


HARD = {"loss": {"name": "triplet", "kind": "hard", "average": "all"}, "optimizer.lr": 3e-3, "steps": 50}
BARE = {"loss": {"name": "n_pair", "temperature": 1.0}, "similarity": "cosine", "optimizer.lr": 1e-2, "steps": 60}
EXACT = {"memory.size": 1500, "memory.tolerance": 0, "memory.compensate": "none", "memory.combine": "joint"}
FAULTS: dict[str, Fault] = {
    "collapse": Fault(HARD),
    "near_collapse": Fault(HARD),
    "triplet_at_margin": Fault(HARD),
    "temperature_too_high": Fault(BARE),
    "loss_at_floor": Fault(BARE),
    "temperature_too_low": Fault({"loss": {"name": "nt_xent", "temperature": 0.003}, "optimizer.lr": 1e-3}),
    "learning_rate_too_high": Fault({"loss": "nt_xent", "optimizer.lr": 0.1}),
    "no_active_triplet": Fault({"loss": {"name": "triplet", "margin": 0.05}, "optimizer.lr": 3e-3}, classes=(0, 1)),
    "miner_leaves_nothing": Fault({"miner": {"name": "angular", "degrees": 89.0}}),
    "not_normalised": Fault({"loss": "n_pair"}, make=head),
    "dead_dimensions": Fault({"loss": "nt_xent", "encoder.dim": 64, "encoder.head": "mlp"}, make=ends_in_relu),
    "stale_memory": Fault({"loss": "contrastive", **EXACT, "optimizer.lr": 0.1}, make=deep, batch=16),
    "shut_memory": Fault(
        {"loss": "contrastive", "memory.size": 1500, "memory.tolerance": 0.005, "optimizer.lr": 0.01},
        make=deep,
        batch=16,
    ),
    "no_positives": Fault({"loss": "nt_xent", "batch.samples": 1}),
}


def run_of(fault: Fault, options: Options, folder: Path) -> Bedside:
    values: Options = {"steps": 30, "encoder.dim": 16, "batch.samples": fault.batch, **fault.options, **options}
    config = config_from(values)
    x, labels, ids = digits(fault.classes)
    torch.manual_seed(0)
    criterion, _ = make_criteria(config, 10, ids)
    encoder = seeded(lambda: fault.make(config))
    bedside = Bedside(folder, criterion, encoder, values.pop("steps"), **values)
    drawn = batches(labels, config.batch.samples)
    for _ in range(config.steps):
        rows = next(drawn)
        said = labels[rows[torch.randperm(len(rows))] if fault.wrong_labels else rows]
        bedside.step(criterion(encoder(x[rows]), said, ids[rows]))
    bedside.recall = recall(encoder, fault)
    return bedside


def recall(encoder: nn.Module, fault: Fault) -> float:
    """recall@1 among all digits."""
    x, labels, _ = digits(fault.classes)
    with torch.no_grad():
        found: float = evaluate(encoder(x), labels, nmi=False, neighbours=0).metrics["recall@1"]
    return found


def worst(found: dict[str, Finding]) -> list[Finding]:
    return sorted(found.values(), key=lambda finding: SEVERITIES.index(finding.severity))


@pytest.mark.parametrize("name", FAULTS)
def test_the_advice_cures(name: str, tmp_path: Path) -> None:
    fault, options = FAULTS[name], Options()
    sick = run_of(fault, options, tmp_path)
    assert name in sick.found
    finding, now = sick.found[name], sick
    for _ in range(ROUNDS):
        said = followed(finding.advice)
        assert said, finding.advice
        options = {**options, **said}
        now = run_of(fault, options, tmp_path)
        if not now.found:
            break
        finding = now.found.get(name) or worst(now.found)[0]
    assert not now.found, (options, now.found)
    # Healthy is more than silent: it finds more than untrained, or nearly all that there is.
    untrained = recall(seeded(lambda: fault.make(config_from({"encoder.dim": 16, **fault.options, **options}))), fault)
    assert now.recall > min(untrained, 0.99), (options, now.recall, untrained, sick.recall)


def test_labels_that_belong_to_other_items_leave_the_loss_at_chance_until_they_are_right(tmp_path: Path) -> None:
    fault = Fault({"loss": {"name": "nt_xent", "temperature": 0.2}, "steps": 60}, wrong_labels=True)
    sick = run_of(fault, {}, tmp_path)
    assert "check that the labels belong to the items" in sick.found["loss_at_chance"].advice
    cured = run_of(replace(fault, wrong_labels=False), {}, tmp_path)
    assert not cured.found
    assert cured.recall > sick.recall


class Beside(nn.Module):
    """The amount of ink beside what was learned, in its own unit or in standard deviations."""

    def __init__(self, unit: float) -> None:
        super().__init__()
        self.head, self.unit = mlp(), unit

    def forward(self, x: Tensor) -> Tensor:
        ink = x.sum(1, keepdim=True)
        both = torch.cat([self.head(x), (ink - ink.mean()) / self.unit], 1)
        return nn.functional.normalize(both, dim=-1)


def test_a_feature_of_another_unit_dominates_until_it_is_standardised(tmp_path: Path) -> None:
    ink = float(digits()[0].sum(1).std())
    sick, cured = (
        run_of(Fault({"loss": "nt_xent"}, make=lambda _, unit=unit: Beside(unit)), {"steps": 10}, tmp_path)
        for unit in (1.0, ink * 4)  # each of 16 learned ones varies by a quarter
    )
    assert "standardise features of unequal scale" in sick.found["dominating_dimension"].advice
    assert not cured.found


def towers(options: Options, folder: Path) -> dict[str, Finding]:
    values = {"loss": {"name": "nt_xent", "temperature": 0.07}, "optimizer.lr": 1e-5, "steps": 60, **options}
    return towers_apart(folder, 0.15, **values).found


def test_towers_that_hardly_learn_meet_at_the_rate_that_is_advised(tmp_path: Path) -> None:
    options, found = Options(), towers({}, tmp_path)
    assert "modality_gap" in found
    for _ in range(ROUNDS):
        options |= followed((found.get("modality_gap") or worst(found)[0]).advice)
        if not (found := towers(options, tmp_path)):
            break
    assert not found, (options, found)


@pytest.fixture(scope="module")
def pretrained(small: Options) -> Options:
    return {**small, "encoder": {"size": 32, "dim": 16}, "steps": 24, "validate_every": 6, "seed": 1}


RUNS: dict[str, Options] = {
    "no_positives": {"batch": {"classes": 3, "samples": 1}},
    "weights_not_loaded": {"encoder": {"weights": "none", "freeze": True, "size": 32, "dim": 16}},
    "no_gain": {"optimizer": {"lr": 1.5e-2}, "encoder": {"size": 32, "dim": 16, "frozen_stages": 0}},
    "worse_than_start": {"optimizer": {"lr": 1.5e-2}, "encoder": {"size": 32, "dim": 16, "frozen_stages": 0}},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_follows_the_advice_of_the_one_before_ends_healthy(
    name: str, pretrained: Options, tmp_path: Path
) -> None:
    alone = {"gate": name != "worse_than_start", "average": {"ema": 0, "blend": False}}
    options = {**pretrained, **alone, **RUNS[name]}
    for number in range(ROUNDS + 1):
        run = train(**options, out=str(tmp_path / f"run-{number}"), quiet=True)
        lines = [json.loads(line) for line in (run / "findings.jsonl").read_text().splitlines()]
        found = sorted(lines, key=lambda line: SEVERITIES.index(line["severity"]))
        assert number or name in [line["finding"] for line in found], found
        if not found:
            break
        said = next((advice for line in found if (advice := followed(line["advice"]))), {})
        assert said, found
        options |= said
    assert not found, (options, found)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["kept"] != "start"
    assert metrics["test"]["after"]["map@r"] > metrics["test"]["before"]["map@r"]
