"""The section of a run with texts: what texts find among the images, what images find among the texts."""

import textwrap
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pullpush.evaluation.metrics import title_of
from pullpush.reports import grids
from pullpush.reports.context import Context
from pullpush.reports.curves import draw_curves
from pullpush.reports.grids import CELL, GAP, PHONE, ROW, STEP, Tile, canvas, draw_mark, draw_tile, heading
from pullpush.reports.page import Block
from pullpush.reports.style import Theme
from pullpush.runs.reader import Absent

__all__ = ["curves", "image_queries", "metrics", "text_queries"]

IMAGES = 6
TEXTS = 5
QUERIES = 8
TEXT_WIDTH = 2.0  # inches of a text as query
LIST_WIDTH = 2.7  # inches of a list of texts
WAYS = {"text_to_image": "text to image", "image_to_text": "image to text"}
WHEN = {"before": "before", "after": "after", "views": "with views"}

Said = tuple[str, bool]
"""A text, and whether it is right."""


def text_queries(context: Context) -> Block:
    """Texts and the images that they find."""
    texts, evaluation = context.run.texts("test"), context.run.cross_modal("test", "after", "text_to_image")
    match, labels = _matches(context, texts), texts["label"].to_numpy()
    rows = []
    for row in _one_a_label(labels):
        nearest = [int(image) for image in evaluation.neighbours.indices[row, :IMAGES] if image >= 0]
        tiles = [grids.tile(context.test, image, bool(match[image] == labels[row])) for image in nearest]
        rows.append((texts["text"].iat[row], tiles))
    return context.figure(
        "text_to_image",
        partial(_draw_text_queries, rows, f"What texts of {context.queried} find"),
        alt=f"Texts of {context.queried} and the images nearest to each",
        caption=f"{len(rows)} texts of {context.queried}, drawn at random and not chosen, and the nearest of "
        f"{evaluation.references:,} images in order. A tick marks an image that the text belongs to.",
    )


def image_queries(context: Context) -> Block:
    """Images and the texts that they find."""
    texts, evaluation = context.run.texts("test"), context.run.cross_modal("test", "after", "image_to_text")
    match, labels = _matches(context, texts), texts["label"].to_numpy()
    rows = []
    for row in _one_a_label(match):
        nearest = [int(text) for text in evaluation.neighbours.indices[row, :TEXTS] if text >= 0]
        said = [(texts["text"].iat[text], bool(labels[text] == match[row])) for text in nearest]
        rows.append((grids.tile(context.test, row), said))
    return context.figure(
        "image_to_text",
        partial(_draw_image_queries, rows, f"What images of {context.queried} find"),
        alt=f"Images of {context.queried} and the texts nearest to each",
        caption=f"{len(rows)} images of {context.queried}, drawn at random, and the nearest of "
        f"{evaluation.references:,} texts. Under an image stands "
        f"{'the name of its class' if context.labelled else 'its own text'}.",
    )


def metrics(context: Context) -> Block:
    """Both directions, before and after training, and in the test views of the model, where it has some."""
    test = context.known_metrics.get("test") or {}
    columns = {title: test.get(when) or {} for when, title in WHEN.items()}
    keys = [key for key in columns["after"] if key.split("/")[0] in WAYS]
    if not keys:
        raise Absent("no metrics between images and texts")
    whens = [when for when, values in columns.items() if any(key in values for key in keys)]
    if not context.run.trained:
        columns, whens = {context.said("after"): columns["after"]}, [context.said("after")]
    rows = [[title_of(key), *(_number(key, columns[when].get(key)) for when in whens)] for key in keys]
    ranks = (
        " The rank is that of the nearest match, from 1; of tied ones it is the expected rank, so ties never help."
        if any(key.endswith("_rank") for key in keys)
        else ""
    )
    return Block(
        heading="Between images and texts",
        head=["between", *whens],
        rows=rows,
        caption=f"recall@k: the share of queries with a match among the k nearest of the other kind.{ranks}",
    )


def curves(context: Context) -> Block:
    """Recall in both directions over the steps."""
    if not context.run.trained:
        raise Absent("there were no steps")
    keys = {f"validation/{way}/recall@{k}": f"{name}, recall@{k}" for way, name in WAYS.items() for k in (1, 10)}
    logged, best, title = context.curves(keys), context.known_metrics.get("best_step"), "Images and texts in validation"
    return context.figure(
        "cross_modal_recall",
        partial(draw_curves, logged, window=context.window, title=title, y="recall", mark=best),
        alt="Recall between images and texts over steps",
        caption="The dotted line is at the step that was kept." if best else "",
    )


def _matches(context: Context, texts: pd.DataFrame) -> NDArray[np.int64]:
    """What a text's `label` is compared with: the labels of the items, or their ids where a text is of one item."""
    by_item = (texts["label"] == texts["id"]).all()
    return np.asarray(context.test.table["id" if by_item else "label"])


def _one_a_label(labels: NDArray[np.int64]) -> list[int]:
    return grids.one_a_class(labels, np.random.default_rng(0).permutation(len(labels)), QUERIES)


def _number(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.1f}" if key.endswith("rank") else f"{value:.3f}"


def _draw_text_queries(rows: Sequence[tuple[str, list[Tile]]], title: str, theme: Theme) -> Figure:
    """A text, and beside it, on a phone below it, the nearest images."""
    shown = PHONE + 1 if theme.narrow else IMAGES
    top, start, step = (0.45, 0.0, ROW + 0.35) if theme.narrow else (0.85, TEXT_WIDTH + GAP, ROW)
    figure, axes = canvas(start + shown * STEP, top + step * len(rows), title)
    if not theme.narrow:
        heading(axes, 0, 2, "text", theme)
        heading(axes, start, shown, "nearest images", theme)
    for index, (text, tiles) in enumerate(rows):
        y = top + step * index
        if theme.narrow:
            axes.text(0, y + 0.16, textwrap.shorten(text, 52, placeholder=" …"), va="center", size=9, color=theme.ink)
            y += 0.35
        else:
            said = "\n".join(textwrap.wrap(text, 24, max_lines=3, placeholder=" …"))
            axes.text(0, y + CELL / 2, said, va="center", size=10, color=theme.ink)
        for column, each in enumerate(tiles[:shown]):
            draw_tile(axes, start + STEP * column, y, each, theme)
    return figure


def _draw_image_queries(rows: Sequence[tuple[Tile, list[Said]]], title: str, theme: Theme) -> Figure:
    """Two columns, on a phone one, of an image and the nearest texts."""
    top, columns = 0.85, 1 if theme.narrow else 2
    wide = STEP + LIST_WIDTH
    figure, axes = canvas(columns * wide + GAP, top + ROW * -(-len(rows) // columns), title)
    for column in range(columns):
        heading(axes, column * (wide + GAP), 1, "image", theme)
        heading(axes, column * (wide + GAP) + STEP, LIST_WIDTH, "nearest texts", theme)
    for index, (image, said) in enumerate(rows):
        x, y = (index % columns) * (wide + GAP), top + ROW * (index // columns)
        draw_tile(axes, x, y, image, theme)
        for place, (text, right) in enumerate(said):
            left, middle = x + STEP + 0.04, y + 0.1 + 0.19 * place
            draw_mark(axes, left, middle, right, color=theme.right if right else theme.wrong, va="center")
            color = theme.ink if right else theme.muted
            shown = textwrap.shorten(text, 40, placeholder=" …")
            axes.text(left + 0.18, middle, shown, size=8, color=color, va="center")
    return figure
