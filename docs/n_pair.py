"""Runs and figures of docs/n-pair.md: `python docs/n_pair.py [FOLDER]`. Runs that are there are not repeated."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pullpush.maths.health import n_pair_chance, n_pair_floor
from pullpush.reports.curves import Curve, plot_curves
from pullpush.reports.style import Theme, label, save, subplots
from pullpush.runs.reader import RunFolder as Run
from pullpush.training import train

IMAGES = Path(__file__).parent / "images"
# The loss of the story: cosines straight into the cross entropy.
BARE: dict[str, Any] = {
    "task": "image-text",
    "data": {"source": "emoji", "check": False},
    "loss": {"name": "n_pair", "temperature": 1.0},
    "similarity": "cosine",
    "learn": "none",
    "optimizer": {"lr": 1e-2},
    "batch": {"classes": 256, "samples": 1},
    "steps": 120,
    "nmi": False,
    "report": False,
    "tensorboard": False,
    "views.choose": "none",
    "rerank": "none",
    "table": False,
}
# The same with the image tower fine-tuned.
FINE: dict[str, Any] = {
    **BARE,
    "data": {"source": "emoji", "check": False, "test": 0.1, "validation": 0.03},
    "encoder": {"freeze": False, "frozen_stages": 0, "size": 64},
    "optimizer": {"lr": 3e-2},
    "batch": {"classes": 32, "samples": 1},
    "steps": 200,
}
SCALED = {"loss": {"name": "n_pair", "temperature": 0.07}}
RUNS: dict[str, dict[str, Any]] = {
    "floor": BARE,
    "floor-cured": {**BARE, **SCALED},
    "collapse": FINE,
    "collapse-cured": {**FINE, **SCALED, "optimizer": {"lr": 5e-4}},
}
NAMES = {
    "floor": "cosine, no scale",
    "floor-cured": "temperature 0.07",
    "collapse": "cosine, no scale, rate 0.03",
    "collapse-cured": "temperature 0.07, rate 0.0005",
}


def draw_losses(folder: Path, theme: Theme) -> Figure:
    """Loss over steps, with the value at chance and the floor."""
    figure, axes = subplots(1, 2, width=9.6, height=3.6)
    for panel, kind, batch, title in zip(
        axes, ("floor", "collapse"), (256, 32), ("Frozen towers: the floor", "Fine-tuned: the collapse"), strict=True
    ):
        curves = []
        for name in (kind, f"{kind}-cured"):
            curve = Run(folder / name).curve("train/loss", NAMES[name])
            curves.append(Curve(curve.label, curve.steps, curve.values))
        plot_curves(panel, curves, theme)
        for level, text, side in ((n_pair_chance(batch - 1), "ln N", "bottom"), (n_pair_floor(batch), "floor", "top")):
            panel.axhline(level, color=theme.muted, linestyle="--", linewidth=1.0)
            panel.text(curves[0].steps[-1], level, f"{text} {level:.2f}", va=side, ha="right", color=theme.muted)
        panel.set_ylim(0, 1.12 * n_pair_chance(batch - 1))
        label(panel, f"{title} (N = {batch})", "step", "loss")
        panel.legend(loc="lower left")
    return figure


def draw_similarities(folder: Path, theme: Theme) -> Figure:
    """Cosines of images with their own description and with others, on concepts that were not trained on."""
    figure, axes = subplots(len(RUNS), 1, width=5.6, height=1.5 * len(RUNS) + 0.6, sharex=True)
    edges = np.linspace(-1, 1, 81)
    for panel, name in zip(axes, RUNS, strict=True):
        matching, others = cosines(folder / name)
        for values, color, text in (
            (others, theme.series[1], "others"),
            (matching, theme.series[0], "own description"),
        ):
            density, _ = np.histogram(values, edges, density=True)
            panel.stairs(density, edges, color=color, alpha=0.3, fill=True)
            panel.stairs(density, edges, color=color, linewidth=1.4, label=text)
        panel.set_ylabel("density")
        panel.text(0.015, 0.92, NAMES[name], transform=panel.transAxes, va="top", weight="bold", color=theme.muted)
        panel.grid(False)
    axes[0].set_title("Similarity of images and descriptions")
    axes[-1].set_xlabel("cosine similarity")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def cosines(run: Path, pairs: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Of test images with a description of their own class, and with one of another."""
    import pandas as pd

    images, texts = (np.load(run / "embeddings" / f"test-after{side}.npy") for side in ("", "-text"))
    labels = Run(run).split("test").table["label"].to_numpy()
    table = pd.read_parquet(run / "texts.parquet")
    said = table.loc[table["split"] == "test", "label"].to_numpy() if "split" in table else table["label"].to_numpy()
    draw = np.random.default_rng(0)
    rows, columns = draw.integers(len(images), size=pairs), draw.integers(len(texts), size=pairs)
    other = labels[rows] != said[columns]
    found = np.einsum("nd,nd->n", images[rows], texts[columns])[other]
    first = {label: place for place, label in reversed(list(enumerate(said)))}
    own = np.array([first[label] for label in labels])
    return np.einsum("nd,nd->n", images, texts[own]), found


def main(folder: Path) -> None:
    """Trains what is missing, draws both figures."""
    for name, options in RUNS.items():
        if not (folder / name / "metrics.json").exists():
            train(**options, out=str(folder / name))
    save(partial(draw_losses, folder), IMAGES / "n_pair_losses.png")
    save(partial(draw_similarities, folder), IMAGES / "n_pair_similarities.png")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/n-pair"))
