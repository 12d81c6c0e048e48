"""The parts of the page. Each draws one thing, or raises `Missing` (a file is) or `Absent` (there is no such thing)."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from pullpush.data.items import SPLITS
from pullpush.evaluation import Evaluation
from pullpush.reports import grids, histograms, matches, tables
from pullpush.reports.context import Context
from pullpush.reports.curves import averaged, draw_curves
from pullpush.reports.interactive import interactive_map
from pullpush.reports.page import Block
from pullpush.reports.projection import COLORED, Map, draw_maps, make_map
from pullpush.runs.folder import environment as this_machine
from pullpush.runs.gain import kept_sentence
from pullpush.runs.reader import Absent, Missing, or_else

__all__ = [
    "categories",
    "class_recall",
    "classes_seen",
    "configuration",
    "confused",
    "environment",
    "hover_map",
    "how",
    "learning_rate",
    "loss_curves",
    "maps",
    "matched",
    "retrieval",
    "similarity",
    "splits",
    "validation_recall",
    "worst",
]

POINTS = 2000
"""Points of the interactive map: each carries an image."""


def retrieval(context: Context) -> Block:
    """Queries drawn at random, and what they find before and after."""
    rows = grids.random_rows(context.test, list(context.evaluations.values()))
    headings = [f"nearest references, {context.said(when)}" for when in context.evaluations]
    return context.figure(
        "retrieval",
        partial(grids.draw_rows, rows, headings, f"What queries of {context.queried} find"),
        alt="Grid of queries and their nearest references, right ones with a tick, wrong ones with a cross",
        caption=f"{len(rows)} queries, drawn at random and not chosen, and their nearest references in order. "
        "A tick marks a reference of the query's own class, a cross one of another class.",
    )


def worst(context: Context) -> Block:
    """The queries whose first right reference stands farthest behind."""
    rows = grids.worst_rows(context.test, context.after)
    if not rows:
        raise Absent("every query finds an item of its own class first")
    return context.figure(
        "worst_queries",
        partial(grids.draw_rows, rows, ["nearest references", "first right"], "Worst queries"),
        alt="Grid of the queries whose first right reference stands farthest behind",
        caption=f"The queries whose first right reference stands farthest behind, one a class, among "
        f"{context.after.references:,} references.",
    )


def matched(context: Context) -> Block:
    """Where the worst queries and what they find look alike to the model."""
    pairs = matches.worst_pairs(context.test, context.after, matches.model_of(context.run))
    if not pairs:
        raise Absent("no images can be looked at")
    exact = all(one.match.exact for pair in pairs for one in (pair.wrong, pair.right))
    return context.figure(
        "why_matched",
        partial(matches.draw_worst, pairs),
        alt="Heat maps over the worst queries and over the references that they match",
        caption="What each place adds to the cosine (orange) or takes from it (purple, striped). "
        + matches.said(exact),
    )


def confused(context: Context) -> Block:
    """The classes most often taken for each other."""
    pairs = grids.confusions(context.test, context.after)
    if not pairs:
        raise Absent("each query's nearest reference is of its own class")
    return context.figure(
        "confused_classes",
        partial(grids.draw_confusions, pairs, "Most confused classes"),
        alt="Pairs of classes with images and counts",
        caption="Pairs of classes by the number of queries of either one whose nearest reference is of the other.",
    )


def loss_curves(context: Context) -> Block:
    """Training loss and both validation losses."""
    log = context.run.log
    batches, pairs = "validation/loss_miner" in log, "validation/loss_all" in log
    both = log.reindex(columns=["validation/loss_miner", "validation/loss_no_miner"])
    mined = batches and both.diff(axis=1).abs().max(axis=None) > 1e-6
    curves = context.curves(
        {
            "train/loss": "training",
            "validation/loss_miner": f"validation, training sampler{' and miner' if mined else ''}",
            "validation/loss_all": "validation, all pairs",
        }
    )
    count = averaged(curves, context.window)
    sentences = [
        f"Raw values faint, their moving average over {count} values on top." if count > 1 else "",
        _of_validation(context, "Validation is on") if batches or pairs else "",
        "The validation loss on batches as in training compares with the training loss, that over all pairs does not."
        if batches and pairs
        else "",
        "The miner picks hard pairs, which shifts the level." if mined else "",
    ]
    return context.figure(
        "loss",
        partial(draw_curves, curves, window=context.window, title="Loss", y="loss"),
        alt="Loss over steps in training and validation",
        caption=" ".join(filter(None, sentences)),
    )


def _of_validation(context: Context, start: str) -> str:
    """What the validation classes are to the model."""
    apart = context.labelled and or_else(lambda: context.run.apart("validation"), False)
    return f"{start} classes that are neither trained on nor in the test." if apart else ""


def validation_recall(context: Context) -> Block:
    """Recall and MAP@R on the validation split."""
    keys = {f"validation/recall@{k}": f"recall@{k}" for k in (1, 10)} | {"validation/map@r": "MAP@R"}
    keys["validation/average/map@r"] = "MAP@R of averaged weights"
    curves, best = context.curves(keys), context.known_metrics.get("best_step")
    kept = "The dotted line is at the step whose weights were kept." if best else ""
    return context.figure(
        "validation_recall",
        partial(draw_curves, curves, window=context.window, title="Retrieval in validation", y="fraction", mark=best),
        alt="Recall in validation over steps",
        caption=" ".join(filter(None, [_of_validation(context, "On"), kept])),
    )


def learning_rate(context: Context) -> Block:
    """The rate at each step."""
    curves = [context.run.curve("lr", "learning rate")]
    return context.figure(
        "learning_rate",
        partial(draw_curves, curves, window=1, title="Learning rate", y="learning rate"),
        alt="Learning rate over steps",
        caption="The rate of the head at each step.",
    )


def classes_seen(context: Context) -> Block:
    """How often each training class was drawn."""
    if not context.labelled:
        raise Absent("each item is drawn alike")
    counts = context.run.classes_seen
    least, most = int(counts.min()), int(counts.max())
    between = f"between {least:,} and {most:,}, {counts.mean():,.0f} on average" if least < most else f"{least:,}"
    return context.figure(
        "classes_seen",
        partial(histograms.draw_seen, counts),
        alt="How often each training class was drawn",
        caption=f"Items drawn by the sampler from each of {len(counts):,} training classes: {between}.",
    )


def similarity(context: Context) -> Block:
    """Similarities of positive and negative pairs, before and after."""
    pairs = histograms.sample_pairs(context.test.table["label"].to_numpy())
    panels = []
    for when in context.evaluations:
        embeddings = context.run.embeddings("test", when)
        positive, negative = (histograms.similarities(embeddings, p) for p in (pairs.positive, pairs.negative))
        panels.append((context.said(when), positive, negative))
    same = ", the same before and after" if len(panels) > 1 else ""
    return context.figure(
        "similarities",
        partial(histograms.draw_similarities, panels, title=f"Similarity of pairs of {context.queried}"),
        alt="Histograms of the cosine similarity of positive and negative pairs",
        caption=f"Of {pairs} of the test split{same}. The number is the chance that a positive pair is more similar "
        "than a negative one.",
    )


def class_recall(context: Context) -> Block:
    """Recall@1 over the classes."""
    panels = [(context.said(when), each.per_class["recall@1"]) for when, each in context.evaluations.items()]
    recall, when = panels[-1][1], context.said("after").capitalize()
    none = int((recall == 0).sum())
    return context.figure(
        "class_recall",
        partial(histograms.draw_class_recall, panels),
        alt="Distribution of recall@1 over classes",
        caption=f"{when}, in {int((recall == 1).sum()):,} of {len(recall):,} classes every query "
        f"finds its own class first{f', in {none:,} none does' if none else ''}.",
    )


def categories(context: Context) -> Block:
    """Recall@1 a category."""
    frame = tables.category_table(context.test, context.evaluations)
    if frame.empty:
        raise Absent("the items have no categories")
    whens = list(context.evaluations)
    rows = [
        [str(name), f"{row['classes']:,.0f}", f"{row['queries']:,.0f}", *(f"{row[w]:.3f}" for w in whens)]
        for name, row in frame.iterrows()
    ]
    head = ["category", "classes", "queries"]
    head += [f"recall@1 {w}" for w in whens] if context.run.trained else ["recall@1"]
    return Block(
        heading="By category", head=head, rows=rows, caption="Queries search among all references of the test split."
    )


def maps(context: Context) -> Block:
    """Maps of the training split and of the test split."""
    if not context.labelled:
        raise Absent("without classes there is nothing to colour")
    unseen = make_map(context.test, context.run.embeddings("test", "after"))
    panels: list[tuple[str, Map]] = []
    try:
        if not context.run.trained:
            raise Absent("there are no training classes")
        training = make_map(context.run.split("train"), context.run.embeddings("train", "after"))
        panels.append(("Training classes", training))
    except Absent:
        pass
    except Missing as missing:
        context.notes.append(f"The map of the training classes was left out: {missing}")
    panels.append((context.queried[0].upper() + context.queried[1:], unseen))
    shown = " and ".join(f"{len(one.rows):,} of {len(one.items):,}" for _, one in panels)
    many = any(one.items.table["label"].nunique() > COLORED for _, one in panels)
    return context.figure(
        "maps",
        partial(draw_maps, panels),
        alt="Maps of the embeddings of " + " and of ".join(title for title, _ in panels),
        caption=f"{unseen.method} of the embeddings, {context.said('after')}, {shown} items"
        + (f"; up to {COLORED} classes drawn at random are coloured, the others grey." if many else ".")
        + (" Distances between far groups on such a map mean little." if unseen.method == "UMAP" else ""),
    )


def hover_map(context: Context) -> Block:
    """The map of all splits that have embeddings, coloured by a column, with images under the pointer."""
    items = context.run.items
    embedded = {
        split: or_else(partial(context.run.embeddings, split, "after"), np.empty((0, 0), np.float32))
        for split in SPLITS
    }
    width = next((each.shape[1] for each in embedded.values() if len(each)), 0)
    embedded = {split: each for split, each in embedded.items() if len(each) and each.shape[1] == width}
    if not embedded:
        raise Missing("No split has embeddings after training.")
    rows = [np.flatnonzero(items.table["split"] == split) for split in embedded]
    one = make_map(items.select(np.concatenate(rows)), np.concatenate(list(embedded.values())), limit=POINTS)
    shown = dict.fromkeys(one.items.table["split"].to_numpy()[one.rows])
    lights = " and its class lights up" if context.labelled else ""
    return interactive_map(
        one,
        f"{len(one.rows):,} items ({', '.join(shown)}): put the pointer on a point and its image appears"
        f"{lights}. Drag to move, use the wheel tool to zoom; a name of the legend hides its points.",
    )


def how(context: Context) -> Block:
    """How the numbers were obtained, in sentences."""
    after = or_else(lambda: context.after, None)
    metrics = context.known_metrics
    tested = (metrics.get("test") or {}).get("after") or {}
    lines = tables.how_obtained(context.run, after, tested)
    if after is not None:
        lines += _computed(after, tested)
    if "one_gallery_image/recall@1" in tested:
        lines.append(
            "VehicleID is scored both ways. One gallery image: the mean and the standard deviation of ten draws of one "
            "image an id as the gallery, all others as queries. All against all: each image against all others, as "
            "recall@k without a prefix and everything else on this page."
        )
    if learned := metrics.get("model"):
        lines.append(
            f"{learned['learned']:,} of the {learned['parameters']:,} parameters of the model were trained; weights, "
            f"gradients and the optimiser's state took {learned['bytes'] / 1e6:,.0f} MB."
        )
    if not context.run.trained:
        lines.append(
            "The model was not trained here. Nobody knows here what it was trained on: these images or their classes "
            "may have been among it."
        )
    if kept := kept_sentence(metrics):
        lines.append(kept)
    if metrics.get("best_step"):
        lines.append(
            f"The model is that of step {metrics['best_step']:,}, the best on the validation split; "
            "the test split had no part in the choice."
        )
    return Block(lines=lines)


def _computed(after: Evaluation, tested: Mapping[str, Any]) -> list[str]:
    """recall@1 of the run folder's neighbours, which is the evaluation's own, and where metrics.json says another."""
    recall = after.metrics["recall@1"]
    interval = ""
    _, low, high = tables.recall_interval(after)
    if not math.isnan(low):
        interval = (
            f", with a 95% interval of {low:.3f} to {high:.3f} over the choice of test classes (bootstrap over "
            "classes, 1,000 repeats)"
        )
    lines = [f"recall@1 of the stored embeddings: {recall:.3f}{interval}."]
    stated = tested.get("recall@1")
    if stated is not None and abs(stated - recall) > 0.0005:
        lines.append(f"This differs from metrics.json, which says {stated:.3f}: the files are not of one evaluation.")
    return lines


def splits(context: Context) -> Block:
    """Classes and items of each split."""
    frame = tables.split_table(context.run.items)
    columns = ["classes", "items"] if context.labelled else ["items"]
    rows = [[str(name), *(f"{row[column]:,}" for column in columns)] for name, row in frame.iterrows()]
    return Block(heading="Data", head=["split", *columns], rows=rows, lines=context.run.items.notes)


def configuration(context: Context) -> Block:
    """The run's configuration as it was written."""
    return Block(heading="Configuration", code=context.run.config_text.strip())


def environment(context: Context) -> Block:
    """What the run recorded; else the machine that draws the page."""
    recorded = context.run.environment
    rows = [[name, str(value)] for name, value in (recorded or this_machine()).items()]
    when = "As the run recorded it." if recorded else "Of the machine that drew this page."
    return Block(heading="Environment", head=["", ""], rows=rows, caption=when)
