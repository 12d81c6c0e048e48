"""Writes docs/losses/: a page a loss from its docstring, with a picture of its gradient. `make docs` runs it.

`python docs/build.py NAME ...` draws the pictures of these losses alone; the pages are written anyhow.
"""

import inspect
import sys
from pathlib import Path
from typing import Any

import matplotlib
import torch
from matplotlib.figure import Figure

from pullpush.criterion import catalogue
from pullpush.criterion.catalogue import Entry
from pullpush.maths import losses
from pullpush.maths.pairs import Pairs
from pullpush.reports.style import Theme, label, save, subplots

HERE = Path(__file__).parent
# Where the axis runs: distances from 0 to 2 are similarities from -2 to 0.
AXES = {"negative_euclidean": (-2.0, 0.0), "negative_squared_euclidean": (-4.0, 0.0), "snr": (-3.0, 0.0)}
POSITIVES, NEGATIVES = 2, 5


def gradient(
    entry: Entry, low: float, high: float, steps: int = 201
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Similarities, and the gradient of the loss in one positive and in one negative cell that sweep over them.

    The anchor's other cells stay: two positives at three quarters of the axis, five negatives from its half on upwards.
    """
    at = torch.linspace(low, high, steps, dtype=torch.float64)
    span = high - low
    positives = torch.full((POSITIVES,), low + 0.75 * span, dtype=torch.float64)
    negatives = low + span * torch.linspace(0.45, 0.65, NEGATIVES, dtype=torch.float64)
    rest = torch.cat([positives, negatives])
    mask = torch.arange(len(rest)) < POSITIVES
    found = []
    for positive in (True, False):
        slopes = []
        for similarity in at:
            cell = similarity.clone().requires_grad_()
            row = torch.cat([cell[None], rest])[None]
            masks = torch.cat([torch.tensor([positive]), mask])[None]
            (slope,) = torch.autograd.grad(_value(entry, row, Pairs(masks, ~masks)), cell, allow_unused=True)
            slopes.append(torch.zeros(()) if slope is None else slope.detach())
        found.append(torch.stack(slopes))
    return at, found[0], found[1]


def _value(entry: Entry, row: torch.Tensor, pairs: Pairs) -> torch.Tensor:
    options: dict[str, Any] = {}
    columns = row.shape[1]
    if "reference_similarity" in inspect.signature(entry.function).parameters:
        options["reference_similarity"] = torch.zeros(columns, columns, dtype=row.dtype) + row.detach().mean()
    if "centers" in entry.options:
        options["centers"] = 1
    return losses.value(entry.function(row, pairs, **options))


def draw(entry: Entry, path: Path) -> None:
    """The gradient over the similarity: below 0 pulls closer, above 0 pushes apart."""
    measure = entry.traits.similarity if entry.traits else "cosine"
    low, high = AXES.get(measure, (-1.0, 1.0))
    at, positive, negative = gradient(entry, low, high)

    def figure(theme: Theme) -> Figure:
        drawn, axes = subplots(width=5.6, height=2.9)
        axes.axhline(0, color=theme.faint, linewidth=0.8)
        axes.plot(at, positive, color=theme.series[0], label="positive cell (below 0: pulled closer)")
        axes.plot(at, negative, color=theme.series[1], linestyle="--", label="negative cell (above 0: pushed apart)")
        label(axes, entry.name.replace("_", " "), f"similarity ({measure.replace('_', ' ')})", "gradient of the loss")
        axes.legend()
        return drawn

    with matplotlib.rc_context({"savefig.dpi": 100}):
        save(figure, path)


def page(entry: Entry) -> str:
    """Markdown of one loss."""
    rows = [f"| `{name}` | `{option.default}` | {option.help} |" for name, option in entry.options.items()]
    table = "\n".join(["| option | default | |", "| --- | --- | --- |", *rows]) if rows else "It has no options."
    body = entry.doc.partition("\nArgs:")[0].strip()
    source = entry.doc.partition("Source:")[2].strip().replace("\n", " ")
    return "\n\n".join(
        [
            f"# {entry.name}",
            body,
            table,
            f"![gradient of {entry.name}](images/{entry.name}.png)",
            "The gradient in one positive and one negative cell of an anchor, over their similarity, with the default "
            f"options; the anchor has {POSITIVES} other positives and {NEGATIVES} other negatives, which stay.",
            f"Source: {source}",
            f"    pullpush train --loss {entry.name}\n    pullpush.Criterion({entry.name!r})",
        ]
    )


def main() -> None:
    """Writes all pages and their index."""
    folder = HERE / "losses"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = ["# Losses\n", "Written by `make docs` from the docstrings. `pullpush losses` prints the same.\n"]
    for name, entry in catalogue.losses().items():
        if name in (sys.argv[1:] or [name]):
            draw(entry, folder / "images" / f"{name}.png")
        (folder / f"{name}.md").write_text(page(entry) + "\n", encoding="utf-8")
        lines.append(f"- [{name}]({name}.md): {entry.summary}")
    for title, entries in (("Miners", catalogue.miners()), ("Regularisers", catalogue.regularizers())):
        lines.append(f"\n## {title}\n")
        for name, entry in entries.items():
            options = ", ".join(f"`{option}={about.default}`" for option, about in entry.options.items())
            lines.append(f"- **{name}** ({options or 'no options'}): {entry.summary}")
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
