"""The items of a run."""

from collections.abc import Callable

from pullpush.data.check import without_bad
from pullpush.data.items import Items
from pullpush.data.sources import open_items
from pullpush.data.splits import fold_as_test, long_tail, split_by_class
from pullpush.progress import say
from pullpush.runs.groups import DataConfig

__all__ = ["make_items", "read_items"]


def make_items(config: DataConfig, seed: int, tell: Callable[[str], None] = say, read: Items | None = None) -> Items:
    """The items of a run, split by class and thinned out.

    Args:
        config: which they are.
        seed: of the splits.
        tell: takes sentences about them.
        read: what `read_items` gave before.

    Raises:
        UserError: what the reader finds wrong, unreadable images unless they are to be skipped, too few classes.
    """
    items = read_items(config, tell) if read is None else read
    if config.folds > 1:
        items = fold_as_test(items, config.folds, config.fold, seed=seed)
    items = split_by_class(items, seed=seed, test=config.test, validation=config.validation)
    if config.long_tail > 1:
        items = long_tail(items, seed=seed, ratio=config.long_tail)
    for note in items.notes:
        tell(note)
    for name in ("validation", "test"):
        if items.split(name).table["label"].nunique() == 1:
            tell(f"{name} has one class only, so every retrieval metric there is 1: give more classes or --data.{name}")
    return items


def read_items(config: DataConfig, tell: Callable[[str], None] = say) -> Items:
    """The items as their reader finds them, checked; see `make_items`."""
    items = open_items(config.source, root=config.root, **config.options)
    return without_bad(items, config.on_bad_item, tell) if config.check else items
