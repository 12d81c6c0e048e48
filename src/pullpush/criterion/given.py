"""What a criterion is called with: brought to one form, or refused with the cure."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pullpush.errors import UserError
from pullpush.maths.choice import Choice
from pullpush.maths.relations import same_ancestor, same_class, same_text

__all__ = ["Labels", "Side", "are_names", "check_sides", "class_number", "given", "on_cpu"]

Labels = Tensor | Sequence[int] | Sequence[str]


class Side(NamedTuple):
    """Anchors or references, as they were given.

    Attributes:
        embeddings: [n, dim].
        labels: one each, as numbers.
        ids: one each, or None.
        named: labels came as names.
    """

    embeddings: Tensor
    labels: Tensor
    ids: Tensor | None
    named: bool


# Relations that compare numbers of classes; others of a person's own may take what they like.
OF_NUMBERS = (same_class, same_ancestor, same_text)


def given(name: str, embeddings: Any, labels: Any, ids: Any, relation: Choice[Any]) -> Side:
    """One side of the rectangle: embeddings [n, dim], their labels and, where there are any, their ids.

    Labels and ids may be tensors of any integers, arrays or lists; names get the number that `class_number` gives them.

    Args:
        name: "embeddings" or "references", for messages.
        embeddings: of a floating type.
        labels: one each, of what the relation takes.
        ids: one each, or None.
        relation: that of the criterion.

    Raises:
        UserError: types, shapes or devices that do not fit.
    """
    if not isinstance(embeddings, Tensor) or not embeddings.is_floating_point():
        kind = embeddings.dtype if isinstance(embeddings, Tensor) else type(embeddings).__name__
        raise UserError(f"{name} are {kind}: give a floating point tensor [n, dim], as the encoder returns it")
    own, named = "" if name == "embeddings" else "reference_", are_names(labels)
    labels = _numbers(f"{own}labels", labels, embeddings)
    if embeddings.ndim != 2 or not labels.ndim or len(embeddings) != len(labels):
        raise UserError(
            f"{name} must be [n, dim] with one label each, got {list(embeddings.shape)} and labels {list(labels.shape)}"
        )
    if labels.is_floating_point() and relation.made_by(*OF_NUMBERS):
        raise UserError(f"{own}labels are {labels.dtype}, not numbers of classes: give them as int64 (labels.long())")
    if ids is None:
        return Side(embeddings, labels, None, named)
    if isinstance(ids, tuple) and any(isinstance(x, Tensor) for x in ids):
        raise UserError(
            f"{own}ids are a tuple of {len(ids)} tensors, as another library's miner gives them: pairs are not handed "
            "in, the criterion mines itself, Criterion(..., miner='multi_similarity'); ids= says which item an "
            "embedding is of"
        )
    ids = _numbers(f"{own}ids", ids, embeddings)
    if ids.is_floating_point() or ids.shape != (len(embeddings),):
        raise UserError(
            f"{own}ids are {ids.dtype} {list(ids.shape)}: give int64 [{len(embeddings)}], the number of the item that "
            "each embedding is of, or leave them out"
        )
    return Side(embeddings, labels, ids, named)


def check_sides(side: Sequence[Any], other: Sequence[Any]) -> bool:
    """Whether there are references.

    Args:
        side: embeddings, labels, ids.
        other: references, their labels and ids.

    Raises:
        UserError: a part of the references is missing; dimensions or devices differ.
    """
    embeddings, references = side[0], other[0]
    if references is None:
        if other[1] is not None or other[2] is not None:
            raise UserError("reference_labels or reference_ids without references: give references=[m, dim] too")
        return False
    if other[1] is None:
        raise UserError("references come without reference_labels: give one label for each")
    if not isinstance(embeddings, Tensor) or not isinstance(references, Tensor):
        return True
    if embeddings.shape[-1:] != references.shape[-1:]:
        raise UserError(
            f"embeddings {list(embeddings.shape)} and references {list(references.shape)} have different dimensions: "
            "give both encoders the same dim"
        )
    if embeddings.device != references.device:
        raise UserError(
            f"references are on {references.device}, the embeddings on {embeddings.device}: "
            f"give references.to({str(embeddings.device)!r})"
        )
    return True


def on_cpu(x: Tensor) -> bool:
    """Whether its values can be asked for without waiting: asking an accelerator would hold up the step."""
    return x.device.type == "cpu"


def are_names(labels: Any) -> bool:
    """Whether labels are strings, or lists of strings."""
    if isinstance(labels, Tensor):
        return False
    first = labels.tolist() if hasattr(labels, "tolist") else labels
    while isinstance(first, list | tuple) and first:
        first = first[0]
    return isinstance(first, str)


@lru_cache(maxsize=1 << 20)
def class_number(name: str) -> int:
    """The number that stands for a name: 63 bits of its hash (BLAKE2b), the same in every batch, run and process.

    Of a million names two share a number with a probability of 1 in 18 million.
    """
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _numbers(name: str, values: Any, embeddings: Tensor) -> Tensor:
    """Integers as int64, other numbers as they are, names as their numbers; on the device of the embeddings."""
    if not isinstance(values, Tensor):
        values = _as_tensor(name, values).to(embeddings.device)
    numbers: Tensor = values
    if numbers.device != embeddings.device:
        raise UserError(
            f"{name} are on {numbers.device}, the embeddings on {embeddings.device}: "
            f"give {name}.to({str(embeddings.device)!r})"
        )
    return numbers if numbers.is_floating_point() or numbers.is_complex() else numbers.long()


def _as_tensor(name: str, values: Any) -> Tensor:
    plain = values.tolist() if hasattr(values, "tolist") else values  # of an array or a column of a table
    try:
        numbers = torch.tensor(_numbered(plain))
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{name} are a {type(values).__name__} of what is neither numbers nor names: give integers or strings, one "
            "for each embedding"
        ) from error
    return numbers if numbers.numel() else numbers.long()  # of an empty list the type is a guess


def _numbered(values: Any) -> Any:
    if isinstance(values, str):
        return class_number(values)
    if isinstance(values, list | tuple):
        numbers = [_numbered(value) for value in values]
        named = any(isinstance(value, str) for value in values)
        if named and not all(isinstance(value, str) for value in values):
            raise TypeError("names among numbers")
        return numbers
    return values
