"""Runs side by side: what each finds for the same queries, with paired intervals over classes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pullpush.data.items import Items
from pullpush.errors import UserError
from pullpush.evaluation import Evaluation, evaluate_items, protocol_for
from pullpush.evaluation.bootstrap import Interval, mean_interval
from pullpush.evaluation.evaluate import FACTS
from pullpush.names import dotted
from pullpush.reports.diagnosis import diagnose_run
from pullpush.runs.reader import Missing, RunFolder, or_else
from pullpush.studies.common_items import Common, common_items

__all__ = ["Compared", "Comparison", "Score", "compare"]

# Columns of items by which queries are grouped, with their plural.
GROUPS = ("category", "domain")
MAIN = "recall@1"
# Where a run lies and how it was driven is no difference of what was trained.
NO_OPTIONS = ("out",)


@dataclass(frozen=True)
class Compared:
    """One of the runs: its folder, its name on the page, and what it finds for the common queries."""

    name: str
    run: RunFolder
    before: Evaluation | None
    after: Evaluation

    @property
    def facts(self) -> dict[str, Any]:
        """Of metrics.json: the loss, steps, the weights that were kept, seconds; None where not known."""
        metrics = or_else(lambda: self.run.metrics, {})
        facts = {name: metrics.get(name) for name in ("loss", "steps", "kept", "best_step", "seconds")}
        return facts if self.run.trained else facts | {"kept": "not trained here"}


@dataclass(frozen=True)
class Score:
    """A metric of one run on some of the queries.

    Attributes:
        metric: its key in metrics.json.
        run: the name of the run.
        before: untrained; NaN where it was not measured.
        after: with its interval over classes.
        difference: to the first run, query by query, with the paired interval; None of the first.
        won, lost: queries of which the run scores more, or less, than the first run.
        group: of which queries, (column, value); empty for all.
        queries, classes: how many.
    """

    metric: str
    run: str
    before: float
    after: Interval
    difference: Interval | None
    won: int
    lost: int
    queries: int
    classes: int
    group: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Comparison:
    """What `compare` found. The first run is what the others are compared with.

    Attributes:
        runs: in the order given.
        items: the test items in common, of which the rows of evaluations are numbers.
        scores: of all queries, by metric, then by run.
        groups: recall@1 of the queries of each category and domain, where there are several.
        options: options in which the runs differ, each with its value a run; None where a run has no such option.
        findings: of the doctor, by run.
        notes: sentences on what was left out.
        asked: what the queries are: images, or where these have no classes, texts that search images.
    """

    runs: tuple[Compared, ...]
    items: Items
    scores: Sequence[Score]
    groups: Sequence[Score]
    options: Mapping[str, Sequence[Any]]
    findings: Mapping[str, Sequence[str]]
    notes: Sequence[str]
    asked: str = "images"

    def score(self, metric: str, run: int) -> Score:
        """That of all queries."""
        name = self.runs[run].name
        return next(each for each in self.scores if (each.metric, each.run) == (metric, name))

    def won(self, run: int, metric: str = MAIN) -> NDArray[np.float64]:
        """What a run scores more than the first, `[queries]`; NaN of queries that don't count."""
        one, other = (self.runs[at].after for at in (0, run))
        more = other.per_query[metric].to_numpy() - one.per_query[metric].to_numpy()
        return np.where(one.counted, more, np.nan)

    def json(self) -> dict[str, Any]:
        """As plain values, None for NaN."""
        first = self.runs[0].after
        return {
            "runs": [{"name": each.name, "path": str(each.run.path), **each.facts} for each in self.runs],
            "asked": self.asked,
            "queries": int(first.counted.sum()),
            "classes": len(first.per_class),
            "left_out": first.left_out,
            "references": first.references,
            "scores": [_plain(each) for each in self.scores],
            "groups": [_plain(each) | dict(zip(("by", "group"), each.group, strict=True)) for each in self.groups],
            "options": {name: list(values) for name, values in self.options.items()},
            "findings": {name: list(found) for name, found in self.findings.items()},
            "notes": list(self.notes),
        }


def compare(*runs: Path | str) -> Comparison:
    """Several runs on the test items that they have in common.

    Runs of the same test split are compared by what each found when it was evaluated. Of other splits the items in
    common are evaluated again, against one another, from the stored embeddings: all runs answer the same queries from
    the same gallery. Nothing is embedded or trained again.

    Images that have no classes are compared by what their texts find among them.

    Args:
        runs: two run folders or more; differences are to the first.

    Raises:
        UserError: fewer than two, no run folder, an unfinished run, damaged files, or nothing in common.
    """
    if len(runs) < 2:
        raise UserError(
            f"{len(runs)} runs can't be compared: give two run folders or more: pullpush compare runs/ONE runs/OTHER"
        )
    folders = [RunFolder(Path(run), cure=f"restore it from a copy, or leave {str(run)!r} out") for run in runs]
    names, notes = _names(folders), list[str]()
    common = common_items([_test(run) for run in folders], names)
    asked = "images" if folders[0].labelled else "texts"
    compared = (_evaluated if asked == "images" else _of_texts)(folders, names, common)
    first = compared[0].after
    if not common.whole:
        notes.append(
            f"The runs have other test splits: {len(common.items):,} items are in all of them, of "
            f"{', '.join(f'{len(_test(run)):,}' for run in folders)}. These are evaluated again, against one another."
        )
    metrics = [name for name in _metrics(first) if all(name in each.after.per_query for each in compared)]
    if left := [name for name in dict.fromkeys(m for c in compared for m in _metrics(c.after)) if name not in metrics]:
        notes.append(f"Not measured in all runs, and left out: {', '.join(left)}.")
    everything = first.counted
    return Comparison(
        compared,
        common.items,
        [score for name in metrics for score in _scores(compared, name, everything)],
        _grouped(compared, common.items, everything) if asked == "images" else [],
        _options(folders),
        {name: _findings(run) for name, run in zip(names, folders, strict=True)},
        notes,
        asked,
    )


def _names(folders: Sequence[RunFolder]) -> list[str]:
    """The folders' names, or where those of two are the same, their paths; one given twice has a number."""
    short, paths = [run.name for run in folders], [run.path.resolve() for run in folders]
    names = short if len(set(short)) == len(set(paths)) else [str(run.path) for run in folders]
    return [f"{name} ({names[:at].count(name) + 1})" if name in names[:at] else name for at, name in enumerate(names)]


def _test(run: RunFolder) -> Items:
    try:
        return run.split("test")
    except Missing as missing:
        raise UserError(f"{str(run.path)!r} can't be compared: {missing}") from None


def _evaluated(folders: Sequence[RunFolder], names: Sequence[str], common: Common) -> tuple[Compared, ...]:
    """As training saved it, where all did so for these very queries; else computed from the embeddings."""
    saved = common.whole
    if saved:
        after = [_after(run) for run in folders]
        saved = all(
            np.array_equal(each.per_query.index, after[0].per_query.index) and each.references == after[0].references
            for each in after
        )
    if not saved:
        after = [_again(run, rows, common.items, "after") for run, rows in zip(folders, common.rows, strict=True)]
    before = [
        or_else(
            lambda run=run, rows=rows: (  # type: ignore[misc]
                run.evaluation("test", "before") if saved else _again(run, rows, common.items, "before")
            ),
            None,
        )
        for run, rows in zip(folders, common.rows, strict=True)
    ]
    return tuple(map(Compared, names, folders, before, after))


def _of_texts(folders: Sequence[RunFolder], names: Sequence[str], common: Common) -> tuple[Compared, ...]:
    """What texts find among the images, of runs of the same test."""
    try:
        texts = [run.texts("test")["text"].tolist() for run in folders]
        after = [run.cross_modal("test", "after", "text_to_image") for run in folders]
    except Missing as missing:
        raise UserError(f"images without classes are compared by their texts: {missing}") from None
    if not common.whole or any(each != texts[0] for each in texts):
        raise UserError(
            f"{' and '.join(map(repr, names))} have other test splits, and texts are compared on the same one alone: "
            "compare runs of the same data, --seed and --data.test"
        )
    before = [
        or_else(lambda run=run: run.cross_modal("test", "before", "text_to_image"), None)  # type: ignore[misc]
        for run in folders
    ]
    return tuple(map(Compared, names, folders, before, after))


def _after(run: RunFolder) -> Evaluation:
    try:
        return run.evaluation("test", "after")
    except Missing as missing:
        raise UserError(f"{str(run.path)!r} can't be compared: {missing} Has the run come to its end?") from None


def _again(run: RunFolder, rows: NDArray[np.int64], items: Items, when: str) -> Evaluation:
    embeddings = run.embeddings("test", when)[rows]
    return evaluate_items(embeddings, items, replace(protocol_for(items), draws=0), nmi=False)


def _metrics(evaluation: Evaluation) -> list[str]:
    return [name for name in evaluation.per_query if name not in FACTS]


def _scores(
    compared: Sequence[Compared], metric: str, asked: NDArray[np.bool_], group: tuple[str, str] = ("", "")
) -> list[Score]:
    """Of each run, a metric of the queries that are `asked`."""
    labels = compared[0].after.per_query["label"].to_numpy()[asked]
    values = [each.after.per_query[metric].to_numpy()[asked] for each in compared]
    scores = []
    for place, (each, own) in enumerate(zip(compared, values, strict=True)):
        more, before = own - values[0], np.nan
        if each.before is not None and metric in each.before.per_query:
            before = float(each.before.per_query[metric].to_numpy()[asked].mean())
        scores.append(
            Score(
                metric,
                each.name,
                before,
                mean_interval(own, labels),
                mean_interval(more, labels) if place else None,
                int((more > 0).sum()),
                int((more < 0).sum()),
                len(own),
                len(np.unique(labels)),
                group,
            )
        )
    return scores


def _grouped(compared: Sequence[Compared], items: Items, counted: NDArray[np.bool_]) -> list[Score]:
    rows = compared[0].after.per_query.index.to_numpy()
    scores = []
    for column in GROUPS:
        values = items.table[column].to_numpy()[rows]
        known = sorted(set(values[counted].tolist()))
        for value in known if len(known) > 1 else ():
            scores += _scores(compared, MAIN, counted & (values == value), (column, value))
    return scores


def _options(folders: Sequence[RunFolder]) -> dict[str, list[Any]]:
    """The options that are not the same in all runs; none where a model was not trained here."""
    if not all(run.trained for run in folders):
        return {}
    values = [or_else(lambda run=run: dotted(run.config), {}) for run in folders]  # type: ignore[misc]
    names = [name for name in dict.fromkeys(n for each in values for n in each) if name not in NO_OPTIONS]
    listed = {name: [each.get(name) for each in values] for name in names}
    return {name: own for name, own in listed.items() if any(each != own[0] for each in own)}


def _findings(run: RunFolder) -> list[str]:
    """`critical: collapse`, worst first."""
    if not run.trained:
        return ["not looked at, as it was not trained here"]
    return [f"{each.severity}: {each.finding.replace('_', ' ')}" for each in diagnose_run(run.path).findings]


def _plain(score: Score) -> dict[str, Any]:
    difference = score.difference or (None, None, None)
    numbers = {
        "before": score.before,
        **dict(zip(("after", "low", "high"), score.after, strict=True)),
        **dict(zip(("difference", "difference_low", "difference_high"), difference, strict=True)),
    }
    known = {name: None if value is None or math.isnan(value) else value for name, value in numbers.items()}
    counts = {"won": score.won, "lost": score.lost, "queries": score.queries, "classes": score.classes}
    return {"metric": score.metric, "run": score.run, **known, **counts}
