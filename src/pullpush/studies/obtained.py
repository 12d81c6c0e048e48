"""How the numbers of a study came about, in sentences: each says what holds for all its runs, or that they differ."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from pullpush.bounds import Bound, types_of
from pullpush.data.items import Items
from pullpush.data.sampler import ClassBalancedSampler
from pullpush.maths.choice import Loss
from pullpush.runs.config import Config
from pullpush.studies.plan import StudyRun
from pullpush.studies.runner import finished
from pullpush.studies.spread import meaning
from pullpush.studies.table import stored

__all__ = ["how_obtained", "margin_meaning"]

CHOSEN = {"image": "MAP@R", "image-text": "recall@1 from text to image"}


def how_obtained(
    runs: Sequence[StudyRun], out: Path, failed: Sequence[str], shows: Collection[str] = ("test", "seeds")
) -> list[str]:
    """Data, splits, budget, encoder, choice, repeats, definitions.

    Args:
        runs: of the study; those that did not finish are named by `failed` alone.
        shows: what the page has: "test" metrics, "seeds" that repeat a setting, "times" of runs.
    """
    runs = finished(runs, out)
    items = stored(runs[0], out).items
    lines = [*_data(runs, items), _budget(runs, out), _encoder(runs)]
    if "test" in shows:
        lines.append(
            f"{_kept(runs, items)}The test split is embedded once before training, as the starting line, and once at "
            "the end; no option was chosen on it."
        )
    if "seeds" in shows:
        seeds = sorted({run.config.seed for run in runs})
        facts = pd.DataFrame([run.facts for run in runs])
        settings = [name for name in facts if name != "seed"]
        counts = facts.groupby(settings, dropna=False).size() if settings else [len(facts)]
        lines.append(f"Seeds: {', '.join(map(str, seeds))}. {meaning(counts)}")
    if "test" in shows:
        alone = (items.split("test").table["role"] == "both").all()
        lines.append(
            ("recall@1 and MAP@R are of each test item against all others; " if alone else "")
            + "MAP@R divides by the number of positives."
        )
    if "times" in shows:
        cached = any(run.config.encoder.frozen for run in runs)
        lines.append(
            "The time of a run includes its evaluations"
            + (", and that of computing the features where they were not in the cache." if cached else ".")
        )
    return [*lines, *(f"Failed, and left out: {failure}" for failure in failed)]


def _same(runs: Sequence[StudyRun], of: Callable[[Config], Any]) -> Any:
    """What all runs have, or None where they differ."""
    values = [of(run.config) for run in runs]
    return values[0] if all(value == values[0] for value in values) else None


def _kept(runs: Sequence[StudyRun], items: Items) -> str:
    """Which weights are tested; nothing where the runs differ in that."""
    chosen = _same(runs, lambda c: CHOSEN[c.task])
    if _same(runs, lambda c: c.data.validation > 0) is None or chosen is None:
        return ""
    if not len(items.split("validation")):
        return "The weights that are tested are those of the last step. "
    return f"The weights that are tested are those with the best {chosen} on the validation classes. "


def _data(runs: Sequence[StudyRun], items: Items) -> list[str]:
    seed = runs[0].config.seed
    table = items.table[items.table["split"] != ""]
    apart = not (table.groupby("label")["split"].nunique() > 1).any()
    splits, data = _same(runs, lambda c: c.data) is not None, runs[0].config.data
    shared = [
        name
        for name, same in (
            ("splits", splits),
            ("batches", splits and _same(runs, lambda c: c.batch) is not None),
            ("the start of the head", _same(runs, lambda c: c.encoder) is not None),
        )
        if same
    ]
    last = shared.pop() if len(shared) > 1 else ""
    first = "" if splits else "as the table says; the first run has "
    lines = [
        f"Data: {first}{Path(data.source).name}: {_split_sizes(items)} (seed {seed})."
        + (" A class is in one split only." if apart else " Some classes are in several splits.")
        + (f" Runs of the same seed share {', '.join(shared)}{f' and {last}' if last else ''}." if shared else "")
    ]
    if splits and data.folds > 1:
        lines.append(f"Classes are split in {data.folds} folds; fold {data.fold} is the test.")
    if splits and data.long_tail > 1:
        lines.append(f"Training classes are thinned out: the largest has {data.long_tail:g} x the smallest.")
    return lines


def _split_sizes(items: Items) -> str:
    return ", ".join(
        f"{name} {len(part)} items of {part.table['label'].nunique()} classes"
        for name in ("train", "validation", "test")
        if len(part := items.split(name))
    )


def _budget(runs: Sequence[StudyRun], out: Path) -> str:
    steps, lr = _same(runs, lambda c: c.steps), _same(runs, lambda c: c.optimizer.lr)
    rate = f"at {lr:g}" if lr is not None else "at the rates of the table"
    taken = f"{steps:,} steps of" if steps is not None else "the steps of the table, of"
    batches, every = _batches(runs, out)
    setting = " for every setting" if every and steps is not None else ""
    return f"Budget: {taken} {batches}{setting}, AdamW {rate} with warm-up and cosine decay."


def _batches(runs: Sequence[StudyRun], out: Path) -> tuple[str, bool]:
    """Classes and items of the batches, and whether they are those of every run."""
    parts = [sorted(set(sizes)) for sizes in zip(*(_batch(run, out) for run in runs), strict=True)]
    classes, samples = (f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}" for sizes in parts)
    return f"{classes} classes x {samples} items", all(len(sizes) == 1 for sizes in parts)


def _batch(run: StudyRun, out: Path) -> tuple[int, int]:
    """As it was drawn, where the configuration leaves it to the data."""
    batch = run.config.batch
    if batch.classes and batch.samples:
        return batch.classes, batch.samples
    labels = stored(run, out).items.split("train").labels
    sampler = ClassBalancedSampler.for_data(
        labels, run.config.usual_batch, **vars(batch), world=run.config.processes, seed=run.config.seed
    )
    return sampler.classes, sampler.samples


def _encoder(runs: Sequence[StudyRun]) -> str:
    name, frozen = _same(runs, lambda c: c.encoder.name), _same(runs, lambda c: c.encoder.frozen)
    how = {
        True: "frozen; its features were computed once and the head alone was trained",
        False: "fine-tuned with its head",
        None: "frozen or fine-tuned, as the table says",
    }
    return f"Encoder: {name or 'as the table says'}, {how[frozen]}."


def margin_meaning(config: Config) -> str:
    """What the option `margin` of a run's loss is measured on; empty where the run has none."""
    name = config.loss.name
    if config.loss.options.get("margin") is None:
        return ""
    if name == "circle":
        return (
            "circle: the margin is the relaxation m of the paper: optima 1 + m and -m, decision margins 1 - m and m on "
            "the cosine; the boundary is a quarter circle of radius m sqrt(2) around (s_n, s_p) = (0, 1). A smaller m "
            "is stricter."
        )
    traits = config.loss.traits
    to = "to the proxy of the own class" if traits.proxies else "between the embeddings"
    if name == "sphereface":
        return f"sphereface: the margin multiplies the angle {to}."
    if _in_radians(config.loss):
        return f"{name}: the margin is in radians, of the angle {to}."
    similarity = config.similarity or traits.similarity
    squared = "squared Euclidean distance between unit vectors (0 to 4)"
    if name == "triplet":
        squared += ": d_p² + m < d_n², which is m / 2 on the cosine"
    units = {
        "negative_squared_euclidean": squared,
        "negative_euclidean": "Euclidean distance between unit vectors (0 to 2)",
        "cosine": "cosine similarity (-1 to 1)",
    }
    return f"{name}: the margin is in units of the {units.get(str(similarity), f'similarity {similarity}')}."


def _in_radians(loss: Loss) -> bool:
    annotation = types_of(loss.function)["margin"]
    return any(isinstance(part, Bound) and part.unit == "radians" for part in get_args(annotation))
