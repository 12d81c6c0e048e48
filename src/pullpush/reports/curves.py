"""Curves over steps: raw values faint, a centred moving average on top; and lines with confidence bands."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.polynomial import Polynomial
from numpy.typing import ArrayLike, NDArray

from pullpush.reports.style import Theme, label, legend_below, subplots
from pullpush.runs.reader import Curve

__all__ = ["Curve", "averaged", "draw_curves", "fitting_window", "plot_curves", "plot_line_with_band", "smooth"]

RAW = 50
"""A curve of fewer values is drawn as it is, a point a value."""


def smooth(values: ArrayLike, window: int = 50) -> NDArray[np.float64]:
    """Centred moving average, continued to both ends by a straight line.

        out[i] = mean of values[i - h .. i + h],   h = min(window // 2, (n - 1) // 2)

    The first and the last h values are on the line fitted by least squares to the first, or last, 2h + 1 values, whose
    middle is the first, or last, mean. So the window is as wide at the ends as elsewhere: the curve neither ends in the
    noise of a few values nor is it flattened there. Nothing is padded: a constant stays that constant, a straight line
    that line, and no value leaves the range of the data. Values that are not finite count as missing; NaN where a
    window holds no other.

    Args:
        values: `[n]`.
        window: how many values are averaged; an even number counts its centre too.

    Returns:
        float64 `[n]`.

    Raises:
        ValueError: a window below 1, or values that are not one-dimensional.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or window < 1:
        raise ValueError(f"smooth takes a one-dimensional array and window >= 1, got {values.shape} and {window}.")
    present = np.isfinite(values)
    if not present.any():
        return np.full(values.shape, np.nan)
    half = min(window // 2, (len(values) - 1) // 2)
    width = 2 * half + 1

    def window_sum(x: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = np.concatenate([[0.0], np.cumsum(x)])
        return np.asarray(sums[width:] - sums[:-width], np.float64)

    # Sums around the first value: a constant comes out exact, and a large offset costs no digits.
    origin = values[present][0]
    apart = np.where(present, values - origin, 0.0)
    total, count = window_sum(apart), window_sum(present.astype(np.float64))
    out = np.full(values.shape, np.nan)
    np.divide(total, count, out=out[half : len(out) - half], where=count > 0)
    if half:
        out[:half] = _line(apart[:width], present[:width])[:half]
        out[-half:] = _line(apart[-width:], present[-width:])[-half:]
    return np.asarray(np.clip(origin + out, values[present].min(), values[present].max()), np.float64)


def _line(values: NDArray[np.float64], present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The least-squares line through the values that are present, at every place."""
    if present.sum() < 2:
        return np.full(values.shape, values[present].mean() if present.any() else np.nan)
    place = np.arange(len(values))
    return np.asarray(Polynomial.fit(place[present], values[present], 1)(place), np.float64)


def fitting_window(length: int, window: int = 50) -> int:
    """The window for a curve of `length` values: a tenth of it at most, so that a short curve keeps its shape."""
    return max(1, min(window, length // 10))


def averaged(curves: Sequence[Curve], window: int = 50) -> int:
    """How many values are in the moving average that `plot_curves` draws of the longest of these; 1 where of none."""
    longest = max((len(curve.values) for curve in curves), default=0)
    return 1 if longest < RAW else fitting_window(longest, window)


def plot_curves(
    axes: Axes, curves: Sequence[Curve], theme: Theme, *, window: int = 50, colors: Sequence[Any] | None = None
) -> None:
    """Draw curves on `axes`, raw values faint behind their moving average; nothing of a curve without finite values.

    A curve of fewer than `RAW` values is drawn as it is, with a marker at each value. The limits of the y axis follow
    the averages and all raw values but the outermost half per cent at either end: one spike does not flatten the rest.

    Args:
        window: values in the average (default 50, less on short curves, see `fitting_window`).
        colors: one a curve (default: the theme's series).
    """
    limits: list[float] = []
    for place, curve in enumerate(curves):
        look = theme.look(place)
        color = look["color"] if colors is None else colors[place]
        finite = curve.values[np.isfinite(curve.values)]
        if not len(finite):
            continue
        if len(curve.values) < RAW:
            axes.plot(curve.steps, curve.values, color=color, label=curve.label, marker=look["marker"], markersize=3.2)
            limits += [finite.min(), finite.max()]
            continue
        average = smooth(curve.values, fitting_window(len(curve.values), window))
        axes.plot(curve.steps, curve.values, color=color, alpha=0.22, linewidth=0.8)
        axes.plot(curve.steps, average, color=color, label=curve.label)
        limits += [*np.quantile(finite, [0.005, 0.995]), np.nanmin(average), np.nanmax(average)]
    if limits and max(limits) > min(limits):
        margin = 0.06 * (max(limits) - min(limits))
        axes.set_ylim(min(limits) - margin, max(limits) + margin)
    axes.margins(x=0.02)


def draw_curves(
    curves: Sequence[Curve],
    theme: Theme,
    *,
    title: str,
    y: str,
    window: int = 50,
    mark: int | None = None,
    levels: Mapping[str, float] | None = None,
    width: float = 5.6,
    height: float = 3.5,
) -> Figure:
    """A figure of curves over steps; dotted a step that is marked, dashed the levels that they are compared with."""
    figure, axes = subplots(width=width, height=height)
    if mark:
        axes.axvline(mark, color=theme.muted, linestyle=":", linewidth=1.2)
    plot_curves(axes, curves, theme, window=window)
    for place, (name, level) in enumerate((levels or {}).items(), len(curves)):
        low, high = axes.get_ylim()
        margin = 0.06 * (max(high, level) - min(low, level))
        axes.axhline(
            level, color=theme.look(place)["color"], linestyle="--", linewidth=1.2, label=f"{name} {level:.3g}"
        )
        axes.set_ylim(min(low, level - margin), max(high, level + margin))
    label(axes, title, "step", y)
    if levels or len(curves) > 1 or curves[0].label != y:
        legend_below(figure)
    return figure


def plot_line_with_band(
    axes: Axes,
    x: ArrayLike,
    mean: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    *,
    label: str,
    color: str,
    marker: str = "o",
) -> None:
    """A line of means with its confidence band, for instance test recall@1 over the margin; all arrays `[n]`."""
    axes.fill_between(np.asarray(x), np.asarray(low), np.asarray(high), color=color, alpha=0.18, linewidth=0)
    axes.plot(np.asarray(x), np.asarray(mean), color=color, marker=marker, markersize=4.5, label=label)
