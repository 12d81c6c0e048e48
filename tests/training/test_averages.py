"""Averages of weights: what they are, that a resumed run has the same, and that validation chooses among them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import pullpush
from pullpush.runs.checkpoint import load_checkpoint
from pullpush.runs.log import read_log
from pullpush.training import train
from pullpush.training.averages import MovingAverage, blended

Options = dict[str, Any]


def test_the_average_is_the_mean_and_then_forgets_over_its_horizon() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    module[0].bias.requires_grad_(False)
    average, history = MovingAverage([module], 4), []
    shapes = [tuple(value.shape) for value in average.values]
    assert shapes == [(2, 3), (2,), (2,), (2,), (2,)]  # no frozen bias, no count of batches, but the statistics
    for step in range(1, 11):
        with torch.no_grad():
            for tensor in (module[0].weight, module[1].running_mean):
                tensor.copy_(torch.randn(tensor.shape))
        average.update(step)
        history.append((module[0].weight.detach().clone(), module[1].running_mean.clone()))
        if step <= 4:
            for value, seen in zip((average.values[0], average.values[3]), zip(*history, strict=True), strict=True):
                torch.testing.assert_close(value, torch.stack(seen).mean(0))
    shares = [0.75**6 / 4] * 4 + [0.25 * 0.75 ** (10 - step) for step in range(5, 11)]
    assert sum(shares) == pytest.approx(1)
    expected = sum(share * weight for share, (weight, _) in zip(shares, history, strict=True))
    torch.testing.assert_close(average.values[0], expected)


def test_constants_are_not_averaged() -> None:
    """Infinities of a mask have no average."""
    module = nn.Linear(3, 2)
    module.register_buffer("mask", torch.tensor([0.0, -torch.inf]), persistent=False)
    average = MovingAverage([module], 4)
    for step in (1, 2):
        average.update(step)
    with average.in_place():
        assert torch.equal(module.mask, torch.tensor([0.0, -torch.inf]))
    assert len(average.values) == 2


def test_the_average_takes_the_place_of_the_weights_and_gives_it_back_to_the_bit() -> None:
    module = nn.Linear(3, 2)
    average = MovingAverage([module], 3)
    with torch.no_grad():
        module.weight.add_(1)
    average.update(2)
    weight, mean = module.weight.detach().clone(), average.values[0].clone()
    assert not torch.equal(weight, mean)

    def fail() -> None:
        with average.in_place():
            assert torch.equal(module.weight, mean)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.equal(module.weight, weight)
    assert torch.equal(average.values[0], mean)


def test_a_blend_lies_between_two_models_and_leaves_the_criterion_alone() -> None:
    start = {"encode.w": torch.zeros(2), "encode.n": torch.tensor(1), "criterion.memory.embeddings": torch.zeros(2)}
    trained = {"encode.w": torch.ones(2), "encode.n": torch.tensor(7), "criterion.memory.embeddings": torch.ones(2)}
    found = blended(start, trained, 0.25)
    assert found.keys() == trained.keys()
    assert found["encode.w"].tolist() == [0.25, 0.25]
    assert found["encode.n"] == 7
    assert found["criterion.memory.embeddings"].tolist() == [1, 1]


FORMS: dict[str, Options] = {
    "learned statistics": {"encoder": {"frozen_norm": False}},
    "cached features": {"encoder": {"freeze": True}},
    "learned options": {"loss": "nt_xent", "learn": "temperature"},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_run_has_the_average_of_its_weights_also_when_it_was_cut(small: Options, tmp_path: Path, form: str) -> None:
    ours, short = FORMS[form], {"steps": 6, "validate_every": 3, "checkpoint_every": 4, "average": {"ema": 2.0}}
    options = {**small, **ours, **short, "encoder": {**small["encoder"], **ours.get("encoder", {})}}
    seen: list[list[torch.Tensor]] = []

    def look(run: Any, step: int) -> None:
        module = run.task.step.encode
        learned = [p for p in module.parameters() if p.requires_grad]
        seen.append([t.detach().clone() for t in [*learned, *module.buffers()] if t.is_floating_point()])

    whole = train(**options, callbacks=[look], out=str(tmp_path / "whole"))
    expected = seen[0]
    for number, weights in enumerate(seen[1:], 2):
        expected = [torch.lerp(mean, now, max(1 / number, 0.5)) for mean, now in zip(expected, weights, strict=True)]
    found = load_checkpoint(whole / "checkpoints" / "last.pt")["average"]
    assert len(found) == len(expected) > 0
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs)
    with pytest.raises(Enough):
        train(**options, callbacks=[stop_at_five], out=str(tmp_path / "cut"))
    train(resume=tmp_path / "cut")
    again = load_checkpoint(tmp_path / "cut" / "checkpoints" / "last.pt")["average"]
    assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))
    assert read_log(whole / "log.jsonl") == read_log(tmp_path / "cut" / "log.jsonl")


class Enough(Exception):
    pass


def stop_at_five(run: Any, step: int) -> None:
    if step == 5:
        raise Enough


def shaken(run: Any, step: int) -> None:
    """After the last step the weights are no good any more; their average hardly notices."""
    if step == 12:
        with torch.no_grad():
            for parameter in filter(lambda each: each.requires_grad, run.task.encoder.parameters()):
                parameter.add_(torch.randn(parameter.shape) * parameter.std().nan_to_num() * 3)


def test_the_average_is_kept_where_it_is_better(small: Options, tmp_path: Path) -> None:
    options = {**small, "encoder": {"size": 32, "dim": 16}, "optimizer": {"lr": 5e-4}, "seed": 1, "validate_every": 12}
    options["average"] = {"ema": 1.0, "blend": False}
    quiet = {**options, "optimizer": {"lr": 1e-9}}  # nothing moves but by the shaking, of which a mean of 12 has a 12th
    learned: list[str] = []

    def note(run: Any, step: int) -> None:
        learned[:] = [name for name, p in run.task.encoder.named_parameters() if p.requires_grad]

    run = train(**quiet, gate=False, callbacks=[shaken, note], out=str(tmp_path / "run"))
    metrics = json.loads((run / "metrics.json").read_text())
    line = {k: v for line in read_log(run / "log.jsonl") for k, v in line.items() if line["step"] == 12}
    assert line["validation/average/map@r"] > line["validation/map@r"]
    assert (metrics["kept"], metrics["share"], metrics["best_step"]) == ("average", 1.0, 12)
    assert metrics["validation"]["map@r"] == pytest.approx(line["validation/average/map@r"], abs=1e-12)
    last = load_checkpoint(run / "checkpoints" / "last.pt")
    best = load_checkpoint(run / "checkpoints" / "best.pt")["module"]
    assert learned
    for name, value in zip(learned, last["average"], strict=False):
        assert torch.equal(best[f"encode.{name}"], value), name
        assert not torch.equal(last["module"][f"encode.{name}"], value)


def test_a_blend_is_chosen_by_validation_and_0_and_1_are_the_two_models(small: Options, tmp_path: Path) -> None:
    options = {**small, "encoder": {"size": 32, "dim": 16}, "optimizer": {"lr": 5e-4}, "seed": 1}
    run = train(**options, out=str(tmp_path / "run"))
    metrics = json.loads((run / "metrics.json").read_text())
    blends = metrics["blends"]
    assert list(blends) == ["1", "0.75", "0.5", "0.25"]
    scores = [
        line[name]
        for line in read_log(run / "log.jsonl")
        for name in ("validation/map@r", "validation/average/map@r")
        if line["step"] and name in line
    ]
    assert blends["1"] == max(scores)
    assert metrics["validation"]["map@r"] == blends[f"{metrics['share']:g}"] == max(blends.values())
    assert metrics["gain"]["trained"] == pytest.approx(max(blends.values()))
    states = [load_checkpoint(run / "checkpoints" / f"{name}.pt")["module"] for name in ("start", "best")]
    share = metrics["share"]
    model = pullpush.load(run).encoders["image"].state_dict()
    for name, value in model.items():
        start, best = (state[f"encode.{name}"] for state in states)
        expected = {1.0: best}.get(share, torch.lerp(start, best, share) if best.is_floating_point() else best)
        assert torch.equal(value, expected), name
    items = pullpush.Items.load(run / "items.parquet").split("validation")
    embeddings = pullpush.load(run).embed([items.path(row) for row in range(len(items))])
    np.testing.assert_allclose(embeddings, np.load(run / "embeddings" / "validation-after.npy"), atol=1e-5)


def test_averages_can_be_left_out(small: Options, tmp_path: Path) -> None:
    run = train(**{**small, "average": {"ema": 0, "blend": False}, "steps": 2}, out=str(tmp_path / "run"))
    assert json.loads((run / "metrics.json").read_text())["blends"].keys() == {"1"}
    assert "average" not in load_checkpoint(run / "checkpoints" / "last.pt")
    assert not any("validation/average/map@r" in line for line in read_log(run / "log.jsonl"))
