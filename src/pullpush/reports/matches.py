"""Why images match: heat maps over both, whose sum is their cosine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from pullpush.data.items import Items
from pullpush.encoders import Match, Model, load
from pullpush.errors import UserError
from pullpush.evaluation import Evaluation
from pullpush.images import resize_and_center
from pullpush.images.heat import heated
from pullpush.reports import grids
from pullpush.reports.grids import Row, Tile
from pullpush.reports.style import Theme
from pullpush.runs.reader import Absent, Missing, RunFolder

__all__ = ["Pair", "Worst", "draw_pair", "draw_worst", "model_of", "pair_of", "said", "worst_pairs"]

SIDE = 128  # pixels of an image with its heat
BAR = 1.5  # inches


@dataclass(frozen=True)
class Pair:
    """Two images as the model sees them, and why they match."""

    match: Match
    a: NDArray[np.uint8]
    b: NDArray[np.uint8]

    @property
    def largest(self) -> float:
        """What the strongest place of both adds, or takes away."""
        return float(max(np.abs(self.match.map_a).max(), np.abs(self.match.map_b).max()))


class Worst(NamedTuple):
    """A query with its nearest reference of another class and its first right one, the titles of the three, and the
    place at which the last stands."""

    titles: tuple[str, str, str]
    wrong: Pair
    right: Pair
    place: float


def said(exact: bool) -> str:
    """What the values of a map are, in a sentence or two."""
    if exact:
        return "The places of an image add up to the cosine, exactly: its features are a mean over places."
    return (
        "An approximation: this model's cosine is no sum over places. Integrated gradients, which add up to the cosine "
        "with what they do not explain in equal parts everywhere."
    )


def model_of(run: RunFolder) -> Model:
    """The model of a run that embeds images.

    Raises:
        Absent: the run folder has none.
        Missing: it is damaged.
    """
    if not (run.path / "model").is_dir():
        raise Absent("the run folder has no model")
    try:
        model = load(run.path)
    except UserError as error:
        raise Missing(str(error)) from error
    if "image" not in model.encoders:
        raise Absent("the model embeds no images")
    return model


def pair_of(model: Model, a: Image.Image, b: Image.Image, pixels: bool = False) -> Pair:
    """Two images, explained; `pixels` as of `Model.explain`."""
    return Pair(model.explain(a, b, pixels), *(resize_and_center(image, SIDE, model.fit) for image in (a, b)))


def worst_pairs(items: Items, evaluation: Evaluation, model: Model, count: int = 6) -> list[Worst]:
    """Of the worst queries those whose images can be read."""
    queries, pairs = evaluation.per_query, []
    for place in grids.worst_queries(evaluation, count):
        negative, positive = (int(queries[name].iat[place]) for name in ("nearest_negative", "nearest_positive"))
        rows = (int(queries.index[place]), negative, positive)
        try:
            query, wrong, right = (items.open(row) for row in rows)
        except (UserError, OSError):
            continue
        first, second, third = (grids.title(items, row) for row in rows)
        rank = float(queries["rank"].iat[place])
        pairs.append(Worst((first, second, third), pair_of(model, query, wrong), pair_of(model, query, right), rank))
    return pairs


def draw_worst(pairs: Sequence[Worst], theme: Theme) -> Figure:
    """A row a query: the image, then with the wrong and with the right reference what matches in both images."""
    scale = max(one.largest for worst in pairs for one in (worst.wrong, worst.right))
    rows = [
        Row(
            Tile(each.wrong.a, each.titles[0]),
            [
                _tiles(each.wrong, scale, each.titles[1], False),
                _tiles(each.right, scale, each.titles[2], True),
            ],
            grids.at_place(each.place),
        )
        for each in pairs
    ]
    figure = grids.draw_rows(rows, ["with the wrong nearest", "with the first right"], "Why they match", theme)
    _draw_bar(figure.axes[0], scale, theme)
    return figure


def draw_pair(pair: Pair, names: tuple[str, str], theme: Theme) -> Figure:
    """Two images, and what matches in both."""
    row = Row(Tile(pair.a, names[0]), [_tiles(pair, pair.largest, names[1], None), [Tile(pair.b, names[1])]])
    figure = grids.draw_rows([row], ["what matches", "other image"], "", theme)
    figure.axes[0].text(0, 0, f"cosine {pair.match.score:.3f}", va="top", size=11, weight="bold")
    _draw_bar(figure.axes[0], pair.largest, theme)
    return figure


def _tiles(pair: Pair, scale: float, name: str, right: bool | None) -> list[Tile]:
    return [
        Tile(heated(pair.a, pair.match.map_a, scale), f"cosine {pair.match.score:.3f}".replace("-", "−")),
        Tile(heated(pair.b, pair.match.map_b, scale), name, right),
    ]


def _draw_bar(axes: Axes, scale: float, theme: Theme) -> None:
    """A colour bar at the top right, in units of the cosine."""
    right = axes.get_xlim()[1] - 0.12
    grey = np.full((SIDE, SIDE, 3), 190, np.uint8)
    bar = heated(grey, np.linspace(-1, 1, 64)[None], 1.0)[: SIDE // 10]
    axes.imshow(bar, extent=(right - BAR, right, 0.26, 0.14), aspect="auto")
    axes.text(right - BAR / 2, 0.1, "share of the cosine, a place", ha="center", size=7, color=theme.muted)
    for x, value in ((right - BAR, -scale), (right - BAR / 2, 0.0), (right, scale)):
        align = "left" if value < 0 else "right" if value > 0 else "center"
        text = f"{value:+.2g}".replace("-", "−") if value else "0"
        axes.text(x, 0.36, text, ha=align, va="center", size=6.5, color=theme.muted)
