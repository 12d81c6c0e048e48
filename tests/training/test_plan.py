"""Runs of so many minutes: the plan follows from the facts, and the steps follow the clock."""

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from lightning_fabric import Fabric
from PIL import Image

from pullpush.cli import main
from pullpush.data.images import median_side
from pullpush.data.items import Items
from pullpush.data.sources import open_items
from pullpush.data.splits import split_by_class
from pullpush.errors import UserError
from pullpush.images.files import idx_bytes
from pullpush.runs.checkpoint import load_checkpoint
from pullpush.runs.log import read_log
from pullpush.runs.options import config_from
from pullpush.training import loop, measure, pace, train
from pullpush.training.averages import SHARES
from pullpush.training.pace import Pace
from pullpush.training.plan import (
    CLASSES,
    ENOUGH,
    FEWEST,
    SIZES,
    Facts,
    expected,
    plan,
    seconds_at,
    size_for,
    steps_left,
)

Options = dict[str, Any]
# Photographs on two cores: a step of an image at 224 px takes 40 ms.
PHOTOS = Facts(
    images=4000,
    classes=300,
    train=1800,
    validation=200,
    test=2000,
    train_classes=135,
    samples=20,
    side=480,
    seconds=600.0,
    decode=0.004,
    decode_ahead=0.002,
    forward={96: 0.0024, 224: 0.013},
    step={96: 0.0075, 224: 0.04},
    head=1e-4,
    untrained={64: 0.42, 96: 0.5, 128: 0.55, 160: 0.585, 224: 0.6},
    ending=30.0,
)


def test_cost_between_and_beyond_the_measured_sizes() -> None:
    assert seconds_at({96: 1.0, 192: 4.0}, 96) == 1.0
    assert seconds_at({96: 1.0, 192: 4.0}, 144) == pytest.approx(2.25)
    assert seconds_at({96: 1.0, 192: 4.0}, 384) == pytest.approx(16)
    assert seconds_at({96: 1.0, 192: 2.0}, 384) == pytest.approx(4)
    assert seconds_at({128: 1.0}, 64) == pytest.approx(0.25)
    assert seconds_at({96: 2.0, 192: 1.0}, 384) == 1.0  # measured on a busy machine: larger is never cheaper


@pytest.mark.parametrize(
    ("side", "size", "with_gpu"),
    [
        *[(28, 64, 64), (72, 64, 64), (100, 64, 64), (113, 128, 128), (150, 160, 160)],
        *[(240, 160, 224), (480, 160, 224), (3000, 160, 224)],
    ],
)
def test_size_follows_the_images_where_nothing_is_said(side: int, size: int, with_gpu: int) -> None:
    assert (size_for(side), size_for(side, gpu=True)) == (size, with_gpu)


@pytest.mark.parametrize("minutes", [3, 10, 60, 600])
@pytest.mark.parametrize("busy", [1, 4])
def test_a_plan_fits_its_time_and_uses_it(minutes: float, busy: float) -> None:
    facts = replace(
        PHOTOS,
        seconds=60 * minutes,
        **{name: {size: each * busy for size, each in getattr(PHOTOS, name).items()} for name in ("forward", "step")},
    )
    made = plan(facts)
    assert 0.9 * facts.seconds < made.seconds <= facts.seconds
    assert made.freeze or made.steps >= 0.9 * FEWEST
    assert 2 <= math.ceil(made.steps / made.validate_every) <= 9
    validations = math.ceil(made.steps / made.validate_every)
    batch = made.classes * made.samples
    assert made.seconds == expected(facts, made.size, made.freeze, batch, made.steps, validations)


def test_more_time_brings_no_smaller_size_and_no_smaller_batch() -> None:
    plans = [plan(replace(PHOTOS, seconds=60.0 * minutes)) for minutes in (2, 3, 5, 10, 20, 60)]
    assert [each.size for each in plans] == sorted(each.size for each in plans)
    assert plans[0].size < plans[-1].size == 160  # 224 finds hardly more
    for one, other in pairwise(plans):
        assert one.size != other.size or one.classes <= other.classes
    assert plans[-1].classes == 32


def test_the_size_is_the_smallest_at_which_the_untrained_model_finds_about_the_most() -> None:
    flat = dict.fromkeys(SIZES, 0.5)
    assert plan(replace(PHOTOS, untrained=flat)).size == 64
    assert plan(replace(PHOTOS, untrained={**flat, 160: 0.6})).size == 160
    assert plan(replace(PHOTOS, untrained={}, seconds=3600.0)).size == size_for(480)
    assert plan(replace(PHOTOS, untrained={}, seconds=3600.0, gpu=True)).size == size_for(480, gpu=True)
    assert plan(replace(PHOTOS, untrained={64: 0.4, 96: 0.5})).size == 96  # no time to look at larger ones
    icons = replace(PHOTOS, side=64, untrained={64: 0.3, 96: 0.35, 128: 0.36})
    assert plan(icons).size == 96


def test_a_batch_becomes_smaller_before_the_steps_become_few() -> None:
    for seconds in (150.0, 300.0, 600.0, 3600.0):
        made = plan(replace(PHOTOS, seconds=seconds), size=128, freeze=False)
        assert made.samples == 4
        larger = [each for each in CLASSES if each > made.classes]
        for classes in larger:
            assert plan(replace(PHOTOS, seconds=seconds), size=128, classes=classes, freeze=False).steps < ENOUGH
    assert plan(replace(PHOTOS, seconds=3600.0, train_classes=20, samples=3), size=64).classes == 20
    assert plan(replace(PHOTOS, samples=3)).samples == 3


def test_few_images_at_a_larger_size_are_worth_more_than_a_backbone_that_learns() -> None:
    seconds = 200.0
    sizes = {64: 0.3, 96: 0.31, 128: 0.33, 160: 0.345, 224: 0.35}
    few = replace(PHOTOS, images=800, train=380, test=350, validation=70, seconds=seconds, untrained=sizes)
    slow = replace(few, forward={96: 0.01, 224: 0.06}, step={96: 0.1, 224: 0.54})
    learning, made = plan(slow, freeze=False), plan(slow)
    assert learning.size < 160
    assert (made.freeze, made.size) == (True, 160)
    many = replace(slow, train=1000)
    assert not plan(many).freeze
    assert not plan(replace(slow, untrained=dict.fromkeys(sizes, 0.3))).freeze
    assert not plan(replace(few, seconds=1200.0)).freeze  # there is time for both


def test_the_backbone_is_frozen_where_the_time_is_too_short_for_it() -> None:
    many = replace(PHOTOS, images=100_000, train=45_000, validation=5_000, test=50_000)
    many = replace(many, decode=5e-4, decode_ahead=3e-4)
    short = plan(replace(many, seconds=250.0))
    assert (short.freeze, short.size) == (True, 64)
    assert short.seconds < 250
    assert not plan(replace(many, seconds=450.0)).freeze


@pytest.mark.parametrize(
    "said",
    [
        *({"size": 224}, {"freeze": True}, {"freeze": False}, {"classes": 5}, {"samples": 2}, {"validate_every": 7}),
        *({"steps": 33}, {"size": 96, "classes": 8, "samples": 2, "freeze": False, "validate_every": 11, "steps": 5}),
    ],
)
@pytest.mark.parametrize("seconds", [1.0, 60.0, 600.0, 1e5])
def test_what_is_said_stays(said: dict[str, Any], seconds: float) -> None:
    made = plan(replace(PHOTOS, seconds=seconds), **said)
    assert {name: getattr(made, name) for name in said} == said
    assert made.steps >= 1


def test_steps_left_end_with_a_validation() -> None:
    assert steps_left(100, 1, 0, 10, 0) == 100
    assert steps_left(10 * (10 + 2), 1, 2, 10, 0) == pytest.approx(100, abs=2)
    assert steps_left(1, 1, 2, 10, 5) == 0
    assert steps_left(-5, 1, 2, 10, 5) == 0
    for since in range(10):  # as the clock would have it, with the last validation after the last step
        left = steps_left(200, 1.5, 4, 10, since)
        taken = 1.5 * left + 4 * ((since + left - 1) // 10 + 1)
        assert 200 - 1.5 - 4 <= taken <= 200 + 4


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def driven(
    monkeypatch: pytest.MonkeyPatch,
    minutes: float,
    costs: Iterator[float],
    steps: int,
    every: int,
    blend: bool = False,
) -> Any:
    """A run whose steps cost what they cost, a validation 3 s, the embedding before and after 10 s and 20 s, by a clock
    of its own; with what `Pace` sets, the seconds that it took, and the share of the run after each step. With `blend`
    100 images validate, once more for each blend after the last step, and the first embedding begins 10 s late."""
    clock, paced = Clock(), Pace()
    monkeypatch.setattr(pace, "perf_counter", clock)
    splits = {"train": range(200), "validation": range(100 * blend), "test": range(200)}
    average = SimpleNamespace(blend=blend)
    config = SimpleNamespace(minutes=minutes, steps=steps, validate_every=every, average=average)
    run: Any = SimpleNamespace(
        config=config, since=0.0, step=0, share=0.0, tail=5.0, task=SimpleNamespace(splits=splits)
    )
    run.fabric = SimpleNamespace(broadcast=lambda value: value)
    shares = []
    paced.on_begin(run)
    clock.now += 10 + 10 * blend
    paced.on_train_start(run)
    clock.now += 15  # images are decoded for the first step
    while run.step < config.steps:
        run.share += (1 - run.share) / (config.steps - run.step)
        clock.now += next(costs)
        run.step += 1
        shares.append(run.share)
        paced.on_step(run, run.step)
        last = run.step == config.steps
        if last or run.step % every == 0:
            paced.on_validate(run, run.step)
            clock.now += 3
            paced.on_look(run, run.step, True)
    clock.now += 20 + 5 + 3 * len(SHARES) * blend
    return clock.now, shares, config.steps


def costs(kind: str) -> Iterator[float]:
    draw, step = np.random.default_rng(0), 0
    while True:
        step += 1
        yield {
            "steady": 1.0,
            "slower": 1.0 if step < 100 else 2.5,
            "faster": 1.0 if step < 100 else 0.3,
            "noisy": float(draw.exponential(1.0)),
            "half": 0.5,
            "thrice": 3.0,
            "late": 11.0 if step == 2 else 0.05,  # a GPU: kernels are chosen and loaded, processes start
        }[kind]


@pytest.mark.parametrize("kind", ["steady", "slower", "faster", "noisy", "half", "thrice"])
def test_the_minutes_are_kept_whatever_the_steps_take(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, shares, steps = driven(monkeypatch, 5, costs(kind), 220, 30)
    assert 0.93 * 300 <= taken <= 300
    assert len(shares) == steps
    assert shares[-1] == pytest.approx(1)
    assert all(0 < b - a < 0.05 for a, b in pairwise(shares))
    if kind == "steady":  # as planned, and the rate with it
        assert abs(steps - 220) <= 5


@pytest.mark.parametrize(("minutes", "blend"), [(1.2, False), (5, False), (5, True)])
def test_a_slow_beginning_neither_ends_a_run_nor_leaves_minutes_unused(
    minutes: float, blend: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, _, steps = driven(monkeypatch, minutes, costs("late"), 150, 50, blend)
    assert 0.9 * 60 * minutes <= taken <= 60 * minutes
    assert steps > 40


def test_too_few_minutes_end_after_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    assert driven(monkeypatch, 0.1, costs("steady"), 50, 10)[2] == 1


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Facts as of some machine; how long anything takes on this one is not looked at."""

    def measured(config: Any, items: Items, seconds: float, device: Any) -> Facts:
        speed = {"forward": {32: 1e-3}, "step": {32: 5e-3}}
        return replace(PHOTOS, images=32, train=12, validation=8, test=12, train_classes=3, seconds=seconds, **speed)

    monkeypatch.setattr(measure, "measured", measured)
    monkeypatch.setattr(loop, "WRITE_EVERY", 2)


@pytest.fixture
def timed(small: Options) -> Options:
    given = {name: each for name, each in small.items() if name not in ("batch", "steps", "validate_every")}
    return {**given, "minutes": 60, "nmi": False}


@pytest.mark.usefixtures("quick")
def test_a_run_of_minutes_writes_its_plan_keeps_to_the_clock_and_resumes(
    timed: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps: list[int] = []

    def five(run: Any, step: int) -> None:  # ends the run's time, by the clock
        steps.append(run.config.steps)
        if step == 5:
            run.since -= 10_000
        if step == 4 and not (tmp_path / "stopped").exists():
            (tmp_path / "stopped").touch()
            raise KeyError

    folder = tmp_path / "run"
    with pytest.raises(KeyError):
        train(**timed, out=str(folder), callbacks=[five])
    said = capsys.readouterr().out
    assert "32 images of 300 classes, about 480 px" in said
    planned = yaml.safe_load((folder / "config.yaml").read_text())
    assert planned["minutes"] == 60
    assert planned["steps"] > 5
    assert planned["encoder"]["size"] == 32
    assert planned["encoder"]["freeze"] in (True, False)
    assert f"{planned['steps']:,} steps of {planned['batch']['classes']} x {planned['batch']['samples']}" in said
    saved = load_checkpoint(folder / "checkpoints" / "last.pt")["pace"]
    assert 0 < saved["share"] < 1
    train(**timed, out=str(folder), callbacks=[five])  # the same command goes on; its plan is not made again
    assert "steps of" not in capsys.readouterr().out
    lines = [line for line in read_log(folder / "log.jsonl") if "lr" in line]
    assert lines[-1]["step"] == len(lines) == 6
    metrics = yaml.safe_load((folder / "metrics.json").read_text())
    assert metrics["steps"] == len(lines)


def test_a_small_run_is_measured_and_planned_for_real(timed: Options, tmp_path: Path) -> None:
    """What it takes in seconds is not asserted: that is the machine's."""
    run = train(**{**timed, "minutes": 0.02, "encoder": {"weights": "none", "dim": 16}}, out=str(tmp_path / "run"))
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["encoder"]["size"] in SIZES
    assert config["steps"] >= 1
    assert (run / "metrics.json").exists()


def test_the_default_size_is_settled_and_written(
    small: Options, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = np.random.default_rng(0)
    for name in "abcdefgh":
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(3):
            noise = Image.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            noise.resize((150, 130)).save(tmp_path / "photos" / name / f"{number}.jpg")
    data = {**small["data"], "source": str(tmp_path / "photos")}
    options = {**small, "data": data, "encoder": {"weights": "none", "dim": 16}, "steps": 1}
    run = train(**options, out=str(tmp_path / "run"))
    assert (
        "images of about 130 px: 128 px are trained on (--encoder.size), which takes about" in capsys.readouterr().out
    )
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["encoder"]["size"] == 128
    assert config["encoder"]["freeze"] is False
    assert config["precision"] == "32"


def test_a_backbone_of_one_size_is_trained_at_it(small: Options, capsys: pytest.CaptureFixture[str]) -> None:
    """Whether the machine plans or not; the images are larger."""
    items = split_by_class(open_items(small["data"]["source"]), test=0.25, validation=0.25)
    for options in ({}, {"minutes": 30}):
        config = config_from({"encoder": {"name": "test_vit", "weights": "none", "dim": 16}, **options})
        measure.settle(config, items, time.perf_counter(), Fabric(accelerator="cpu", devices=1))
        assert config.encoder.size == 160
        said = capsys.readouterr().out
        assert ("160 px, " if options else "'test_vit' is built for 160 px and trained at that") in said
    config = config_from({"task": "image-text", "encoder.name": "test_vit"})
    assert not config.encoder.size


def test_the_median_side_is_that_of_headers_boxes_and_archives(tmp_path: Path) -> None:
    paths = []
    for number, size in enumerate([(30, 20), (50, 70), (90, 80)]):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.new("RGB", size).save(paths[-1])
    assert median_side(Items.build("three", paths, ["a", "a", "b"])) == 50
    boxes = {"x_1": [1, 1, 1], "y_1": [2, 2, 2], "x_2": [11, 41, 61], "y_2": [32, 52, 12]}
    assert median_side(Items.build("boxed", paths, ["a", "a", "b"], **boxes)) == 10
    (tmp_path / "images-ubyte").write_bytes(idx_bytes(np.zeros((2, 28, 30), np.uint8)))
    assert median_side(Items.build("archive", [f"{tmp_path / 'images-ubyte'}#{n}" for n in (0, 1)], ["a", "b"])) == 28
    (tmp_path / "0.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"0\.png: not an image"):
        median_side(Items.build("broken", paths, ["a", "a", "b"]))


def test_minutes_and_steps_contradict_each_other_and_other_tasks_have_no_plan(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--minutes", "3", "--steps", "100"]) == 2
    assert "give one of them" in capsys.readouterr().err
    with pytest.raises(UserError, match="--task image-text give --steps"):
        train(task="image-text", minutes=3, data=str(photos), out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "precision"),
    [
        ({"minutes": 3}, "bf16"),
        ({"minutes": 3, "precision": "32"}, "32"),
        ({"minutes": 3, "device": "cpu"}, "32"),
        ({}, "32"),
    ],
)
def test_a_gpu_with_minutes_computes_in_bf16(options: Options, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("is_available", "is_bf16_supported"):
        monkeypatch.setattr(measure.torch.cuda, name, lambda: True)
    config = config_from(options)
    measure.settle_precision(config)
    assert config.precision == precision
