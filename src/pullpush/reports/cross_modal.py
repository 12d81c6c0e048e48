"""The section of a run with descriptions: what texts find among the images, what images find among the texts."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pullpush.evaluation.metrics import title_of
from pullpush.reports import grids, style
from pullpush.reports.context import Material
from pullpush.reports.curves import plot_curves
from pullpush.reports.grids import CELL, GAP, PHONE, STEP, Tile, canvas, draw_tile, heading
from pullpush.reports.page import Block
from pullpush.reports.style import Theme
from pullpush.runs.reader import Absent

IMAGES = 6
TEXTS = 5
QUERIES = 8
TEXT_WIDTH = 2.0  # inches of a description as query
LIST_WIDTH = 2.7  # inches of a list of descriptions found
ROW = 1.33
WAYS = {"text_to_image": "text to image", "image_to_text": "image to text"}


@dataclass(frozen=True)
class Said:
    """A description, and whether it is right."""

    text: str
    right: bool


def text_queries(material: Material) -> Block:
    """Descriptions and the images that they find."""
    texts, found = material.run.texts("test"), material.run.cross_modal("test", "after", "text_to_image")
    match, labels = _matches(material, texts), texts["label"].to_numpy()
    rows = []
    for row in _one_a_label(labels):
        nearest = [int(image) for image in found.neighbours.indices[row, :IMAGES] if image >= 0]
        tiles = [grids.tile(material.test, image, bool(match[image] == labels[row])) for image in nearest]
        rows.append((texts["text"].iat[row], tiles))
    return material.picture(
        "text_to_image",
        partial(_draw_text_queries, rows, f"What descriptions of {material.queried} find"),
        alt=f"Descriptions of {material.queried} and the images nearest to each",
        caption=f"{len(rows)} descriptions of {material.queried}, drawn at random and not chosen, and the nearest of "
        f"{found.references:,} images in order. A tick marks an image that the description belongs to.",
    )


def image_queries(material: Material) -> Block:
    """Images and the descriptions that they find."""
    texts, found = material.run.texts("test"), material.run.cross_modal("test", "after", "image_to_text")
    match, labels = _matches(material, texts), texts["label"].to_numpy()
    rows = []
    for row in _one_a_label(match):
        nearest = [int(text) for text in found.neighbours.indices[row, :TEXTS] if text >= 0]
        said = [Said(texts["text"].iat[text], bool(labels[text] == match[row])) for text in nearest]
        rows.append((grids.tile(material.test, row), said))
    return material.picture(
        "image_to_text",
        partial(_draw_image_queries, rows, f"What images of {material.queried} find"),
        alt=f"Images of {material.queried} and the descriptions nearest to each",
        caption=f"{len(rows)} images of {material.queried}, drawn at random, and the nearest of {found.references:,} "
        f"descriptions. Under an image stands {'the name of its class' if material.labelled else 'its own'}.",
    )


def metrics(material: Material) -> Block:
    """Both directions, before and after training."""
    test = material.known_metrics.get("test") or {}
    before, after = test.get("before") or {}, test.get("after") or {}
    keys = [key for key in after if key.split("/")[0] in WAYS]
    if not keys:
        raise Absent("no metrics between images and descriptions")
    head = ["between", "before", "after"] if any(key in before for key in keys) else ["between", "after"]
    columns = {"before": before, "after": after}
    rows = [[title_of(key), *(_number(key, columns[when].get(key)) for when in head[1:])] for key in keys]
    ranks = (
        " The rank is that of the nearest match, from 1; of tied ones it is the expected rank, so ties never help."
        if any(key.endswith("_rank") for key in keys)
        else ""
    )
    return Block(
        heading="Between images and descriptions",
        head=head,
        rows=rows,
        caption=f"recall@k: the share of queries with a match among the k nearest of the other kind.{ranks}",
    )


def curves(material: Material) -> Block:
    """Recall in both directions over the steps."""
    log = material.run.log
    keys = {f"validation/{way}/recall@{k}": f"{name}, recall@{k}" for way, name in WAYS.items() for k in (1, 10)}
    found = [material.run.curve(key, name) for key, name in keys.items() if key in log]
    if not found:
        raise Absent("no validation between images and descriptions")

    def draw(theme: Theme) -> Figure:
        figure, axes = style.subplots()
        best = material.known_metrics.get("best_step")
        if best:
            axes.axvline(best, color=theme.muted, linestyle=":", linewidth=1.2)
        plot_curves(axes, found, theme, window=material.window)
        style.label(axes, "Images and descriptions in validation", "step", "recall")
        style.legend_below(figure, columns=2)
        return figure

    return material.picture(
        "cross_modal_recall",
        draw,
        alt="Recall between images and descriptions over steps",
        caption="The dotted line is at the step that was kept." if material.known_metrics.get("best_step") else "",
    )


def _matches(material: Material, texts: pd.DataFrame) -> NDArray[np.int64]:
    """What a text's `label` is compared with: the labels of the items, or their ids where a text is of one item."""
    by_item = (texts["label"] == texts["id"]).all()
    return np.asarray(material.test.table["id" if by_item else "label"])


def _one_a_label(labels: NDArray[np.int64], seed: int = 0) -> list[int]:
    order = np.random.default_rng(seed).permutation(len(labels))
    first: dict[int, int] = {}
    for row in order:
        first.setdefault(int(labels[row]), int(row))
        if len(first) == QUERIES:
            break
    return list(first.values())


def _number(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.1f}" if key.endswith("rank") else f"{value:.3f}"


def _draw_text_queries(rows: Sequence[tuple[str, list[Tile]]], title: str, theme: Theme) -> Figure:
    """A description, and beside it, on a phone below it, the nearest images."""
    found = PHONE + 1 if theme.narrow else IMAGES
    top, start, step = (0.45, 0.0, ROW + 0.35) if theme.narrow else (0.85, TEXT_WIDTH + GAP, ROW)
    figure, axes = canvas(start + found * STEP, top + step * len(rows), title)
    if not theme.narrow:
        heading(axes, 0, 2, "description", theme)
        heading(axes, start, found, "nearest images", theme)
    for index, (text, tiles) in enumerate(rows):
        y = top + step * index
        if theme.narrow:
            axes.text(0, y + 0.16, textwrap.shorten(text, 52, placeholder=" …"), va="center", size=9, color=theme.ink)
            y += 0.35
        else:
            said = "\n".join(textwrap.wrap(text, 24, max_lines=3, placeholder=" …"))
            axes.text(0, y + CELL / 2, said, va="center", size=10, color=theme.ink)
        for column, tile in enumerate(tiles[:found]):
            draw_tile(axes, start + STEP * column, y, tile, theme)
    return figure


def _draw_image_queries(rows: Sequence[tuple[Tile, list[Said]]], title: str, theme: Theme) -> Figure:
    """Two columns, on a phone one, of an image and the nearest descriptions."""
    top, columns = 0.85, 1 if theme.narrow else 2
    wide = STEP + LIST_WIDTH
    height = top + ROW * -(-len(rows) // columns)
    figure, axes = canvas(columns * wide + GAP, height, title)
    for column in range(columns):
        heading(axes, column * (wide + GAP), 1, "image", theme)
        heading(axes, column * (wide + GAP) + STEP, LIST_WIDTH, "nearest descriptions", theme)
    for index, (tile, said) in enumerate(rows):
        x, y = (index % columns) * (wide + GAP), top + ROW * (index // columns)
        draw_tile(axes, x, y, tile, theme)
        for place, one in enumerate(said):
            _draw_said(axes, x + STEP + 0.04, y + 0.1 + 0.19 * place, one, theme)
    return figure


def _draw_said(axes: Axes, x: float, y: float, said: Said, theme: Theme) -> None:
    color = theme.right if said.right else theme.wrong
    axes.text(x, y, "✓" if said.right else "✕", color=color, size=8, weight="bold", family="DejaVu Sans", va="center")
    text = textwrap.shorten(said.text, 40, placeholder=" …")
    axes.text(x + 0.18, y, text, size=8, color=theme.ink if said.right else theme.muted, va="center")
