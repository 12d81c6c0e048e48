"""From a configuration to the things that it names."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from pullpush.criterion import Criterion, CrossBatchMemory, Proxies
from pullpush.data.check import without_bad
from pullpush.data.items import Items
from pullpush.data.sampler import ClassBalancedSampler
from pullpush.data.sources import open_items
from pullpush.data.splits import fold_as_test, long_tail, split_by_class
from pullpush.errors import UserError
from pullpush.maths.relations import same_text
from pullpush.runs.config import BATCH, TEXT_BATCH, Config, DataConfig, with_texts

__all__ = ["make_criteria", "make_items", "make_sampler", "read_items", "split_items"]


def make_items(config: DataConfig, seed: int, say: Callable[[str], None]) -> Items:
    """The items with their splits: read, checked, split by class, thinned out.

    Args:
        config: what to read.
        seed: of the splits.
        say: takes sentences about what was found.

    Raises:
        UserError: what the reader finds wrong, and unreadable images unless they are to be skipped.
    """
    items = read_items(config, say)
    return split_items(items, config, seed, say)


def read_items(config: DataConfig, say: Callable[[str], None]) -> Items:
    """The items as their reader finds them, checked. Args and Raises as of `make_items`."""
    items = open_items(config.source, root=config.root, **config.options)
    return without_bad(items, config.on_bad_item, say) if config.check else items


def split_items(items: Items, config: DataConfig, seed: int, say: Callable[[str], None]) -> Items:
    """The items split by class and thinned out. Args and Raises as of `make_items`."""
    if config.folds > 1:
        items = fold_as_test(items, config.folds, config.fold, seed=seed)
    items = split_by_class(items, seed=seed, test=config.test, validation=config.validation)
    if config.long_tail > 1:
        items = long_tail(items, seed=seed, ratio=config.long_tail)
    for note in items.notes:
        say(note)
    for name in ("validation", "test"):
        if items.split(name).table["label"].nunique() == 1:
            say(f"{name} has one class only, so every retrieval metric there is 1: give more classes or --data.{name}")
    return items


def make_sampler(
    config: Config, labels: torch.Tensor, rank: int, world: int, keys: Sequence[Any] | None = None
) -> ClassBalancedSampler:
    """The training sampler of a run, which goes on for ever; `keys` as of `ClassBalancedSampler`.

    Where `config.batch` leaves them to the data, its classes and samples are the usual ones or what there is.

    Raises:
        UserError: a batch that was asked for by name and that the data do not give.
    """
    short, sizes = config.batch.short, torch.unique(labels, return_counts=True)[1]
    usual = TEXT_BATCH if with_texts(config.task) else BATCH
    largest = int(sizes.max())
    samples = config.batch.samples or min(usual[1], max(largest, 2))
    there = int((sizes >= samples).sum()) if short == "drop" else len(sizes)
    of = f" of {samples} images or more" if short == "drop" else ""
    if config.batch.classes > there:
        raise UserError(
            f"--batch.classes {config.batch.classes} needs as many training classes, there are {there}{of}: lower it, "
            "or leave it out, then the batch follows the data"
        )
    classes = config.batch.classes or max(min(usual[0], there) // world * world, 1)
    sampler = ClassBalancedSampler(
        labels, classes, samples, seed=config.seed, rank=rank, world=world, short=short, keys=keys, passes=None
    )
    if (not config.batch.classes and classes < usual[0]) or (not config.batch.samples and samples < usual[1]):
        sampler.notes.insert(
            0,
            f"batches of {classes} classes x {samples} images follow the training data ({there} classes{of}, the "
            f"largest of {largest} images); with more data they are {usual[0]} x {usual[1]}",
        )
    return sampler


def make_criteria(
    config: Config, classes: int, ids: torch.Tensor, other_ids: torch.Tensor | None = None
) -> tuple[Criterion, Criterion | None]:
    """The criterion of a run, and the same over all pairs: without memory and miner.

    Args:
        config: of the run.
        classes: number of training classes.
        ids: of the training items, int64 [n].
        other_ids: of the entries of a second tower, int64 [n]: the criterion then compares items with these, both ways.

    Returns:
        The two; the second is None with class proxies, which stand for training classes only.

    Raises:
        UserError: what does not go together.
    """
    loss, columns = config.loss, ids if other_ids is None else other_ids
    proxies = None
    if loss.traits.proxies:
        per_class = loss.options.get("centers", 1)
        proxies = Proxies(classes, config.encoder.dim, per_class=per_class, seed=config.seed)
    memory = _make_memory(config, columns) if other_ids is None or config.text.memory != "images" else None
    reverse = _make_memory(config, ids) if other_ids is not None and config.text.memory != "texts" else None
    learned = _learned(config)
    duplicates = "positive" if config.text.duplicates == "apart" else config.text.duplicates
    shared: dict[str, Any] = {
        "similarity": config.similarity,
        "learn": learned,
        "compile": config.compile,
        "symmetric": other_ids is not None,
        "relation": "same_class" if other_ids is None else same_text(duplicates=duplicates),
    }
    criterion = Criterion(loss, miner=config.miner, memory=memory, reverse_memory=reverse, proxies=proxies, **shared)
    return criterion, None if proxies else Criterion(loss, **shared)


def _learned(config: Config) -> str | None:
    if config.learn == "auto":
        return "temperature" if with_texts(config.task) and "temperature" in config.loss.options else None
    return None if config.learn == "none" else config.learn


def _make_memory(config: Config, ids: torch.Tensor) -> CrossBatchMemory | None:
    own = config.memory
    if not own.size:
        return None
    return CrossBatchMemory(
        own.size if own.size <= 1 else round(own.size),
        config.encoder.dim,
        items=ids,
        layout=own.layout,
        combine=own.combine,
        weight=own.weight,
        start_step=own.start_step,
        enqueue=own.enqueue,
        storage=own.storage,
        # Of pairs, a label is what belongs together and which description it is.
        label_shape=(2,) if with_texts(config.task) else (),
    )
