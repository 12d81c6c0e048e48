"""One look for every figure: a light and a dark theme, a colour-blind-safe palette, and the saving of both.

A figure is a function `draw(theme) -> Figure`; `save` calls it once a theme. pyplot is not used: it keeps figures in
global state.
"""

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter

from pullpush.escape import printable
from pullpush.files import write_bytes

__all__ = ["DARK", "LIGHT", "Drawing", "Theme", "label", "legend_below", "panels", "save", "settings", "subplots"]

#: Marks that go with the colours, so that no meaning depends on colour alone.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")

#: Fonts with the scripts that DejaVu Sans lacks, one of each system at least; those that are there are used.
SCRIPTS = (
    *("Noto Sans CJK JP", "Noto Sans JP", "Noto Sans SC", "Noto Sans KR", "Droid Sans Fallback", "WenQuanYi Zen Hei"),
    *("Hiragino Sans", "Apple SD Gothic Neo", "PingFang SC", "Yu Gothic", "Microsoft YaHei", "Malgun Gothic"),
    *("Noto Sans Devanagari", "Noto Sans Thai", "Arial Unicode MS", "FreeSans", "FreeSerif"),
)


@dataclass(frozen=True)
class Theme:
    """The colours of one theme. `series` is the palette of Okabe and Ito (2008), lightened where the page is dark.

    `narrow`: the figure is for a phone, and must not be wider than `NARROW` inches.
    """

    name: str
    paper: str
    ink: str
    muted: str
    faint: str
    grid: str
    right: str
    wrong: str
    series: tuple[str, ...]
    narrow: bool = False

    @property
    def before(self) -> str:
        return self.muted

    @property
    def after(self) -> str:
        return self.series[0]

    def look(self, place: int) -> dict[str, str]:
        """Colour and marker of the series at a place; beyond eight the same colours have other markers."""
        return {"color": self.series[place % 8], "marker": MARKERS[(place + place // 8) % 8]}


LIGHT = Theme(
    name="light",
    paper="#ffffff",
    ink="#1d2129",
    muted="#767c86",
    faint="#c9cdd3",
    grid="#eceef1",
    right="#009e73",
    wrong="#d55e00",
    series=("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d3b", "#1d2129"),
)
DARK = Theme(
    name="dark",
    paper="#181b20",
    ink="#e7e9ec",
    muted="#969ca6",
    faint="#4a505a",
    grid="#282c33",
    right="#22c598",
    wrong="#f0803c",
    series=("#56b4e9", "#f0803c", "#22c598", "#dd93bb", "#f2b632", "#4a8fd6", "#f0e442", "#e7e9ec"),
)


#: Inches up to which a figure is readable on a phone; a wider one is drawn once more, for those.
NARROW = 5.8


@dataclass(frozen=True)
class Drawing:
    """A drawn figure: PNG bytes for the light and the dark page, and its width in inches (the page's layout).

    `narrow`: the same for a phone, where the figure is too wide for one.
    """

    path: Path
    light: bytes
    dark: bytes
    width: float
    narrow: "Drawing | None" = None


@lru_cache(maxsize=1)
def _families() -> list[str]:
    """Fonts for figures: matplotlib's own, then those of other scripts that this machine has."""
    there = {font.name for font in fontManager.ttflist}
    return [*matplotlib.rcParamsDefault["font.sans-serif"][:1], *(name for name in SCRIPTS if name in there)]


def settings(theme: Theme) -> dict[Any, Any]:
    """matplotlib settings of a theme."""
    return {
        "font.sans-serif": _families(),
        "figure.facecolor": theme.paper,
        "figure.dpi": 160,
        "savefig.dpi": 160,
        "figure.constrained_layout.use": True,
        "font.family": "sans-serif",
        "font.size": 9.5,
        "text.color": theme.ink,
        "axes.facecolor": theme.paper,
        "axes.edgecolor": theme.faint,
        "axes.labelcolor": theme.muted,
        "axes.labelsize": 9.5,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": theme.grid,
        "grid.linewidth": 0.8,
        "xtick.color": theme.faint,
        "ytick.color": theme.faint,
        "xtick.labelcolor": theme.muted,
        "ytick.labelcolor": theme.muted,
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
        "legend.handlelength": 1.6,
        "lines.solid_capstyle": "round",
        "lines.linewidth": 1.8,
    }


def subplots(
    rows: int = 1, columns: int = 1, *, width: float = 5.6, height: float = 3.5, **options: Any
) -> tuple[Figure, Any]:
    """`(figure, axes)` of `width` x `height` inches; `options` go to `Figure.subplots`."""
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots(rows, columns, **options)


def panels(theme: Theme, count: int, *, width: float = 4.8, height: float = 3.8, **options: Any) -> tuple[Figure, Any]:
    """`(figure, axes [count])`: panels of `width` x `height` inches side by side, on a phone above one another."""
    if theme.narrow:
        figure, axes = subplots(count, 1, width=min(width, NARROW), height=height * count, squeeze=False, **options)
    else:
        figure, axes = subplots(1, count, width=width * count, height=height, squeeze=False, **options)
    return figure, axes.ravel()


def legend_below(figure: Figure, *, columns: int = 3, title: str = "") -> None:
    """One legend for all axes, below them and so off the points; each name once."""
    named: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(name, handle)
    if named:
        # An estimate of an entry's width, so that the legend is not wider than a figure for a phone.
        fit = int(figure.get_figwidth() / (0.45 + 0.066 * max(map(len, named))))
        figure.legend(
            named.values(),
            named.keys(),
            loc="outside lower center",
            ncols=max(1, min(columns, fit, len(named))),
            title=title or None,
            title_fontsize=8.5,
        )


def label(axes: Axes, title: str, x: str, y: str) -> None:
    """Title and both axis titles: no figure goes out without them."""
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def save(draw: Callable[[Theme], Figure], path: Path, *, write: bool = True) -> Drawing:
    """Draw a figure in both themes; the light one is also written to `path` (PNG, atomically), where `write`. A wide
    one is drawn for phones too."""
    drawing = _drawn(draw, path, narrow=False)
    if drawing.width > NARROW:
        drawing = replace(drawing, narrow=_drawn(draw, path, narrow=True))
    if write:
        write_bytes(path, drawing.light)
    return drawing


def _drawn(draw: Callable[[Theme], Figure], path: Path, narrow: bool) -> Drawing:
    images, width = [], 0.0
    for theme in (LIGHT, DARK):
        with matplotlib.rc_context(settings(theme)), warnings.catch_warnings():
            # Class names come in any script; a letter that no font here has is drawn as a box, which says enough.
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            figure = draw(replace(theme, narrow=narrow))
            _show_as_written(figure)
            width = float(figure.get_size_inches()[0])
            stream = io.BytesIO()
            figure.savefig(stream, format="png", metadata={"Software": None})
            images.append(stream.getvalue())
    light, dark = images
    return Drawing(path, light, dark, width)


def _show_as_written(figure: Figure) -> None:
    """No text of a figure is read as a formula (`$5 to $10`); the numbers on scales, which are such, stay."""
    scales = {
        text
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        if not isinstance(axis.get_major_formatter(), FixedFormatter)
        for text in [*axis.get_ticklabels(), *axis.get_ticklabels(minor=True)]
    }
    for text in figure.findobj(Text):
        if text not in scales:
            text.set_parse_math(False)
            text.set_text(printable(text.get_text()))
