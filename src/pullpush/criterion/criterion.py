"""The one module around the pure functions."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pullpush.criterion.columns import Columns
from pullpush.criterion.memory import CrossBatchMemory
from pullpush.criterion.proxies import Proxies
from pullpush.criterion.streaming import stream
from pullpush.errors import UserError
from pullpush.maths import losses, miners
from pullpush.maths.losses import AnchorLoss
from pullpush.maths.pairs import RELATIONS, Pairs, make_pairs
from pullpush.maths.similarity import SIMILARITIES

__all__ = ["Criterion"]

# Rows x columns above which the rectangle is streamed, and the size of a block: a few such arrays fit in the cache.
STREAM_ABOVE = 1 << 22
BLOCK_CELLS = 1 << 19

Choice = str | Callable[..., Any] | Mapping[str, Any]


class Criterion(nn.Module):
    """A loss over embeddings: similarity, relation, miner, loss, and the source of the columns.

        criterion = Criterion("circle", margin=0.4, scale=80, memory=CrossBatchMemory(8192, dim=128))
        loss = criterion(embeddings, labels)

    Args:
        loss: name of a loss, or any function of that form.
        similarity: name or function; by default the one of the loss's paper.
        relation: name or function; labels to positives.
        miner: name, function, or mapping with `name` and options; None keeps all pairs.
        memory: further columns, from recent batches; read and written in training mode only.
        proxies: class proxies, which then are the only columns.
        block_rows: rows computed at a time. "auto" streams rectangles too large for the cache, None never streams.
        reduction: "mean" gives the value, "none" the value of each anchor.
        options: of the loss.

    Raises:
        UserError: an unknown name or option; the message gives the nearest right one.
    """

    unnamed: Tensor

    def __init__(
        self,
        loss: str | Callable[..., AnchorLoss] = "multi_similarity",
        *,
        similarity: str | Callable[[Tensor, Tensor], Tensor] | None = None,
        relation: str | Callable[[Tensor, Tensor], Tensor] = "same_class",
        miner: Choice | None = None,
        memory: CrossBatchMemory | None = None,
        proxies: Proxies | None = None,
        block_rows: int | str | None = "auto",
        reduction: str = "mean",
        **options: Any,
    ) -> None:
        super().__init__()
        self.loss = _choose("loss", loss, losses.REGISTRY)
        self.traits = losses.traits_of(self.loss)
        self.options = _check_options("loss", self.loss, options)
        self.similarity = _choose("similarity", similarity or self.traits.similarity, SIMILARITIES)
        self.relation = _choose("relation", relation, RELATIONS)
        self.miner = _make_miner(miner)
        self.memory, self.proxies = memory, proxies
        if self.traits.proxies and proxies is None:
            raise UserError(f"loss {loss!r} compares with class proxies: give proxies=Proxies(classes, dim)")
        if reduction not in ("mean", "none"):
            raise UserError(f"unknown reduction {reduction!r}: 'mean' or 'none'")
        self.block_rows, self.reduction = block_rows, reduction
        self.learned = nn.ParameterDict(
            {k: nn.Parameter(torch.as_tensor(self._start(k), dtype=torch.float32)) for k in self.traits.learned}
        )
        accepted = inspect.signature(self.loss).parameters
        self._wants_references = "reference_similarity" in accepted
        # Ids for embeddings that come without: each its own item, never used again.
        self.register_buffer("unnamed", torch.tensor(-1, dtype=torch.int64))

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        ids: Tensor | None = None,
        *,
        references: Tensor | None = None,
        reference_labels: Tensor | None = None,
        reference_ids: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch.

        Args:
            embeddings: anchors [n, dim], normalised or not (the similarity decides).
            labels: int64 [n], or what the relation takes.
            ids: int64 [n], which item an embedding is of; by default each is its own.
            references: columns [m, dim] instead of the batch itself, with their labels and ids: the other modality,
                another view. No cell is dropped because of its place, only because of equal ids.

        Returns:
            A scalar; [n] with reduction "none".

        Raises:
            ValueError: shapes or types that do not fit.
        """
        _check_shapes("embeddings", embeddings, "labels", labels)
        ids = self._name(embeddings) if ids is None else ids
        anchors = Columns(embeddings, labels, ids)
        columns = self._columns(anchors, references, reference_labels, reference_ids)
        loss = self._compute(anchors, columns)
        if self.memory is not None and self.training:
            self.memory.enqueue(embeddings, labels, ids)
        return loss

    def _columns(
        self, anchors: Columns, references: Tensor | None, labels: Tensor | None, ids: Tensor | None
    ) -> Columns:
        if self.proxies is not None:
            return self.proxies.columns()
        if references is None:
            columns = anchors
        else:
            if labels is None:
                raise ValueError("references come without reference_labels")
            _check_shapes("references", references, "reference_labels", labels)
            columns = Columns(references, labels, self._name(references) if ids is None else ids)
        if self.memory is not None and self.training:
            columns = _joined(columns, self.memory.columns())
        return columns

    def _compute(self, anchors: Columns, columns: Columns) -> Tensor:
        block_rows = self._rows_of_a_block(len(anchors.ids), len(columns.ids))
        if block_rows is None or self.reduction == "none":
            rectangle = self._rectangle(anchors, columns, self.learned)
            if self.reduction == "none":
                return losses.per_anchor(rectangle)
            # Keeps a graph, and NaN, where the batch has no pair at all.
            return losses.value(rectangle) + 0.0 * anchors.embeddings.sum()
        names = list(self.learned)
        same = columns.embeddings is anchors.embeddings

        def block(rows: slice, inputs: Sequence[Tensor]) -> AnchorLoss:
            x, y, *learned = inputs
            part = Columns(x[rows], anchors.labels[rows], anchors.ids[rows])
            return self._rectangle(
                part, columns._replace(embeddings=x if same else y), dict(zip(names, learned, strict=True))
            )

        inputs = [anchors.embeddings, columns.embeddings.detach() if same else columns.embeddings]
        return stream(block, len(anchors.ids), block_rows, [*inputs, *self.learned.values()])

    def _rectangle(self, anchors: Columns, columns: Columns, learned: Mapping[str, Tensor]) -> AnchorLoss:
        similarity, pairs = self._cells(anchors, columns)
        extra: dict[str, Any] = {}
        if self._wants_references:
            same = columns.embeddings is anchors.embeddings
            extra["reference_similarity"], extra["reference_pairs"] = (
                (similarity, pairs) if same else self._cells(columns, columns)
            )
        if self.miner is not None:
            pairs = self.miner(similarity, pairs)
        return self.loss(similarity, pairs, **{**self.options, **learned, **extra})

    def _cells(self, anchors: Columns, columns: Columns) -> tuple[Tensor, Pairs]:
        similarity = self.similarity(anchors.embeddings, columns.embeddings)
        pairs = make_pairs(anchors.labels, anchors.ids, columns.labels, columns.ids, self.relation, columns.valid)
        return similarity, pairs

    def _rows_of_a_block(self, rows: int, columns: int) -> int | None:
        if self.block_rows is None or self.traits.whole(self.options) or self._wants_references:
            return None
        if self.block_rows == "auto":
            return max(1, BLOCK_CELLS // max(1, columns)) if rows * columns > STREAM_ABOVE else None
        return int(self.block_rows)

    def _name(self, embeddings: Tensor) -> Tensor:
        ids = self.unnamed - torch.arange(len(embeddings), device=self.unnamed.device)
        self.unnamed -= len(embeddings)
        return ids

    def _start(self, option: str) -> Any:
        return self.options.get(option, inspect.signature(self.loss).parameters[option].default)

    def extra_repr(self) -> str:
        """The loss with its options."""
        given = ", ".join(f"{k}={v}" for k, v in self.options.items())
        return f"{getattr(self.loss, '__name__', self.loss)}({given}), {getattr(self.similarity, '__name__', '?')}"


def _joined(first: Columns, second: Columns) -> Columns:
    valid = [torch.ones_like(c.ids, dtype=torch.bool) if c.valid is None else c.valid for c in (first, second)]
    return Columns(
        torch.cat([first.embeddings, second.embeddings.to(first.embeddings.dtype)]),
        torch.cat([first.labels, second.labels]),
        torch.cat([first.ids, second.ids]),
        torch.cat(valid),
    )


def _choose(kind: str, choice: Any, known: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    if not isinstance(choice, str):
        return choice  # type: ignore[no-any-return]
    if choice not in known:
        near = get_close_matches(choice, known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        raise UserError(f"unknown {kind} {choice!r}: {hint}")
    return known[choice]


def _check_options(kind: str, function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    known = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            near = get_close_matches(option, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(known) or 'none'}"
            raise UserError(f"{kind} {getattr(function, '__name__', function)!r} has no option {option!r}: {hint}")
    return dict(options)


def _make_miner(choice: Choice | None) -> Callable[..., Pairs] | None:
    if choice is None or callable(choice):
        return choice
    options = dict(choice) if isinstance(choice, Mapping) else {"name": choice}
    function = _choose("miner", options.pop("name"), miners.REGISTRY)
    return partial(function, **_check_options("miner", function, options))


def _check_shapes(name: str, embeddings: Tensor, labels_name: str, labels: Tensor) -> None:
    if embeddings.ndim != 2 or len(embeddings) != len(labels):
        raise ValueError(
            f"{name} must be [n, dim] with one label each, got {list(embeddings.shape)} and {labels_name} {list(labels.shape)}"
        )
