"""Where the head of a run starts."""

from typing import Any

import numpy as np
import pytest
import torch

from pullpush.data.items import Items
from pullpush.runs.options import config_from
from pullpush.training.loop import make_items
from pullpush.training.task import Task

Options = dict[str, Any]


def task_of(small: Options, **encoder: Any) -> Task:
    config = config_from({**small, "encoder": {**small["encoder"], **encoder}})
    task = Task(config, make_items(config.data, config.seed))
    task.start()
    return task


def on_training_images(task: Task) -> torch.Tensor:
    """What the head gives of all training images, before its length is made 1."""
    tower = task.first
    with torch.no_grad():
        features = task.encoder.eval().features(tower.inputs(tower.entries("train")))
        found: torch.Tensor = task.encoder.head(features).double()
    return found


@pytest.mark.parametrize("freeze", [False, True])
def test_the_head_starts_at_the_principal_components_of_training_images(small: Options, freeze: bool) -> None:
    found = on_training_images(task_of(small, freeze=freeze, dim=8))
    variances = found.var(0)
    assert torch.allclose(found.mean(0) / found.std(), torch.zeros(8, dtype=torch.float64), atol=1e-3)
    assert (variances.diff() <= 1e-3 * variances[0]).all()
    correlations = torch.corrcoef(found.T) - torch.eye(8, dtype=torch.float64)
    assert correlations.abs().max() < 0.02


def test_the_labels_have_no_say(small: Options) -> None:
    one, other = (task_of(small, dim=8) for _ in range(2))
    table, train = one.items.table.copy(), one.items.table["split"] == "train"
    table.loc[train, "label"] = np.roll(table.loc[train, "label"], 1)
    config = config_from({**small, "encoder": {**small["encoder"], "dim": 8}})
    third = Task(config, Items(table, one.items.classes, one.items.name, one.items.notes))
    third.start()
    for task in (other, third):
        assert torch.equal(one.encoder.head.weight, task.encoder.head.weight)


@pytest.mark.parametrize("options", [{"init": "random"}, {"head": "mlp"}, {"dim": 4096}], ids=str)
def test_elsewhere_it_is_random(small: Options, options: Options) -> None:
    task = task_of(small, **options)
    again = type(task.encoder)(
        **{k: v for k, v in {**small["encoder"], **options}.items() if k != "init"}, frozen_stages=3, seed=0
    )
    for name, value in again.head.state_dict().items():
        assert torch.equal(value, task.encoder.head.state_dict()[name])
