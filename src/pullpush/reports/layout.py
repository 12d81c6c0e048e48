"""The report of a run: from its folder to `plots/*.png` and `report.html`, in this order."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from markupsafe import Markup

from pullpush import glossary
from pullpush.progress import duration, work
from pullpush.reports import blocks, compression, cross_modal, retrieval, verification
from pullpush.reports.context import Context
from pullpush.reports.page import Block, Page, Section
from pullpush.reports.tables import MetricRow, metric_rows
from pullpush.runs.gain import kept_sentence
from pullpush.runs.reader import Absent, Missing, RunFolder, or_else

__all__ = ["build", "draw", "main_row", "report", "sentence"]

TEXT_TO_IMAGE = "text_to_image/recall@1"
NO_METRICS = "metrics.json has no test metrics: the table of before and after is left out."
AGAIN = "Drawn from the run folder; `pullpush report` draws it again at any time. The figures are in `plots/`."
STANDS_OUT = Markup('{} <span class="worse">{}</span>')
WORSE = "The trained model is worse than the untrained one."


@dataclass(frozen=True, kw_only=True)
class Result(Block):
    """The metrics before and after training, `main` of them large."""

    template: ClassVar[str] = "result.html"

    metrics: Sequence[MetricRow]
    main: MetricRow | None
    queried: str
    trained: bool = True

    @property
    def compared(self) -> bool:
        """Whether any is known before training."""
        return any(row.before is not None for row in self.metrics)

    @property
    def viewed(self) -> bool:
        """Whether any is known with test views."""
        return any(row.views is not None for row in self.metrics)


@dataclass(frozen=True, kw_only=True)
class Glossary(Block):
    """What the numbers mean, a group at a time, folded."""

    template: ClassVar[str] = "glossary.html"

    groups: Mapping[str, Markup]


class Chapter(NamedTuple):
    """What draws a section; `needs` is a file without which a run has no such section.

    In `lead`, {queried} stands for what the test split is to the model.
    """

    id: str
    title: str
    lead: str
    parts: Sequence[Callable[[Context], Block]]
    needs: str = ""


SECTIONS = (
    Chapter(
        "texts",
        "Images and texts",
        "What texts find among the images of {queried}, and what images find.",
        (cross_modal.text_queries, cross_modal.image_queries, cross_modal.metrics, cross_modal.curves),
        needs="texts.parquet",
    ),
    Chapter("retrieval", "Retrieval", "What the model finds for items of {queried}.", (blocks.retrieval,)),
    Chapter(
        "mistakes",
        "Mistakes",
        "Where it goes wrong, and what it takes for what.",
        (blocks.worst, blocks.matched, blocks.confused),
    ),
    Chapter(
        "training",
        "Training",
        "How the run went.",
        (blocks.loss_curves, blocks.validation_recall, blocks.learning_rate, blocks.classes_seen),
    ),
    Chapter(
        "classes",
        "Similarities and classes",
        "How far positives and negatives are apart, and how the classes differ.",
        (blocks.similarity, blocks.class_recall, blocks.categories),
    ),
    Chapter(
        "verification",
        "Same or different",
        "How well a threshold on the cosine tells pairs of one class from all others, among items of {queried}.",
        (verification.errors, verification.reliable, verification.error_table),
    ),
    Chapter(
        "costs",
        "What is found, and what it costs",
        "The model on {queried}: as it is, in its test views, re-ranked, with fewer dimensions and with fewer bytes.",
        (retrieval.ways, compression.small_embeddings),
    ),
    Chapter("map", "Map", "The embeddings in two dimensions.", (blocks.maps, blocks.hover_map)),
    Chapter("how", "How the numbers were obtained", "", (blocks.how, blocks.splits)),
    Chapter("setup", "Configuration and environment", "", (blocks.configuration, blocks.environment)),
)


def report(run: Path | str, *, window: int = 50) -> Path:
    """Draw the report of a run from what the run folder holds; nothing is trained again, and nothing embedded but the
    images of the worst queries, to show why they match.

    Writes `plots/*.png` and `report.html`, which opens without a network, and replaces those of an earlier report.
    Parts that a run does not have are left out; of those whose files are missing or damaged a note below says so, and
    of damaged files it warns.

    Args:
        run: the run folder; `docs/architecture.md` has its contract.
        window: steps in the moving average of the curves.

    Returns:
        The path of `report.html`.

    Raises:
        UserError: the folder is not there.
    """
    path, damaged = draw(run, window=window)
    for sentence in damaged:
        warnings.warn(sentence, stacklevel=2)
    return path


def draw(run: Path | str, *, window: int = 50) -> tuple[Path, list[str]]:
    """As `report`; returns the page and a sentence for each file that is damaged."""
    context = Context(RunFolder.named(run), window)
    sections = build(context)
    metrics, queried = context.known_metrics, context.queried
    rows = metric_rows(metrics.get("test") or {})
    main, lead = main_row(rows), sentence(context.run, metrics, rows, queried)
    bad = kept_sentence(metrics) if metrics.get("kept") == "start" else WORSE if main and main.worse else ""
    if rows:
        result = Result(metrics=rows, main=main, queried=queried, trained=context.run.trained)
        sections = [Section("", [result]), *sections, Section(glossary.TITLE, [_glossary()], "numbers")]
    page = Page(
        "report",
        context.run.name if context.run.trained else f"{context.run.name}, not trained here",
        STANDS_OUT.format(lead, bad) if bad else lead,
        sections,
        [*context.run.notes, *context.notes, *([] if rows else [NO_METRICS]), AGAIN],
    )
    path = page.write(context.run.path / "report.html", f"then draw it again: pullpush report {run}")
    return path, list(context.run.damaged)


def _glossary() -> Glossary:
    return Glossary(groups={title: Markup(glossary.html(text)) for title, text in glossary.groups().items()})


def build(context: Context) -> list[Section]:
    """Every section that has something in it; for what is damaged or not there, a note is left."""
    wanted = [
        each
        for each in SECTIONS
        if (not each.needs or (context.run.path / each.needs).is_file())
        and (context.run.trained or each.id != "training")
    ]
    sections = []
    with work("drawing the report", sum(len(each.parts) for each in wanted), "parts") as current:
        for each in wanted:
            drawn = []
            for part in each.parts:
                try:
                    drawn.append(part(context))
                except Missing as missing:
                    if not isinstance(missing, Absent) and str(missing) not in context.notes:
                        context.notes.append(str(missing))
                current.advance()
            if drawn:
                sections.append(Section(each.title, drawn, each.id, each.lead.format(queried=context.queried)))
    return sections


def sentence(run: RunFolder, metrics: Mapping[str, Any], rows: list[MetricRow], queried: str) -> str:
    """One sentence of what happened, from as much as is known."""
    data = Path(str(metrics.get("data", ""))).name  # of a folder or file the name alone
    loss, seconds = metrics.get("loss"), metrics.get("seconds")
    steps = or_else(lambda: f"{int(run.log.index.max()):,} steps", "training")
    start = f"After {steps}" + (f" with the loss {loss}" if loss else "") + (f" on {data}" if data else "")
    if not run.trained:
        start = f"{metrics.get('evaluated')}, not trained here" + (f", on {data}" if data else "")
    start += f" ({duration(seconds)})" if isinstance(seconds, int | float) else ""
    main = main_row(rows)
    if main is None or main.after is None:
        return f"{start}, no evaluation of the test split was recorded."
    hits = f"queries of {queried} find an item of their own class first"
    if main.key == TEXT_TO_IMAGE:
        hits = f"texts of {queried} find an image of their own first"
    text = f"{start}, {100 * main.after:.1f}% of the {hits}"
    text = f"{text}; before training it was {100 * main.before:.1f}%" if main.before is not None else text
    return f"{text}. With its test views {100 * main.views:.1f}% do." if main.views is not None else f"{text}."


def main_row(rows: list[MetricRow]) -> MetricRow | None:
    """The metric of the headline: text to image where there are texts, else recall@1."""
    by_key = {row.key: row for row in rows}
    return by_key.get(TEXT_TO_IMAGE) or by_key.get("recall@1")
