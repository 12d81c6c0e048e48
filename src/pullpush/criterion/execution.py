"""How a comparison is computed: at once or in blocks of rows, compiled or not, on one rank or on several."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from pullpush.criterion import distributed
from pullpush.criterion.columns import Columns
from pullpush.criterion.comparison import Comparison, beside
from pullpush.criterion.compiling import Compiled
from pullpush.criterion.given import on_cpu
from pullpush.criterion.learned import LearnedOptions
from pullpush.criterion.streaming import stream
from pullpush.maths.rectangle import per_anchor, value

__all__ = ["Execution"]

# Rows x columns above which the rectangle is streamed, and the size of a block: streaming bounds memory, at 16 MB an
# array, and is no faster. Blocks of a few rows would read all columns again and again. Compiled, few arrays are
# written.
STREAM_ABOVE = 1 << 23
BLOCK_CELLS = 1 << 22
BLOCK_ROWS = 16
COMPILED_CELLS = 1 << 25


class Execution:
    """The value of a comparison; all ways give the same value and gradient.

    Args:
        comparison: what is computed.
        block_rows: rows computed at a time; "auto" streams large rectangles, None never does.
        compile: compile it as one graph.
        reduction: "mean" gives the value, "none" the value of each anchor.
    """

    def __init__(
        self,
        comparison: Comparison,
        block_rows: Literal["auto"] | int | None,
        compile: bool,
        reduction: Literal["mean", "none"],
    ) -> None:
        self.comparison, self.block_rows, self.reduction = comparison, block_rows, reduction
        self.compiled = Compiled(comparison.sums) if compile else None

    def __call__(
        self,
        anchors: Columns,
        parts: Sequence[Columns],
        options: LearnedOptions,
        *,
        ranks: int,
        changing: bool = False,
    ) -> Tensor:
        """The value, or that of each anchor.

        Args:
            anchors: the rows of this rank.
            parts: the columns, in parts; of all ranks.
            options: those that are learned.
            ranks: how many compute together.
            changing: columns will have changed when the gradient is asked for.
        """
        own = slice(None)
        if ranks > 1 and self.comparison.whole:
            # Not a sum over anchors: every rank computes the joined batch.
            own = distributed.own_rows(len(anchors.labels))
            anchors, ranks = distributed.gather(anchors), 1
        learned = options.current(ranks)
        if self.reduction == "none":
            kept = [p._replace(embeddings=p.embeddings.clone()) for p in parts] if changing else parts
            return _with_nan_and_graph(per_anchor(self.comparison(anchors, kept, learned)), anchors, parts[0])[own]
        block_rows = self._block_rows(len(anchors.labels), sum(len(p.labels) for p in parts))
        if block_rows is None and ranks == 1 and not changing and self.compiled is None:
            total = value(self.comparison(anchors, parts, learned))
        else:
            total = self._streamed(anchors, parts, learned, block_rows or max(len(anchors.labels), 1), ranks)
        return _with_nan_and_graph(total, anchors, parts[0])

    def _streamed(
        self, anchors: Columns, parts: Sequence[Columns], learned: Mapping[str, Tensor], block_rows: int, ranks: int
    ) -> Tensor:
        first, *rest = parts
        same = first.embeddings is anchors.embeddings
        sums = self.compiled or self.comparison.sums
        columns = beside(parts)
        if self.compiled is not None and self.comparison.of_classes:
            anchors, columns = _narrow(anchors), _narrow(columns)
        if columns.valid is not None:
            columns = columns._replace(valid=columns.valid.to(torch.int64))
        held = [part.embeddings for part in rest]

        def block(rows: slice, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
            x, y, *values = inputs
            own = anchors._replace(embeddings=x)
            some = own if rows == slice(0, len(anchors.labels)) else own.rows(rows)
            first_part = x if same else y
            options = dict(zip(learned, values, strict=True))
            return sums(some, [first_part, *held], columns._replace(embeddings=first_part), options)

        inputs = [anchors.embeddings, anchors.embeddings.detach() if same else first.embeddings]
        return stream(block, len(anchors.labels), block_rows, [*inputs, *learned.values()], ranks)

    def _block_rows(self, rows: int, columns: int) -> int | None:
        """Rows of a block; None for all at once."""
        if self.block_rows is None or self.comparison.whole:
            return None
        if self.block_rows != "auto":
            return int(self.block_rows)
        cells = BLOCK_CELLS if self.compiled is None else COMPILED_CELLS
        if rows * columns <= max(STREAM_ABOVE, cells):
            return None
        most = max(BLOCK_ROWS, cells // columns)
        # Blocks of equal size, as far as they can be.
        return math.ceil(rows / math.ceil(rows / most))


def _narrow(columns: Columns) -> Columns:
    """Labels and ids in 32 bits where they fit, as numbers of classes and items do: a compiled loop reads them for
    every row."""
    return columns._replace(labels=_in_32_bits(columns.labels), ids=_in_32_bits(columns.ids))


def _in_32_bits(x: Tensor) -> Tensor:
    if not on_cpu(x) or x.dtype != torch.int64 or not x.numel():
        return x
    low, high = x.aminmax()
    small = torch.iinfo(torch.int32)
    return x.int() if low >= small.min and high <= small.max else x


def _with_nan_and_graph(loss: Tensor, anchors: Columns, columns: Columns) -> Tensor:
    """The loss; NaN where an anchor's embedding holds one, or any column's; with a graph where no pair gave it one.

    The memory's columns need no look: it never takes a NaN.
    """
    own, others = anchors.embeddings.detach(), columns.embeddings.detach()
    loss = loss + (own.sum(1) if loss.ndim else own.sum()) * 0.0
    if columns.embeddings is not anchors.embeddings:
        loss = loss + others.sum() * 0.0
    return loss if loss.requires_grad else loss + anchors.embeddings.sum() * 0.0
