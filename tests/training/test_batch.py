"""The batch follows the data; what is asked for by name is given or refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pullpush.data.sampler import ClassBalancedSampler
from pullpush.errors import UserError
from pullpush.runs.options import config_from


def sampler_of(sizes: list[int], world: int = 1, **options: Any) -> ClassBalancedSampler:
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    config = config_from(options)
    return ClassBalancedSampler.for_data(labels, config.usual_batch, **vars(config.batch), world=world)


@pytest.mark.parametrize(
    ("sizes", "options", "classes", "samples"),
    [
        ([9] * 40, {}, 32, 4),
        ([9] * 10, {}, 10, 4),
        ([2] * 10, {}, 10, 2),
        ([2] * 9 + [50], {}, 10, 4),
        ([9] * 10, {"batch": {"classes": 3}}, 3, 4),
        ([9] * 10, {"batch": {"samples": 6}}, 10, 6),
        ([9] * 10 + [3] * 30, {"batch": {"short": "drop"}}, 10, 4),
        ([1] * 300, {"task": "image-text"}, 256, 1),
        ([1] * 50, {"task": "image-text"}, 50, 1),
    ],
)
def test_the_batch_follows_the_data(sizes: list[int], options: dict[str, Any], classes: int, samples: int) -> None:
    sampler = sampler_of(sizes, **options)
    assert (sampler.classes, sampler.samples) == (classes, samples)
    follows = [note for note in sampler.notes if "follow the training data" in note]
    usual = (256, 1) if options.get("task") else (32, 4)
    said = (not options.get("batch", {}).get("classes") and classes < usual[0]) or samples < usual[1]
    assert len(follows) == said
    assert all(f"{classes} classes x {samples} images" in note for note in follows)


def test_ranks_share_it_evenly() -> None:
    assert sampler_of([4] * 11, world=4).classes == 8


def test_what_is_asked_for_by_name_is_refused_where_the_data_do_not_give_it() -> None:
    with pytest.raises(UserError, match=r"--batch\.classes 50 needs .* there are 10: lower it, or leave it out"):
        sampler_of([4] * 10, batch={"classes": 50})
    with pytest.raises(UserError, match=r"there are 3 of 4 images or more"):
        sampler_of([4] * 3 + [2] * 9, batch={"classes": 5, "short": "drop"})


def test_a_folder_of_few_classes_trains_by_default(small: dict[str, Any], tmp_path: Path, capsys: Any) -> None:
    from pullpush.training.loop import train

    options = {**small, "steps": 2}
    del options["batch"]
    train(config_from({**options, "out": str(tmp_path / "run")}))
    assert "batches of 4 classes x 4 images follow the training data" in capsys.readouterr().out
