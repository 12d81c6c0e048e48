"""The page of runs side by side."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pullpush.evaluation.bootstrap import FEW, REPEATS, Interval
from pullpush.evaluation.metrics import title_of
from pullpush.progress import duration
from pullpush.reports import grids, style
from pullpush.reports.page import Block, Page, Section, drawn
from pullpush.studies.compare import MAIN, Comparison, Score
from pullpush.studies.spread import shown

__all__ = ["draw_comparison", "sentence"]

SHOWN = 6  # queries of a grid
NONE = "–"


def draw_comparison(comparison: Comparison, out: Path) -> Path:
    """Writes the page of a comparison, one file that opens without a network.

    Returns:
        The page.
    """
    first, *others = comparison.runs
    sections = [
        Section("Metrics", _metrics(comparison)),
        *(_won_and_lost(comparison, place) for place in range(1, len(comparison.runs))),
        *(_groups(comparison, column) for column in dict.fromkeys(each.group[0] for each in comparison.groups)),
        Section("Runs", [_runs(comparison), *_options(comparison)]),
        Section("Findings", [_findings(comparison)]),
        Section("How the numbers were obtained", [Block(lines=how_compared(comparison))]),
    ]
    title = f"{', '.join(each.name for each in others)} beside {first.name}"
    folders = ", ".join(str(each.run.path) for each in comparison.runs)
    footer = f"Drawn from the run folders {folders}; `pullpush compare` draws it again at any time."
    return Page("comparison", title, sentence(comparison), sections, [footer]).write(out, "or choose another --out")


def sentence(comparison: Comparison) -> str:
    """What comes out, of every other run against the first."""
    first, *others = comparison.runs
    score = comparison.score(MAIN, 0)
    what = f"queries of {score.classes:,} classes" if comparison.asked == "images" else "texts that search images"
    said = [f"Of {score.queries:,} {what} of the test, {first.name} finds {100 * score.after.mean:.1f}% first"]
    for place, other in enumerate(others, 1):
        own = comparison.score(MAIN, place)
        assert own.difference is not None
        said.append(f"{other.name} {100 * own.after.mean:.1f}% ({_verdict(own.difference)})")
    return f"{', '.join(said)}."


def _verdict(difference: Interval) -> str:
    if difference == (0, 0, 0):
        return "no difference"
    points = f"{100 * difference.mean:+.1f} points"
    if math.isnan(difference.low):
        return f"{points}, of too few classes for an interval"
    interval = f"{points}, 95% interval {100 * difference.low:+.1f} to {100 * difference.high:+.1f}"
    return interval if difference.excludes_zero else f"{interval}: not told apart"


def how_compared(comparison: Comparison) -> list[str]:
    """Sentences on queries, intervals, and what they don't say."""
    first = comparison.runs[0].after
    few = len(first.per_class) < FEW
    left = f"; {first.left_out:,} without a positive are left out" if first.left_out else ""
    return [
        f"All runs answer the same {int(first.counted.sum()):,} queries from the same {first.references:,} items of "
        f"the test split{left}.",
        *comparison.notes,
        f"There are fewer than {FEW} classes: no intervals are given."
        if few
        else f"Intervals are 95%, by bootstrap over classes ({REPEATS:,} repeats, one seed): queries of a class are "
        "not independent. Those of differences are paired: each repeat draws the same classes for both runs.",
        "An interval is over the choice of test classes. It says nothing of another seed of training, which "
        "`pullpush study` repeats; and of many metrics and groups some are off by chance.",
        "A query is won where its recall@1 is above that of the first run, and lost where it is below. Ties never "
        "help: a query whose nearest references are tied counts in part.",
        "NMI is of all items together and has no value a query: see the report of each run.",
    ]


def _metrics(comparison: Comparison) -> list[Block]:
    head = ["metric", *(each.name for each in comparison.runs)]
    keys = list(dict.fromkeys(each.metric for each in comparison.scores))
    runs = range(len(comparison.runs))
    values = [[title_of(key), *(_with_interval(comparison.score(key, run).after) for run in runs)] for key in keys]
    before = [[title_of(key), *(_number(comparison.score(key, run).before) for run in runs)] for key in keys]
    known = [row for row in before if set(row[1:]) != {NONE}]
    trained = all(each.run.trained for each in comparison.runs)
    return [
        Block(
            heading="After training" if trained else "After training, or as it is", head=head, rows=values, wide=True
        ),
        Block(
            heading=f"Difference to {comparison.runs[0].name}",
            head=[head[0], *head[2:]],
            rows=_differences(comparison, keys),
            caption="* The interval leaves 0 out.",
        ),
        _figure(comparison, keys),
        Block(heading="Before training", head=head, rows=known) if known else Block(),
    ]


def _differences(comparison: Comparison, keys: Sequence[str]) -> list[list[str]]:
    places = range(1, len(comparison.runs))
    return [[title_of(key), *(_difference(comparison.score(key, place)) for place in places)] for key in keys]


def _figure(comparison: Comparison, keys: Sequence[str]) -> Block:
    chosen = [key for key in (MAIN, "recall@10", "r_precision", "map@r", "mrr") if key in keys]
    if math.isnan(comparison.score(MAIN, 1).after.low):
        return Block()
    return drawn(
        partial(_draw_differences, comparison, chosen),
        Path("differences.png"),
        f"Each run less {comparison.runs[0].name}: the mean over queries and its 95% interval over classes. Right of 0 "
        "the run finds more.",
        write=False,
    )


def _draw_differences(comparison: Comparison, keys: Sequence[str], theme: style.Theme) -> Figure:
    others = comparison.runs[1:]
    figure, axes = style.subplots(width=5.2, height=1.3 + 0.26 * len(keys) * len(others))
    axes.axvline(0, color=theme.muted, linewidth=1)
    step = 0.7 / len(others)
    for place, run in enumerate(others, 1):
        look, rows = theme.look(place - 1), np.arange(len(keys)) + step * (place - 1 - (len(others) - 1) / 2)
        scores = [comparison.score(key, place).difference for key in keys]
        means, low, high = np.array([each for each in scores if each is not None]).T
        axes.hlines(rows, low, high, color=look["color"], alpha=0.45, linewidth=2)
        axes.plot(means, rows, look["marker"], color=look["color"], markersize=7, label=run.name)
    axes.set_yticks(range(len(keys)), [title_of(key) for key in keys])
    axes.set_ylim(len(keys) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="y", visible=False)
    style.label(axes, f"Difference to {comparison.runs[0].name}", "difference", "")
    if len(others) > 1:
        style.legend_below(figure)
    return figure


def _won_and_lost(comparison: Comparison, place: int) -> Section:
    """Queries that this run and the first answer differently."""
    first, other = comparison.runs[0], comparison.runs[place]
    score, more = comparison.score(MAIN, place), comparison.won(place)
    same = score.queries - score.won - score.lost
    text = (
        f"{other.name} finds {score.won:,} queries first that {first.name} does not, and misses {score.lost:,} that it "
        f"finds; of {same:,} both have the same."
    )
    grids_of = []
    if comparison.asked == "images":
        grids_of = [_grid(comparison, place, more > 0, "won"), _grid(comparison, place, more < 0, "lost")]
    return Section(f"Won and lost: {other.name}", [Block(text=[text]), *grids_of])


def _grid(comparison: Comparison, place: int, which: Any, word: str) -> Block:
    """The queries among these whose first right reference moved the most, one a class."""
    first, other = comparison.runs[0], comparison.runs[place]
    ranks = [each.after.per_query["rank"].to_numpy() for each in (first, other)]
    moved = np.where(which, np.abs(np.log(ranks[0] / ranks[1])), -1)
    order = np.argsort(-moved, kind="stable")[: int(which.sum())]
    queries = grids.one_a_class(first.after.per_query["label"].to_numpy(), order, SHOWN)
    if not queries:
        return Block()
    rows = grids.rows_of(comparison.items, [first.after, other.after], queries)
    finder, misser = (other, first) if word == "won" else (first, other)
    return drawn(
        partial(grids.draw_rows, rows, [first.name, other.name], f"{word.capitalize()} by {other.name}"),
        Path(f"{word}-{place}.png"),
        f"Queries that {finder.name} finds first and {misser.name} does not, with the nearest references of both: "
        "those whose first right reference moved farthest, one a class. A tick marks a reference of the "
        "query's own class, a cross one of another class.",
        write=False,
    )


def _groups(comparison: Comparison, column: str) -> Section:
    """recall@1 by category or domain, and the differences."""
    scores = [each for each in comparison.groups if each.group[0] == column]
    by_group: dict[str, list[Score]] = {}
    for each in scores:
        by_group.setdefault(each.group[1], []).append(each)
    names = [each.name for each in comparison.runs]
    rows = [
        [name or "(none)", f"{own[0].classes:,}", f"{own[0].queries:,}", *(_number(each.after.mean) for each in own)]
        + [_difference(each) for each in own[1:]]
        for name, own in sorted(by_group.items(), key=lambda pair: -abs(_gap(pair[1])))
    ]
    head = [column, "classes", "queries", *names, *(f"{name} less {names[0]}" for name in names[1:])]
    caption = "recall@1 of the queries of each, which search among all items; the largest difference first."
    return Section(f"By {column}", [Block(head=head, rows=rows, wide=True, caption=caption)])


def _gap(scores: Sequence[Score]) -> float:
    return max((each.difference.mean for each in scores if each.difference), key=abs, default=0.0)


def _runs(comparison: Comparison) -> Block:
    rows = []
    for place, each in enumerate(comparison.runs):
        facts, score = each.facts, comparison.score(MAIN, place)
        seconds = facts["seconds"]
        rows.append(
            [
                each.name,
                str(facts["loss"] or NONE),
                NONE if facts["steps"] is None else f"{facts['steps']:,}",
                str(facts["kept"] or NONE),
                duration(seconds) if isinstance(seconds, int | float) else NONE,
                _number(score.before),
                _number(score.after.mean),
            ]
        )
    head = ["run", "loss", "steps", "weights kept", "time", "recall@1 before", "after"]
    return Block(heading="What was trained", head=head, rows=rows, wide=True)


def _options(comparison: Comparison) -> list[Block]:
    if not all(each.run.trained for each in comparison.runs):
        return []
    if not comparison.options:
        return [Block(text=["All options are the same."])]
    rows = [[name, *map(_value, values)] for name, values in comparison.options.items()]
    head = ["option", *(each.name for each in comparison.runs)]
    return [Block(heading="Options that differ", head=head, rows=rows, wide=True)]


def _findings(comparison: Comparison) -> Block:
    rows = [[name, "; ".join(found) or "nothing is wrong"] for name, found in comparison.findings.items()]
    return Block(head=["", ""], rows=rows, caption="By the doctor; `pullpush diagnose RUN` has evidence and cure.")


def _value(value: Any) -> str:
    return NONE if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _number(value: float) -> str:
    return NONE if math.isnan(value) else f"{value:.3f}"


def _with_interval(value: Interval) -> str:
    return f"{value.mean:.3f}" + ("" if math.isnan(value.low) else f" ({value.low:.3f} to {value.high:.3f})")


def _difference(score: Score) -> str:
    """`+0.012 (+0.004 to +0.020) *`: with a star where the interval leaves 0 out."""
    if score.difference is None:
        return NONE
    mean, low, high = score.difference
    text = shown(mean, "+.3f") if mean else "0"
    if not math.isnan(low):
        text += f" ({shown(low, '+.3f')} to {shown(high, '+.3f')})" if (low or high) else " (0 to 0)"
    return text.replace("-", "−") + (" *" if score.difference.excludes_zero else "")
