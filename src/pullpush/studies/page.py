"""The page of a study: one file, no network."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pullpush.data.items import Items
from pullpush.maths import losses
from pullpush.reports.render import render
from pullpush.reports.style import Picture, write_atomically
from pullpush.studies.plan import StudyRun
from pullpush.studies.runner import folder_of, is_finished
from pullpush.training.config import Config

__all__ = ["Section", "Shown", "how_obtained", "margin_meaning", "write_page"]


@dataclass(frozen=True)
class Shown:
    """A figure and what it says."""

    picture: Picture
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading with sentences, figures and a table, each of them optional."""

    title: str
    text: Sequence[str] = ()
    figures: Sequence[Shown] = ()
    table: pd.DataFrame | None = None
    points: Sequence[str] = ()


def write_page(path: Path, title: str, sentence: str, sections: Sequence[Section]) -> None:
    """Writes the page, replacing an earlier one."""
    html = render(
        "pullpush.studies", "study.html", filters={"cells": _cells}, name=title, sentence=sentence, sections=sections
    )
    write_atomically(path, html.encode())


def _cells(table: pd.DataFrame) -> list[tuple[str, ...]]:
    """The rows as text. Numbers of a column are as they were set, or, where they were measured, of equal decimals."""
    return list(zip(*(_column(table[name]) for name in table), strict=True))


def _column(values: pd.Series) -> list[str]:
    if not pd.api.types.is_float_dtype(values):
        return [_text(value) for value in values]
    known = values[np.isfinite(values)]
    short = all(float(f"{value:.4g}") == value for value in known)
    decimals = 4 if short else min(max(3 - math.floor(math.log10(known.abs().max())), 0), 4)
    return [_text(value, f".{decimals}{'g' if short else 'f'}") for value in values]


def _text(value: object, form: str = ".4g") -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:{form}}"
    return str(value)


def how_obtained(runs: Sequence[StudyRun], out: Path, failed: Sequence[str]) -> list[str]:
    """How each number came about: data, splits, seeds, budget, choice, test, intervals."""
    config = runs[0].config
    seeds = sorted({run.config.seed for run in runs})
    first = next(folder for run in runs if is_finished(folder := folder_of(out, run)))
    classes = _split_sizes(Items.load(first / "items.parquet"))
    frozen = config.encoder.freeze
    lines = [
        f"Data: {Path(config.data.source).name}, split by class with the seed of the run: {classes} (seed {seeds[0]}). "
        "A class is in one split only. Runs of the same seed share splits, batches and the start of the head.",
        f"Budget: {config.steps:,} steps of {_batches(runs)} for every setting, AdamW at {config.optimizer.lr:g} with "
        "warm-up and cosine decay.",
        f"Encoder: {config.encoder.name}, "
        + (
            "frozen; its features were computed once and the head alone was trained."
            if frozen
            else "fine-tuned with its head."
        ),
        "The weights that are tested are those with the best MAP@R on the validation classes. The test classes are "
        "embedded once before training, as the starting line, and once at the end; no option was chosen on them.",
        f"Seeds: {', '.join(map(str, seeds))}. "
        + (
            "Bands and intervals are 95% by Student's t over the seeds; a seed stands for the splits, the batches and "
            "the start."
            if len(seeds) > 1
            else "One repeat: there are no intervals, and small differences say nothing. Give --seeds 3 or more."
        ),
        "recall@1 and MAP@R are of each test item against all others; MAP@R divides by the number of positives.",
        "The time of a run includes its evaluations"
        + (", that of the first also the features. " if frozen else ". ")
        + "Curves are a centred moving average that shrinks at the ends "
        "and never leaves the data; raw values are faint behind.",
    ]
    if config.data.folds > 1:
        lines.append(f"Classes are split in {config.data.folds} folds; fold {config.data.fold} is the test.")
    if config.data.long_tail > 1:
        lines.append(f"Training classes are thinned out: the largest has {config.data.long_tail:g} x the smallest.")
    return [*lines, *(f"Failed, and left out: {failure}" for failure in failed)]


def _batches(runs: Sequence[StudyRun]) -> str:
    batches = sorted({(run.config.batch.classes, run.config.batch.samples) for run in runs})
    (classes, samples), *_, (most, _) = [*batches, batches[-1]]
    if len(batches) == 1:
        return f"{classes} classes x {samples} items"
    return f"{classes} to {most} classes x {samples} items, as the table says,"


def _split_sizes(items: Items) -> str:
    return ", ".join(
        f"{name} {len(part)} items of {part.table['label'].nunique()} classes"
        for name in ("train", "validation", "test")
        if len(part := items.split(name))
    )


def margin_meaning(config: Config) -> str:
    """What the option `margin` of a run's loss is measured on."""
    name = config.loss["name"]
    similarity = config.similarity or losses.traits_of(losses.REGISTRY[name]).similarity
    if name == "circle":
        return (
            "circle: the margin is the relaxation m of the paper: optima 1 + m and -m, decision margins 1 - m and m on "
            "the cosine; the boundary is a quarter circle of radius m sqrt(2) around (s_n, s_p) = (0, 1). A smaller m "
            "is stricter."
        )
    units = {
        "negative_squared_euclidean": "squared Euclidean distance between unit vectors (0 to 4): d_p² + m < d_n², "
        "which is m / 2 on the cosine",
        "negative_euclidean": "Euclidean distance between unit vectors (0 to 2)",
        "cosine": "cosine similarity (-1 to 1)",
    }
    return f"{name}: the margin is in units of the {units.get(str(similarity), f'similarity {similarity}')}."
