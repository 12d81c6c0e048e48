"""How the time of a step grows with the batch, for every loss: a figure for the docs, and the exponent of each."""

import math
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.loss import batch, ours, step
from benchmarks.measure import seconds
from pullpush.maths.losses import REGISTRY
from pullpush.reports.style import Theme, save, subplots

SIZES = (256, 512, 1024, 2048, 4096)
FIGURE = Path(__file__).resolve().parent.parent / "docs" / "images" / "scaling.png"
TRIPLETS = {"angular", "margin", "ranked_list", "triplet", "triplet_swap", "tuplet_margin"}
RANKS = {"fast_ap", "histogram", "pnp", "recall_at_k", "smooth_ap"}
GROUPS = ("pairs", "triplets", "ranks", "proxies")
# With 16 samples a class the positives are sorted: N^2 log N.
SORTED = "triplet, 16 a class"


def group(name: str) -> str:
    """Where a loss is drawn; a new one is among the pairs."""
    if name in TRIPLETS or name == SORTED:
        return "triplets"
    if name in RANKS:
        return "ranks"
    return "proxies" if REGISTRY[name]().traits.proxies else "pairs"


def times(name: str, sizes: tuple[int, ...] = SIZES) -> list[float]:
    """Seconds of a step at each size."""
    loss, per_class = ("triplet", 16) if name == SORTED else (name, 4)
    found = []
    for n in sizes:
        work = step(ours(loss, n // per_class), *batch(n, per_class))
        work()
        found.append(min(seconds(work) for _ in range(5 if n < 2048 else 2)))
    return found


def draw(found: dict[str, list[float]], path: Path = FIGURE) -> None:
    """Every loss a line; in each group the slowest and the quickest at the largest batch by name."""

    def figure(theme: Theme) -> Figure:
        drawn, grid = subplots(2, 2, width=9.0, height=6.6, sharex=True, sharey=True)
        for place, (axes, title) in enumerate(zip(grid.flat, GROUPS, strict=True)):
            series = {name: values for name, values in found.items() if group(name) == title}
            panel(axes, f"{title} ({len(series)})", series, theme.series[place], theme)
        for axes in grid[1]:
            axes.set_xlabel("batch N")
        for axes in grid[:, 0]:
            axes.set_ylabel("ms a step, forward and backward")
        return drawn

    save(figure, path)


def panel(axes: Axes, title: str, series: dict[str, list[float]], colour: str, theme: Theme) -> None:
    ranked = sorted(series, key=lambda name: series[name][-1])
    named = {ranked[0], ranked[-1]} | ({SORTED} & set(ranked))
    ends: dict[str, float] = {}
    for name in ranked:
        axes.plot(
            SIZES,
            [1000 * t for t in series[name]],
            color=colour,
            linewidth=1.8 if name in named else 1.0,
            alpha=1.0 if name in named else 0.4,
        )
        if name in named:
            ends[name.replace("_", " ")] = 1000 * series[name][-1]
    # A guide to the slope: below the lines, not one of them.
    guide = [500 * min(values[0] for values in series.values()) * (n / SIZES[0]) ** 2 for n in SIZES]
    axes.plot(SIZES, guide, color=theme.muted, linestyle=":", linewidth=1.4)
    written(axes, {**ends, "N²": guide[-1]}, theme)
    axes.set(xscale="log", yscale="log", xticks=SIZES, xlim=(SIZES[0] * 0.9, SIZES[-1] * 3.6))
    axes.set_xticklabels([f"{n:,}" for n in SIZES])
    axes.minorticks_off()
    axes.set_title(title)


def written(axes: Axes, ends: dict[str, float], theme: Theme) -> None:
    """Names beside the ends of their lines, moved up where they would touch."""
    last = 0.0
    for text, height in sorted(ends.items(), key=lambda end: end[1]):
        last = max(height, 1.75 * last)
        axes.annotate(
            text,
            (SIZES[-1], last),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=theme.muted if text == "N²" else theme.ink,
        )


def run() -> list[dict[str, Any]]:
    """The exponent from 1,024 to 4,096 beside 2, that of the rectangle."""
    found = {name: times(name) for name in [*REGISTRY, SORTED]}
    draw(found)
    exponents = {
        name: math.log(series[-1] / series[2]) / math.log(SIZES[-1] / SIZES[2]) for name, series in found.items()
    }
    return [
        {
            "name": f"scaling/{name.replace(', ', '-').replace(' ', '-')}/4096/exponent",
            "ours": e,
            "other": 2.0,
            "unit": "power of N",
            "ratio": 2.0 / e,
        }
        for name, e in exponents.items()
    ]
