"""The criterion of a run, from its options."""

from typing import Any

from torch import Tensor

from pullpush.criterion import Criterion, CrossBatchMemory, Proxies
from pullpush.runs.config import Config

__all__ = ["make_criteria"]


def make_criteria(
    config: Config, classes: int, ids: Tensor, other_ids: Tensor | None = None
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
    loss, own, text, two = config.loss, config.memory, config.text, other_ids is not None
    columns = ids if other_ids is None else other_ids
    proxies = None
    if loss.traits.proxies:
        per_class = loss.options.get("centers", 1)
        proxies = Proxies(classes, config.encoder.dim, per_class=per_class, seed=config.seed)

    def memory(items: Tensor) -> CrossBatchMemory | None:
        size = own.size if own.size <= 1 else round(own.size)
        options = {name: value for name, value in vars(own).items() if name not in ("size", "fill")}
        # Of pairs, a label is what belongs together and which text it is.
        shape = (2,) if two else ()
        return CrossBatchMemory(size, config.encoder.dim, items=items, label_shape=shape, **options) if size else None

    of_text = two and "temperature" in loss.options
    learned = ("temperature" if of_text else "none") if config.learn == "auto" else config.learn
    duplicates = "positive" if text.duplicates == "apart" else text.duplicates
    shared: dict[str, Any] = {
        "similarity": config.similarity,
        "learn": None if learned == "none" else learned,
        "matryoshka": config.matryoshka,
        "compile": config.compile,
        "symmetric": two,
        "relation": {"name": "same_text", "duplicates": duplicates} if two else "same_class",
    }
    memories: dict[str, Any] = {
        "memory": memory(columns) if not two or text.memory != "images" else None,
        "reverse_memory": memory(ids) if two and text.memory != "texts" else None,
    }
    criterion = Criterion(loss, miner=config.miner, proxies=proxies, **memories, **shared)
    return criterion, None if proxies else Criterion(loss, **shared)
