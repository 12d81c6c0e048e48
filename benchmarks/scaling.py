"""How the time of a step grows with the batch: a figure for the docs, and the exponent of each loss."""

import math
from pathlib import Path
from typing import Any

from benchmarks.loss import batch, ours, step
from benchmarks.measure import seconds

SIZES = (256, 512, 1024, 2048, 4096)
NAMES = ("contrastive", "multi_similarity", "circle", "nt_xent", "triplet", "proxy_anchor")
FIGURE = Path(__file__).resolve().parent.parent / "docs" / "images" / "scaling.png"


def times(name: str) -> list[float]:
    found = []
    for n in SIZES:
        work = step(ours(name, n // 4), *batch(n, 4))
        work()
        found.append(min(seconds(work) for _ in range(5 if n < 2048 else 2)))
    return found


def draw(found: dict[str, list[float]], path: Path = FIGURE) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for name, series in found.items():
        (line,) = axes.plot(SIZES, [1000 * t for t in series], marker="o", markersize=4, linewidth=1.6)
        axes.annotate(
            name, (SIZES[-1], 1000 * series[-1]), xytext=(6, 0), textcoords="offset points", va="center",
            color=line.get_color(), fontsize=9,
        )  # fmt: skip
    low = 1000 * min(series[0] for series in found.values())
    axes.plot(SIZES, [low * (n / SIZES[0]) ** 2 for n in SIZES], color="0.6", linestyle=":", linewidth=1.2)
    axes.annotate("N²", (SIZES[-1], low * (SIZES[-1] / SIZES[0]) ** 2), xytext=(6, 0), textcoords="offset points",
                  va="center", color="0.5", fontsize=9)  # fmt: skip
    axes.set(xscale="log", yscale="log", xticks=SIZES, xlabel="batch N", ylabel="ms a step, forward and backward")
    axes.set_xticklabels([f"{n:,}" for n in SIZES])
    axes.set_xlim(SIZES[0] * 0.9, SIZES[-1] * 1.9)
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def run() -> list[dict[str, Any]]:
    """The exponent from 1,024 to 4,096 beside 2, that of the rectangle."""
    found = {name: times(name) for name in NAMES}
    draw(found)
    exponents = {
        name: math.log(series[-1] / series[2]) / math.log(SIZES[-1] / SIZES[2]) for name, series in found.items()
    }
    return [
        {"name": f"scaling/{name}/4096/exponent", "ours": e, "other": 2.0, "unit": "power of N", "ratio": 2.0 / e}
        for name, e in exponents.items()
    ]
