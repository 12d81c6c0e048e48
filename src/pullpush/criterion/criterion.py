"""The one module around the pure functions."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pullpush.bounds import Count, checked
from pullpush.criterion import distributed
from pullpush.criterion.choices import (
    Choice,
    bind,
    check_options,
    choose,
    is_whole,
    options_of,
    told,
    wants_unit_length,
)
from pullpush.criterion.columns import Columns
from pullpush.criterion.compiling import Compiled
from pullpush.criterion.given import Labels, check_sides, given, relation_of
from pullpush.criterion.memory import CrossBatchMemory
from pullpush.criterion.proxies import Proxies
from pullpush.criterion.rectangle import Rectangle, beside
from pullpush.criterion.streaming import stream
from pullpush.errors import UserError
from pullpush.maths import losses, miners
from pullpush.maths.losses import AnchorLoss
from pullpush.maths.pairs import RELATIONS, same_ancestor, same_class, same_text
from pullpush.maths.reduce import widen
from pullpush.maths.similarity import SIMILARITIES, cosine, dot, normalize

__all__ = ["Criterion"]

# Rows x columns above which the rectangle is streamed, and the size of a block: streaming bounds memory, at 16 MB an
# array, and is no faster. Blocks of a few rows would read all columns again and again. Compiled, few arrays are
# written.
STREAM_ABOVE = 1 << 23
BLOCK_CELLS = 1 << 22
BLOCK_ROWS = 16
COMPILED_CELLS = 1 << 25

# A learned scale stays below this, a learned temperature above its inverse, as in CLIP.
LARGEST_SCALE = 100.0


class Criterion(nn.Module):
    """A loss over embeddings: similarity, relation, miner, loss, and the source of the columns.

        criterion = Criterion("circle", margin=0.4, scale=80, memory=CrossBatchMemory(8192, dim=128))
        loss = criterion(embeddings, labels)

    In training mode the memory is read and written, and under torch.distributed the anchors are compared with the
    columns of all ranks: every rank must call, with batches of the same size. In evaluation mode the batch is all there
    is.

    Args:
        loss: name of a loss, or any function of that form.
        similarity: name or function; by default the one of the loss's paper.
        relation: name, function, or mapping with `name` and options; labels to positives.
        miner: the same; None keeps all pairs.
        memory: further columns, from recent batches; of the references, where there are any.
        proxies: class proxies, which then are the only columns.
        symmetric: with references, the mean of both directions: anchors to references and references to anchors.
        reverse_memory: further columns of the second direction: a memory of the anchors.
        learn: a positive option of the loss, such as "temperature" or "scale", learned through its logarithm from the
            value given; the scale stays at most 100, the temperature at least 0.01.
        block_rows: rows computed at a time. "auto" streams rectangles of more than 8 million cells, None never does.
            A loss or a miner that is `whole` is computed at once.
        compile: compile similarity, masks, miner and loss as one graph; without a compiler, a line in the log.
        reduction: "mean" gives the value, "none" the value of each anchor.
        options: of the loss.

    Raises:
        UserError: an unknown name or option; the message gives the nearest right one. What does not go together.
    """

    unnamed: Tensor

    @checked
    def __init__(
        self,
        loss: str | Callable[..., AnchorLoss] = "multi_similarity",
        *,
        similarity: str | Callable[[Tensor, Tensor], Tensor] | None = None,
        relation: Choice = "same_class",
        miner: Choice | None = None,
        memory: CrossBatchMemory | None = None,
        proxies: Proxies | None = None,
        symmetric: bool = False,
        reverse_memory: CrossBatchMemory | None = None,
        learn: str | None = None,
        block_rows: Literal["auto"] | Count | None = "auto",
        compile: bool = False,
        reduction: Literal["mean", "none"] = "mean",
        **options: Any,
    ) -> None:
        super().__init__()
        self.loss = choose("loss", loss, losses.REGISTRY)
        self.options = check_options("loss", self.loss, options)
        self.similarity = choose("similarity", similarity or self.traits.similarity, SIMILARITIES)
        self.memory, self.reverse_memory, self.proxies = memory, reverse_memory, proxies
        self.symmetric, self.block_rows, self.reduction = symmetric, block_rows, reduction
        if proxies is not None and "centers" in options_of(self.loss):
            self.options.setdefault("centers", proxies.per_class)
        self.learn = learn
        self.learned = nn.ParameterDict(
            {k: nn.Parameter(torch.as_tensor(self._start(k), dtype=torch.float32)) for k in self.traits.learned}
        )
        if learn is not None:
            start = self._start(learn) if learn in options_of(self.loss) else None
            check_options("loss", self.loss, {learn: start})
            if isinstance(start, (bool, str)) or not isinstance(start, (int, float)) or start <= 0:
                raise UserError(f"learn={learn!r}: an option is learned from a number above 0 on, not from {start!r}")
            self.learned[f"log_{learn}"] = nn.Parameter(torch.tensor(float(start)).log())
        # The cosine is the dot product of normalised vectors: normalised once a step, not once a block.
        product = dot if self.similarity is cosine else self.similarity
        name = next((k for k, f in SIMILARITIES.items() if f is self.similarity), "of your own")
        mine = None if miner is None else bind("miner", miner, miners.REGISTRY)
        self.unit_length = self.similarity is cosine or any(wants_unit_length(f) for f in (self.loss, mine))
        for held in (memory, reverse_memory):
            if held is not None and self.unit_length:
                held.keep_unit_length()
        self.rectangle = Rectangle(product, name, bind("relation", relation, RELATIONS), mine, self.loss, self.options)
        _check_together(self, loss)
        self._compiled = Compiled(self.rectangle.sums) if compile else None
        # Ids for embeddings that come without: each its own item, never used again.
        self.register_buffer("unnamed", torch.tensor(-1, dtype=torch.int64))

    @property
    def traits(self) -> losses.Traits:
        """What the loss says of itself."""
        return losses.traits_of(self.loss)

    @property
    def whole(self) -> bool:
        """Whether the loss or the miner needs all anchors at once.

        Then there are no blocks of rows, and every rank computes the joined batch.
        """
        rectangle = self.rectangle
        mined = rectangle.miner is not None and is_whole(rectangle.miner, {})
        return rectangle.wants_references or mined or is_whole(self.loss, self.options)

    @property
    def miner(self) -> Any:
        """The miner with its options, or None."""
        return self.rectangle.miner

    @property
    def relation(self) -> Any:
        """Labels to positives."""
        return self.rectangle.relation

    def forward(
        self,
        embeddings: Tensor,
        labels: Labels,
        ids: Labels | None = None,
        *,
        references: Tensor | None = None,
        reference_labels: Labels | None = None,
        reference_ids: Labels | None = None,
    ) -> Tensor:
        """The loss of a batch.

        Args:
            embeddings: anchors [n, dim]. They need not be normalised: where the similarity, the loss or the miner is of
                unit vectors, the criterion does it.
            labels: integers [n], or what the relation takes; or a list of names, each of which gets its own number.
            ids: integers or names [n], which item an embedding is of; by default each is its own.
            references: columns [m, dim] instead of the batch itself, with their labels and ids: the other modality,
                another view. No cell is dropped because of its place, only because of equal ids.

        Returns:
            A scalar; [n] with reduction "none".

        Raises:
            UserError: shapes, types, devices or dimensions that do not fit; labels without a proxy (on a CUDA device an
                assertion there, which the step does not wait for); ids missing that a table needs; labels that relation
                or memory do not take; ranks with batches of different sizes.
        """
        # Sums and exponentials need the digits, wherever the criterion is called.
        kind = embeddings.device.type if isinstance(embeddings, Tensor) else "cpu"
        with torch.autocast(kind, enabled=False):
            return self._forward((embeddings, labels, ids), (references, reference_labels, reference_ids))

    def _forward(self, side: tuple[Any, Any, Any], other: tuple[Any, Any, Any]) -> Tensor:
        two = check_sides(side, other)
        anchors = self._side("embeddings", side, self.reverse_memory if two else self.memory)
        if not two:
            if self.symmetric:
                raise UserError("symmetric=True compares embeddings with references: give references")
            return self._directed(anchors, anchors, self.memory)
        others = self._side("references", other, self.memory)
        wider = torch.promote_types(anchors.embeddings.dtype, others.embeddings.dtype)
        anchors, others = (x._replace(embeddings=x.embeddings.to(wider)) for x in (anchors, others))
        forth = self._directed(anchors, others, self.memory)
        return (forth + self._directed(others, anchors, self.reverse_memory)) / 2 if self.symmetric else forth

    def _side(self, name: str, side: tuple[Any, Any, Any], memory: CrossBatchMemory | None) -> Columns:
        embeddings, labels, ids = given(name, *side, self.relation)
        if ids is None and memory is not None and memory.layout == "table":
            raise UserError(f"a memory with layout 'table' finds places by ids: give the ids of the {name}")
        if memory is not None:
            memory.check(name, embeddings, labels)
        if self.proxies is not None:
            self.proxies.check(embeddings, labels, side[1], self.relation)
        if self.training and distributed.world() > 1:
            distributed.check_sizes(embeddings)
        prepared = normalize(embeddings) if self.unit_length else widen(embeddings)
        return Columns(prepared, labels, self._name(len(labels), embeddings.device) if ids is None else ids)

    def _directed(self, anchors: Columns, columns: Columns, memory: CrossBatchMemory | None) -> Tensor:
        """The loss of anchors against columns, and the memory's step."""
        if self.proxies is not None:
            proxies = self.proxies.columns()
            weight = distributed.shared(proxies.embeddings) if self.training else proxies.embeddings
            weight = weight.to(anchors.embeddings.dtype)
            weight = normalize(weight) if self.unit_length else weight
            return self._value(anchors, [proxies._replace(embeddings=weight)])
        if self.training and distributed.world() > 1:
            columns = distributed.gather(columns)
        if memory is None or not self.training:
            return self._value(anchors, [columns])
        new = (columns.embeddings.detach(), columns.labels, columns.ids)
        if memory.when == "before":
            memory.enqueue(*new)
        loss = self._with_memory(anchors, columns, memory)
        if memory.when == "after":
            memory.enqueue(*new)
        return loss

    def _with_memory(self, anchors: Columns, columns: Columns, memory: CrossBatchMemory) -> Tensor:
        if not memory.warm or (memory.combine == "memory" and memory.empty):
            return self._value(anchors, [columns])
        held = memory.columns()
        held = held._replace(embeddings=held.embeddings.to(columns.embeddings.dtype))
        if memory.combine == "sum":
            return self._value(anchors, [columns]) + memory.weight * self._value(anchors, [held], changing=True)
        return self._value(anchors, [held] if memory.combine == "memory" else [columns, held], changing=True)

    def _value(self, anchors: Columns, parts: Sequence[Columns], *, changing: bool = False) -> Tensor:
        """The value; with `changing`, columns will have changed when the gradient is asked for."""
        ranks = distributed.world() if self.training else 1
        whole, own = self.whole, slice(None)
        if ranks > 1 and whole:
            # Not a sum over anchors: every rank computes the joined batch.
            own = distributed.own_rows(len(anchors.ids))
            anchors, ranks = distributed.gather(anchors), 1
        learned = self._learned(ranks)
        if self.reduction == "none":
            kept = [p._replace(embeddings=p.embeddings.clone()) for p in parts] if changing else parts
            return (losses.per_anchor(self.rectangle(anchors, kept, learned)) + _nothing(anchors, parts[0]))[own]
        block_rows = None if whole else self._rows_of_a_block(len(anchors.ids), sum(len(p.ids) for p in parts))
        if block_rows is None and ranks == 1 and not changing and self._compiled is None:
            return losses.value(self.rectangle(anchors, parts, learned)) + _nothing(anchors, parts[0]).sum()
        value = self._streamed(anchors, parts, learned, block_rows or max(len(anchors.ids), 1), ranks)
        return value + _nothing(anchors, parts[0]).sum()

    def _streamed(
        self, anchors: Columns, parts: Sequence[Columns], learned: Mapping[str, Tensor], block_rows: int, ranks: int
    ) -> Tensor:
        first, *rest = parts
        same = first.embeddings is anchors.embeddings
        names = list(learned)
        sums = self._compiled or self.rectangle.sums

        columns = beside(parts)
        if columns.valid is not None:
            columns = columns._replace(valid=columns.valid.to(torch.int64))
        held = [part.embeddings for part in rest]

        def block(rows: slice, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
            x, y, *options = inputs
            own = anchors._replace(embeddings=x)
            some = own if rows == slice(0, len(anchors.ids)) else own.rows(rows)
            first_part = x if same else y
            return sums(
                some, [first_part, *held], columns._replace(embeddings=first_part),
                dict(zip(names, options, strict=True)),
            )  # fmt: skip

        inputs = [anchors.embeddings, anchors.embeddings.detach() if same else first.embeddings]
        return stream(block, len(anchors.ids), block_rows, [*inputs, *learned.values()], ranks)

    def _rows_of_a_block(self, rows: int, columns: int) -> int | None:
        if self.block_rows is None:
            return None
        if self.block_rows != "auto":
            return int(self.block_rows)
        cells = BLOCK_CELLS if self._compiled is None else COMPILED_CELLS
        if rows * columns <= max(STREAM_ABOVE, cells):
            return None
        most = max(BLOCK_ROWS, cells // columns)
        # Blocks of equal size, as far as they can be.
        return math.ceil(rows / math.ceil(rows / most))

    def _learned(self, ranks: int) -> dict[str, Tensor]:
        found = {}
        for name, parameter in self.learned.items():
            positive = self.learn is not None and name == f"log_{self.learn}"
            if positive:
                with torch.no_grad():
                    parameter.clamp_(-math.log(LARGEST_SCALE), math.log(LARGEST_SCALE))
            value = distributed.shared(parameter) if ranks > 1 else parameter
            found[str(self.learn) if positive else name] = value.exp() if positive else value
        return found

    def _name(self, count: int, device: torch.device) -> Tensor:
        """Ids never used before; on several ranks, those that the joined batch would get."""
        ranks = distributed.world() if self.training else 1
        first = count * distributed.rank() if ranks > 1 else 0
        # A number of the CPU goes with cells of any device: a criterion without parameters need not be moved.
        ids = self.unnamed - first - torch.arange(count, device=device)
        self.unnamed -= count * ranks
        return ids

    def _start(self, option: str) -> Any:
        return self.options.get(option, options_of(self.loss)[option].default)

    def extra_repr(self) -> str:
        """The loss with its options, and what else is chosen; memory and proxies print themselves."""
        parts = [told(self.loss, self.options), f"similarity={getattr(self.similarity, '__name__', 'of your own')}"]
        if relation_of(self.relation) is not same_class:
            parts.append(f"relation={told(self.relation, {})}")
        parts.append(f"miner={None if self.miner is None else told(self.miner, {})}")
        if self.memory is None and self.proxies is None:
            parts.append("memory=None")
        parts += ["symmetric=True"] if self.symmetric else []
        parts += [f"learn={self.learn!r}"] if self.learn else []
        return ", ".join(parts)


def _nothing(anchors: Columns, columns: Columns) -> Tensor:
    """0 for each anchor, with a graph where the batch has no pair at all; NaN where it, or any column, holds one.

    The memory's columns need no look: it never takes a NaN.
    """
    own = (anchors.embeddings * 0.0).sum(1)
    same = columns.embeddings is anchors.embeddings
    return own if same else own + (columns.embeddings.detach() * 0.0).sum()


def _check_together(criterion: Criterion, loss: Any) -> None:
    if criterion.traits.proxies and criterion.proxies is None:
        raise UserError(f"loss {loss!r} compares with class proxies: give proxies=Proxies(classes, dim)")
    if criterion.proxies is not None and (criterion.memory is not None or criterion.symmetric):
        raise UserError("proxies are the only columns of a criterion: leave memory and symmetric out")
    per_class = getattr(criterion.proxies, "per_class", None)
    if criterion.options.get("centers", per_class) != per_class:
        raise UserError(
            f"centers={criterion.options['centers']}, but the proxies have per_class={per_class}: leave centers out"
        )
    if criterion.proxies is not None and relation_of(criterion.relation) in (same_ancestor, same_text):
        raise UserError("proxies are of single classes: take relation='same_class' or 'shared_label'")
    if criterion.reverse_memory is not None and not criterion.symmetric:
        raise UserError("reverse_memory is of the second direction: give symmetric=True")
