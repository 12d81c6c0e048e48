"""The parts of the page. Each draws one thing, or raises `Missing` with the sentence for its place."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from matplotlib.figure import Figure

from pullpush.reports import grids, histograms, style, tables
from pullpush.reports.curves import Curve, plot_curves
from pullpush.reports.interactive import interactive_map
from pullpush.reports.material import Block, Material
from pullpush.reports.projection import Map, draw_maps, make_map
from pullpush.reports.run import Missing, Run
from pullpush.reports.style import Theme

# Retrieval


def retrieval(material: Material) -> Block:
    """Queries drawn at random, and what they find before and after."""
    rows = grids.random_rows(material.test, list(material.rankings.values()))
    headings = [f"nearest references {when} training" for when in material.rankings]
    return material.picture(
        "retrieval",
        partial(grids.draw_rows, rows, headings, "What queries of unseen classes find"),
        alt="Grid of queries and their five nearest references, right ones with a tick, wrong ones with a cross",
        caption=f"{len(rows)} queries, drawn at random and not chosen, and their nearest references in order. "
        "A tick marks a reference of the query's own class, a cross one of another class.",
    )


def worst(material: Material) -> Block:
    """The queries whose first right reference stands farthest behind."""
    rows = grids.worst_rows(material.test, material.after)
    if not rows:
        raise Missing("Every query finds an item of its own class first: there are no worst queries.")
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
        raise Missing("No class is taken for another: each query's nearest reference is of its own class.")
    return material.picture(
        "confused_classes",
        partial(grids.draw_confusions, pairs, "Most confused classes"),
        alt="Pairs of classes with pictures and counts",
        caption="Pairs of classes by the number of queries of either one whose nearest reference is of the other.",
    )


# Training


def loss_curves(material: Material) -> Block:
    """Training loss and both validation losses."""
    curves = _curves(
        material.run,
        {
            "train/loss": "training",
            "validation/loss_miner": "validation, training sampler and miner",
            "validation/loss_all": "validation, all pairs",
        },
    )
    draw = partial(_draw_curves, curves, material.window, title="Loss", y="loss")
    return material.picture(
        "loss", draw, alt="Loss over steps in training and on validation classes",
        caption="Raw values faint, their centred moving average on top; its window shrinks towards both ends. "
        "Validation is on classes that training never sees: once with batches and miner as in training, once over "
        "all pairs. Only the first compares with the training loss; a miner picks hard pairs, so it shifts the level.",
    )  # fmt: skip


def validation_recall(material: Material) -> Block:
    """Recall and MAP@R on the validation classes."""
    keys = {f"validation/recall@{k}": f"recall@{k}" for k in (1, 10)} | {"validation/map@r": "MAP@R"}
    curves = _curves(material.run, keys)
    best = material.known_metrics.get("best_step")
    title = "Retrieval on validation classes"
    draw = partial(_draw_curves, curves, material.window, title=title, y="fraction", mark=best)
    return material.picture(
        "validation_recall", draw, alt="Recall on validation classes over steps",
        caption="The validation classes are neither trained on nor in the test."
        + (" The dotted line is at the step whose weights were kept." if best else ""),
    )  # fmt: skip


def learning_rate(material: Material) -> Block:
    """The rate at each step."""
    curves = [material.run.curve("lr", "learning rate")]
    draw = partial(_draw_curves, curves, 1, title="Learning rate", y="learning rate")
    return material.picture(
        "learning_rate", draw, alt="Learning rate over steps", caption="The rate of the head at each step."
    )


def classes_seen(material: Material) -> Block:
    """How often each training class was drawn."""
    counts = material.run.classes_seen
    return material.picture(
        "classes_seen", partial(histograms.draw_seen, counts), alt="How often each training class was drawn",
        caption=f"Items drawn by the sampler from each of {len(counts):,} training classes: "
        f"between {int(counts.min()):,} and {int(counts.max()):,}, {counts.mean():,.0f} on average.",
    )  # fmt: skip


def _curves(run: Run, keys: Mapping[str, str]) -> list[Curve]:
    curves = [run.curve(key, name) for key, name in keys.items() if key in run.log]
    if not curves:
        raise Missing(f"The log has none of {', '.join(keys)}.")
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
        axes.legend()
    return figure


# Similarities and classes


def similarity(material: Material) -> Block:
    """Similarities of positive and negative pairs, before and after."""
    pairs = histograms.sample_pairs(material.test.table["label"].to_numpy())
    panels = []
    for when in material.rankings:
        embeddings = material.run.embeddings("test", when)
        positive, negative = (histograms.similarities(embeddings, p) for p in (pairs.positive, pairs.negative))
        panels.append((f"{when} training", positive, negative))
    return material.picture(
        "similarities",
        partial(histograms.draw_similarities, panels, title="Similarity of pairs of unseen classes"),
        alt="Histograms of the cosine similarity of positive and negative pairs before and after training",
        caption=f"{len(pairs.positive):,} positive and as many negative pairs of the test split, drawn at random, "
        "the same before and after. The number is the chance that a positive pair is more similar than a negative one.",
    )


def class_recall(material: Material) -> Block:
    """Recall@1 over the unseen classes."""
    panels = [
        (f"{when} training", tables.class_recall(material.test, r).to_numpy()) for when, r in material.rankings.items()
    ]
    recall = panels[-1][1]
    return material.picture(
        "class_recall", partial(histograms.draw_class_recall, panels), alt="Distribution of recall@1 over classes",
        caption=f"After training, in {int((recall == 1).sum()):,} of {len(recall):,} unseen classes every query finds "
        f"its own class first, in {int((recall == 0).sum()):,} none does.",
    )  # fmt: skip


def categories(material: Material) -> Block:
    """Recall@1 a category."""
    frame = tables.category_table(material.test, material.rankings)
    if frame.empty:
        raise Missing("The items have no categories.")
    whens = list(material.rankings)
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
    """Maps of the training and of the unseen classes."""
    panels: list[tuple[str, Map]] = []
    try:
        training = make_map(material.run.split("train"), material.run.embeddings("train", "after"))
        panels.append(("Training classes", training))
    except Missing as missing:
        material.notes.append(f"The map of the training classes was left out: {missing}")
    panels.append(("Unseen classes", material.unseen))
    shown = " and ".join(f"{len(one.rows):,} of {len(one.items):,}" for _, one in panels)
    return material.picture(
        "maps", partial(draw_maps, panels), alt="Maps of the embeddings of training and of unseen classes",
        caption=f"{panels[-1][1].method} of the embeddings after training, {shown} items; up to eight classes drawn "
        "at random are coloured, the others grey. Distances between far groups on such a map mean little.",
    )  # fmt: skip


def hover_map(material: Material) -> Block:
    """The map of the unseen classes, with pictures under the pointer."""
    return Block(
        script=interactive_map(material.unseen),
        caption="Unseen classes once more: put the pointer on a point and its picture appears and its class lights up. "
        "Drag to move, use the wheel tool to zoom.",
    )


# How


def how(material: Material) -> Block:
    """How the numbers were obtained, in sentences."""
    try:
        after = material.after
    except Missing:
        return Block(lines=tables.how_obtained(material.run.items, None, None))
    lines = tables.how_obtained(material.run.items, material.test, after)
    low, high = tables.recall_interval(material.test, after)
    lines.append(
        f"recall@1 computed from the stored embeddings: {after.hit.mean():.3f}, with a 95% interval of {low:.3f} to "
        f"{high:.3f} over the choice of test classes (bootstrap over classes, 1,000 repeats)."
    )
    metrics = material.known_metrics
    tested = (metrics.get("test") or {}).get("after") or {}
    stated = tested.get("recall@1")
    if "one_gallery_image/recall@1" in tested:
        lines.append(
            "VehicleID is scored both ways. One gallery image: the mean and the standard deviation of ten draws of one "
            "image an id as the gallery, all others as queries. All against all: each image against all others, as "
            "recall@k without a prefix and everything else on this page."
        )
    if stated is not None and abs(stated - after.hit.mean()) > 0.002:
        lines.append(f"This differs from metrics.json, which says {stated:.3f}: the files are not of one evaluation.")
    if metrics.get("best_step"):
        lines.append(
            f"The model is that of step {metrics['best_step']:,}, the best on the validation classes; "
            "the test classes had no part in the choice."
        )
    return Block(lines=lines)


def splits(material: Material) -> Block:
    """Classes and items of each split."""
    frame = tables.split_table(material.run.items)
    rows = [[str(name), f"{row['classes']:,}", f"{row['items']:,}"] for name, row in frame.iterrows()]
    return Block(heading="Data", head=["split", "classes", "items"], rows=rows, lines=material.run.items.notes)


def configuration(material: Material) -> Block:
    """The run's configuration as it was written."""
    return Block(heading="Configuration", code=material.run.config_text.strip())


def environment(material: Material) -> Block:
    """What the run recorded; else the machine that draws the page."""
    recorded = material.run.environment
    rows = [[str(name), str(value)] for name, value in (recorded or tables.environment()).items()]
    when = "As the run recorded it." if recorded else "Of the machine that drew this page."
    return Block(heading="Environment", head=["", ""], rows=rows, caption=when)
