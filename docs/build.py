"""Writes docs/losses/: a page a loss from its docstring, with a picture of its gradient, light and dark; the tables of
findings in docs/doctor.md and of metrics in docs/evaluation.md, and docs/numbers.md. `make docs` runs it.

`python docs/build.py NAME ...` draws the pictures of these losses alone; the pages are written anyhow.
"""

import io
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image

from pullpush import glossary, losses, miners, regularizers
from pullpush.doctor.declaration import SEVERITIES
from pullpush.doctor.findings import FINDINGS
from pullpush.evaluation.metrics import METRICS
from pullpush.maths.choice import Loss
from pullpush.maths.pairs import Pairs
from pullpush.maths.rectangle import Rectangle, value
from pullpush.reports.style import Theme, label, save, subplots
from pullpush.signatures import of, summary

HERE = Path(__file__).parent
# Where the axis runs: distances from 0 to 2 are similarities from -2 to 0.
AXES = {"negative_euclidean": (-2.0, 0.0), "negative_squared_euclidean": (-4.0, 0.0), "snr": (-3.0, 0.0)}
POSITIVES, NEGATIVES = 2, 5


def gradient(loss: Loss, low: float, high: float, steps: int = 201) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
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
            (slope,) = torch.autograd.grad(_value(loss, row, Pairs(masks, ~masks)), cell, allow_unused=True)
            slopes.append(torch.zeros(()) if slope is None else slope.detach())
        found.append(torch.stack(slopes))
    return at, found[0], found[1]


def _value(loss: Loss, row: torch.Tensor, pairs: Pairs) -> torch.Tensor:
    columns = row.shape[1]
    among = torch.zeros(columns, columns, dtype=row.dtype) + row.detach().mean()
    chosen = loss.replace(centers=1) if "centers" in loss.options else loss
    return value(chosen(Rectangle(row, pairs, among)))


def draw(loss: Loss, path: Path) -> None:
    """The gradient over the similarity: below 0 pulls closer, above 0 pushes apart."""
    measure = loss.traits.similarity
    low, high = AXES.get(measure, (-1.0, 1.0))
    at, positive, negative = gradient(loss, low, high)

    def figure(theme: Theme) -> Figure:
        drawn, axes = subplots(width=5.6, height=2.9)
        axes.axhline(0, color=theme.faint, linewidth=0.8)
        axes.plot(at, positive, color=theme.series[0], label="positive cell (below 0: pulled closer)")
        axes.plot(at, negative, color=theme.series[1], linestyle="--", label="negative cell (above 0: pushed apart)")
        label(axes, loss.name.replace("_", " "), f"similarity ({measure.replace('_', ' ')})", "gradient of the loss")
        axes.legend()
        return drawn

    drawing = save(figure, path, write=False)
    for to, drawn in ((path, drawing.light), (path.with_stem(f"{path.stem}-dark"), drawing.dark)):
        small = Image.open(io.BytesIO(drawn)).convert("RGB").quantize(64)  # a third of the bytes
        small.save(to, optimize=True)


def page(name: str) -> str:
    """Markdown of one loss."""
    loss = of(getattr(losses, name))
    rows = [f"| `{option}` | `{about.default}` | {about.help} |" for option, about in loss.options.items()]
    table = "\n".join(["| option | default | |", "| --- | --- | --- |", *rows]) if rows else "It has no options."
    body = loss.doc.partition("\nArgs:")[0].strip()
    source = loss.doc.partition("Source:")[2].strip().replace("\n", " ")
    return "\n\n".join(
        [
            f"# {name}",
            body,
            table,
            f"![gradient of {name}](images/{name}.png)",
            "The gradient in one positive and one negative cell of an anchor, over their similarity, with the default "
            f"options; the anchor has {POSITIVES} other positives and {NEGATIVES} other negatives, which stay.",
            f"Source: {source}",
            f"    pullpush train --loss {name}\n    pullpush.Criterion(pullpush.losses.{name}())",
        ]
    )


def findings(text: str) -> str:
    """docs/doctor.md with the table of findings as they are declared."""
    rows = ["| finding | severity | what is seen | what it means | cure |", "| --- | --- | --- | --- | --- |"]
    for severity in SEVERITIES:
        of_one = [each for each in FINDINGS.values() if each.severity == severity]
        rows += [f"| `{each.name}` | {severity} | {each.seen} | {each.meaning} | {each.cure} |" for each in of_one]
    start, end = text.index("| finding | severity |"), text.index("\n\nEach threshold is")
    return text[:start] + "\n".join(rows) + text[end:]


def metrics(text: str) -> str:
    """docs/evaluation.md with the table of metrics as they are declared."""
    rows = ["| name | title | meaning |", "| --- | --- | --- |"]
    rows += [f"| `{metric.name}` | {metric.title} | {metric.meaning} |" for metric in METRICS.values()]
    start, end = text.index("| name | title |"), text.index("\n| `rank` (in `per_query`)")
    return text[:start] + "\n".join(rows) + text[end:]


def main() -> None:
    """Writes all pages and their index, and the tables of findings and metrics."""
    for name, written in (("doctor", findings), ("evaluation", metrics)):
        table = HERE / f"{name}.md"
        table.write_text(written(table.read_text(encoding="utf-8")), encoding="utf-8")
    (HERE / "numbers.md").write_text(glossary.source(), encoding="utf-8")
    folder = HERE / "losses"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = ["# Losses\n", "Written by `make docs` from the docstrings. `pullpush losses` prints the same.\n"]
    for name in losses.__all__:
        loss = getattr(losses, name)
        if name in (sys.argv[1:] or [name]):
            draw(loss(), folder / "images" / f"{name}.png")
        (folder / f"{name}.md").write_text(page(name) + "\n", encoding="utf-8")
        lines.append(f"- [{name}]({name}.md): {summary(of(loss).doc)}")
    for title, room in (("Miners", miners), ("Regularisers", regularizers)):
        lines.append(f"\n## {title}\n")
        for name in room.__all__:
            entry = of(getattr(room, name))
            options = ", ".join(f"`{option}={about.default}`" for option, about in entry.options.items())
            lines.append(f"- **{name}** ({options or 'no options'}): {summary(entry.doc)}")
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
