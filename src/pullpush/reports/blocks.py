"""The parts of the page. Each draws one thing, or raises `Missing` (a file is) or `Absent` (there is no such thing)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from pullpush.evaluation import Evaluation
from pullpush.reports import grids, histograms, style, tables
from pullpush.reports.context import Material
from pullpush.reports.curves import RAW, fitting_window, plot_curves
from pullpush.reports.interactive import interactive_map
from pullpush.reports.page import Block
from pullpush.reports.projection import COLORED, Map, draw_maps, make_map
from pullpush.reports.style import Theme
from pullpush.runs.reader import Absent, Curve, Missing, RunFolder

FEW = 5
"""A bootstrap over fewer classes than these says nothing."""

# Retrieval


def retrieval(material: Material) -> Block:
    """Queries drawn at random, and what they find before and after."""
    rows = grids.random_rows(material.test, list(material.evaluations.values()))
    headings = [f"nearest references {when} training" for when in material.evaluations]
    return material.picture(
        "retrieval",
        partial(grids.draw_rows, rows, headings, f"What queries of {material.queried} find"),
        alt="Grid of queries and their nearest references, right ones with a tick, wrong ones with a cross",
        caption=f"{len(rows)} queries, drawn at random and not chosen, and their nearest references in order. "
        "A tick marks a reference of the query's own class, a cross one of another class.",
    )


def worst(material: Material) -> Block:
    """The queries whose first right reference stands farthest behind."""
    rows = grids.worst_rows(material.test, material.after)
    if not rows:
        raise Absent("every query finds an item of its own class first")
    return material.picture(
        "worst_queries",
        partial(grids.draw_rows, rows, ["nearest references", "first right"], "Worst queries"),
        alt="Grid of the queries whose first right reference stands farthest behind",
        caption=f"The queries whose first right reference stands farthest behind, one a class, among "
        f"{material.after.references:,} references.",
    )


def confused(material: Material) -> Block:
    """The classes most often taken for each other."""
    pairs = grids.confusions(material.test, material.after)
    if not pairs:
        raise Absent("each query's nearest reference is of its own class")
    return material.picture(
        "confused_classes",
        partial(grids.draw_confusions, pairs, "Most confused classes"),
        alt="Pairs of classes with pictures and counts",
        caption="Pairs of classes by the number of queries of either one whose nearest reference is of the other.",
    )


# Training


def loss_curves(material: Material) -> Block:
    """Training loss and both validation losses."""
    log = material.run.log
    mined = _differ(log, "validation/loss_miner", "validation/loss_no_miner")
    curves = _curves(
        material.run,
        {
            "train/loss": "training",
            "validation/loss_miner": f"validation, training sampler{' and miner' if mined else ''}",
            "validation/loss_all": "validation, all pairs",
        },
    )
    draw = partial(_draw_curves, curves, material.window, title="Loss", y="loss")
    batches = "validation/loss_miner" in log
    sentences = [
        _smoothing(curves, material.window),
        _of_validation(material, "Validation is on") if batches or "validation/loss_all" in log else "",
        "The validation loss on batches as in training compares with the training loss, that over all pairs does not."
        if batches and "validation/loss_all" in log
        else "",
        "The miner picks hard pairs, which shifts the level." if batches and mined else "",
    ]
    return material.picture(
        "loss", draw, alt="Loss over steps in training and validation", caption=" ".join(filter(None, sentences))
    )


def _differ(log: pd.DataFrame, one: str, other: str) -> bool:
    """Whether two logged values ever differ."""
    return one in log and other in log and bool((log[one] - log[other]).abs().max() > 1e-6)


def _smoothing(curves: Sequence[Curve], window: int) -> str:
    """What `plot_curves` does with these, where it does anything."""
    long = [len(curve.values) for curve in curves if len(curve.values) >= RAW]
    if not long or (averaged := fitting_window(max(long), window)) < 2:
        return ""
    return f"Raw values faint, their moving average over {averaged} values on top."


def _of_validation(material: Material, start: str) -> str:
    """What the validation classes are to the model."""
    try:
        apart = material.labelled and material.run.apart("validation")
    except Missing:
        return ""
    return f"{start} classes that are neither trained on nor in the test." if apart else ""


def validation_recall(material: Material) -> Block:
    """Recall and MAP@R on the validation split."""
    keys = {f"validation/recall@{k}": f"recall@{k}" for k in (1, 10)} | {"validation/map@r": "MAP@R"}
    curves = _curves(material.run, keys)
    best = material.known_metrics.get("best_step")
    title = "Retrieval in validation"
    draw = partial(_draw_curves, curves, material.window, title=title, y="fraction", mark=best)
    kept = "The dotted line is at the step whose weights were kept." if best else ""
    return material.picture(
        "validation_recall",
        draw,
        alt="Recall in validation over steps",
        caption=" ".join(filter(None, [_of_validation(material, "On"), kept])),
    )


def learning_rate(material: Material) -> Block:
    """The rate at each step."""
    curves = [material.run.curve("lr", "learning rate")]
    draw = partial(_draw_curves, curves, 1, title="Learning rate", y="learning rate")
    return material.picture(
        "learning_rate", draw, alt="Learning rate over steps", caption="The rate of the head at each step."
    )


def classes_seen(material: Material) -> Block:
    """How often each training class was drawn."""
    if not material.labelled:
        raise Absent("each item is drawn alike")
    counts = material.run.classes_seen
    return material.picture(
        "classes_seen",
        partial(histograms.draw_seen, counts),
        alt="How often each training class was drawn",
        caption=f"Items drawn by the sampler from each of {len(counts):,} training classes: "
        + (
            f"between {int(counts.min()):,} and {int(counts.max()):,}, {counts.mean():,.0f} on average."
            if counts.min() < counts.max()
            else f"{int(counts.min()):,}."
        ),
    )


def _curves(run: RunFolder, keys: Mapping[str, str]) -> list[Curve]:
    curves = [run.curve(key, name) for key, name in keys.items() if key in run.log]
    if not curves:
        raise Absent(f"the log has none of {', '.join(keys)}")
    return curves


def _draw_curves(
    curves: list[Curve], window: int, theme: Theme, *, title: str, y: str, mark: int | None = None
) -> Figure:
    figure, axes = style.subplots()
    if mark:
        axes.axvline(mark, color=theme.muted, linestyle=":", linewidth=1.2)
    plot_curves(axes, curves, theme, window=window)
    style.label(axes, title, "step", y)
    if len(curves) > 1 or curves[0].label != y:
        style.legend_below(figure, columns=2)
    return figure


# Similarities and classes


def similarity(material: Material) -> Block:
    """Similarities of positive and negative pairs, before and after."""
    pairs = histograms.sample_pairs(material.test.table["label"].to_numpy())
    panels = []
    for when in material.evaluations:
        embeddings = material.run.embeddings("test", when)
        positive, negative = (histograms.similarities(embeddings, p) for p in (pairs.positive, pairs.negative))
        panels.append((f"{when} training", positive, negative))
    return material.picture(
        "similarities",
        partial(histograms.draw_similarities, panels, title=f"Similarity of pairs of {material.queried}"),
        alt="Histograms of the cosine similarity of positive and negative pairs",
        caption=f"Of {pairs} of the test split"
        + (", the same before and after" if len(panels) > 1 else "")
        + ". The number is the chance that a positive pair is more similar than a negative one.",
    )


def class_recall(material: Material) -> Block:
    """Recall@1 over the classes."""
    panels = [
        (f"{when} training", found.per_class["recall@1"].to_numpy()) for when, found in material.evaluations.items()
    ]
    recall = panels[-1][1]
    return material.picture(
        "class_recall",
        partial(histograms.draw_class_recall, panels),
        alt="Distribution of recall@1 over classes",
        caption=f"After training, in {int((recall == 1).sum()):,} of {len(recall):,} classes every query finds "
        + "its own class first"
        + (f", in {none:,} none does." if (none := int((recall == 0).sum())) else "."),
    )


def categories(material: Material) -> Block:
    """Recall@1 a category."""
    frame = tables.category_table(material.test, material.evaluations)
    if frame.empty:
        raise Absent("the items have no categories")
    whens = list(material.evaluations)
    rows = [
        [str(name), f"{row['classes']:,.0f}", f"{row['queries']:,.0f}", *(f"{row[w]:.3f}" for w in whens)]
        for name, row in frame.iterrows()
    ]
    head = ["category", "classes", "queries", *(f"recall@1 {w}" for w in whens)]
    return Block(
        heading="By category", head=head, rows=rows, caption="Queries search among all references of the test split."
    )


# Maps


def maps(material: Material) -> Block:
    """Maps of the training split and of the test split."""
    if not material.labelled:
        raise Absent("without classes there is nothing to colour")
    unseen = material.unseen
    panels: list[tuple[str, Map]] = []
    try:
        training = make_map(material.run.split("train"), material.run.embeddings("train", "after"))
        panels.append(("Training classes", training))
    except Missing as missing:
        material.notes.append(f"The map of the training classes was left out: {missing}")
    panels.append((material.queried[0].upper() + material.queried[1:], unseen))
    shown = " and ".join(f"{len(one.rows):,} of {len(one.items):,}" for _, one in panels)
    many = any(one.items.table["label"].nunique() > COLORED for _, one in panels)
    method = panels[-1][1].method
    return material.picture(
        "maps",
        partial(draw_maps, panels),
        alt="Maps of the embeddings of " + " and of ".join(t for t, _ in panels),
        caption=f"{method} of the embeddings after training, {shown} items"
        + (f"; up to {COLORED} classes drawn at random are coloured, the others grey." if many else ".")
        + (" Distances between far groups on such a map mean little." if method == "UMAP" else ""),
    )


def hover_map(material: Material) -> Block:
    """The map of all splits, coloured by a column, with pictures under the pointer."""
    one = material.everything
    splits = list(dict.fromkeys(one.items.table["split"].to_numpy()[one.rows]))
    lights = " and its class lights up" if material.labelled else ""
    return interactive_map(
        one,
        f"{len(one.rows):,} items ({', '.join(splits)}): put the pointer on a point and its image appears"
        f"{lights}. Drag to move, use the wheel tool to zoom; a name of the legend hides its points.",
    )


# How


def how(material: Material) -> Block:
    """How the numbers were obtained, in sentences."""
    try:
        after: Evaluation | None = material.after
    except Missing:
        after = None
    metrics = material.known_metrics
    tested = (metrics.get("test") or {}).get("after") or {}
    lines = tables.how_obtained(material.run, after, tested)
    if after is not None:
        lines += _computed(after, tested)
    if "one_gallery_image/recall@1" in tested:
        lines.append(
            "VehicleID is scored both ways. One gallery image: the mean and the standard deviation of ten draws of one "
            "image an id as the gallery, all others as queries. All against all: each image against all others, as "
            "recall@k without a prefix and everything else on this page."
        )
    if metrics.get("best_step"):
        lines.append(
            f"The model is that of step {metrics['best_step']:,}, the best on the validation split; "
            "the test split had no part in the choice."
        )
    return Block(lines=lines)


def _computed(after: Evaluation, tested: Mapping[str, Any]) -> list[str]:
    """recall@1 of the run folder's neighbours, which is the evaluation's own, and where metrics.json says another."""
    recall = after.metrics["recall@1"]
    said = f"recall@1 of the stored embeddings: {recall:.3f}"
    if len(after.per_class) >= FEW:
        low, high = tables.recall_interval(after)
        said += (
            f", with a 95% interval of {low:.3f} to {high:.3f} over the choice of test classes (bootstrap over "
            "classes, 1,000 repeats)"
        )
    lines = [f"{said}."]
    stated = tested.get("recall@1")
    if stated is not None and abs(stated - recall) > 0.0005:
        lines.append(f"This differs from metrics.json, which says {stated:.3f}: the files are not of one evaluation.")
    return lines


def splits(material: Material) -> Block:
    """Classes and items of each split."""
    frame = tables.split_table(material.run.items)
    columns = ["classes", "items"] if material.labelled else ["items"]
    rows = [[str(name), *(f"{row[column]:,}" for column in columns)] for name, row in frame.iterrows()]
    return Block(heading="Data", head=["split", *columns], rows=rows, lines=material.run.items.notes)


def configuration(material: Material) -> Block:
    """The run's configuration as it was written."""
    return Block(heading="Configuration", code=material.run.config_text.strip())


def environment(material: Material) -> Block:
    """What the run recorded; else the machine that draws the page."""
    recorded = material.run.environment
    rows = [[str(name), str(value)] for name, value in (recorded or tables.environment()).items()]
    when = "As the run recorded it." if recorded else "Of the machine that drew this page."
    return Block(heading="Environment", head=["", ""], rows=rows, caption=when)
