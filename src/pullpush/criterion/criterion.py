"""The one module around the pure functions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pullpush.bounds import Count, checked
from pullpush.criterion import distributed
from pullpush.criterion.columns import Columns
from pullpush.criterion.comparison import Comparison
from pullpush.criterion.execution import Execution
from pullpush.criterion.given import Labels, check_sides, given
from pullpush.criterion.learned import LearnedOptions
from pullpush.criterion.matryoshka import prefixes_of, shortened
from pullpush.criterion.memory import CrossBatchMemory
from pullpush.criterion.proxies import Proxies, with_proxies
from pullpush.criterion.references import Batch, References
from pullpush.errors import UserError
from pullpush.maths import losses, miners, relations
from pullpush.maths.choice import Loss, Miner, chosen
from pullpush.maths.pairs import Pairs
from pullpush.maths.rectangle import AnchorLoss, Rectangle
from pullpush.maths.reduce import widen
from pullpush.maths.relations import same_ancestor, same_class, same_text
from pullpush.maths.similarity import SIMILARITIES, normalize
from pullpush.names import look_up
from pullpush.notebook import table

__all__ = ["Criterion"]


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
        matryoshka: dimensions of prefixes of the embeddings, such as (64, 32), to whose loss as well the encoder is
            trained: the loss is the sum of that of the whole embeddings and those of each prefix at the length of the
            whole, of which memory and proxies hold no second copy. A mapping gives each prefix a weight, which is 1
            else. Kusupati et al., Matryoshka Representation Learning, NeurIPS 2022 (arXiv 2205.13147), equation 1.
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
        loss: str | Loss | Callable[..., Loss] | Callable[[Rectangle], AnchorLoss] = "multi_similarity",
        *,
        similarity: str | Callable[[Tensor, Tensor], Tensor] | None = None,
        relation: Any = "same_class",
        miner: str | Miner | Callable[..., Miner] | Callable[[Rectangle], Pairs] | Mapping[str, Any] | None = None,
        memory: CrossBatchMemory | None = None,
        proxies: Proxies | None = None,
        symmetric: bool = False,
        reverse_memory: CrossBatchMemory | None = None,
        learn: str | None = None,
        matryoshka: Sequence[int] | Mapping[int, float] = (),
        block_rows: Literal["auto"] | Count | None = "auto",
        compile: bool = False,
        reduction: Literal["mean", "none"] = "mean",
        **options: Any,
    ) -> None:
        super().__init__()
        self.loss = with_proxies(chosen("loss", loss, losses.REGISTRY, options), proxies)
        similarity = similarity or self.loss.traits.similarity
        self.similarity = look_up("similarity", similarity, SIMILARITIES) if isinstance(similarity, str) else similarity
        self.relation = chosen("relation", relation, relations.REGISTRY)
        self.miner = None if miner is None else chosen("miner", miner, miners.REGISTRY)
        self.memory, self.reverse_memory, self.proxies = memory, reverse_memory, proxies
        self.symmetric, self.matryoshka = symmetric, prefixes_of(matryoshka)
        self.learned = LearnedOptions(self.loss, learn)
        self.comparison = Comparison(self.similarity, self.relation, self.miner, self.loss)
        self.execution = Execution(self.comparison, block_rows, compile, reduction)
        _check_together(self)
        for held in (memory, reverse_memory):
            if held is not None and self.comparison.unit_length:
                held.keep_unit_length()
        # Ids for embeddings that come without: each its own item, never used again.
        self.register_buffer("unnamed", torch.tensor(-1, dtype=torch.int64))

    @property
    def whole(self) -> bool:
        """Whether the loss or the miner needs all anchors at once.

        Then there are no blocks of rows, and every rank computes the joined batch.
        """
        return self.comparison.whole

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
        forth: References = self.proxies or self.memory or Batch()
        back: References = self.proxies or self.reverse_memory or Batch()
        if not check_sides(side, other):
            if self.symmetric:
                raise UserError("symmetric=True compares embeddings with references: give references")
            anchors = self._side("embeddings", side, forth)
            return self._directed(anchors, anchors, forth)
        anchors, others = self._side("embeddings", side, back), self._side("references", other, forth)
        wider = torch.promote_types(anchors.embeddings.dtype, others.embeddings.dtype)
        anchors, others = (x._replace(embeddings=x.embeddings.to(wider)) for x in (anchors, others))
        loss = self._directed(anchors, others, forth)
        return (loss + self._directed(others, anchors, back)) / 2 if self.symmetric else loss

    def _side(self, name: str, side: tuple[Any, Any, Any], references: References) -> Columns:
        taken = given(name, *side, self.relation)
        longest, dim = max(self.matryoshka, default=0), taken.embeddings.shape[1]
        if longest >= dim:
            raise UserError(f"matryoshka={list(self.matryoshka)}, but {name} have {dim} dimensions: give fewer")
        references.fits(name, taken, self.relation)
        if self.training:
            distributed.check_sizes(taken.embeddings)
        prepared = normalize(taken.embeddings) if self.comparison.unit_length else widen(taken.embeddings)
        ids = self._name(len(taken.labels), prepared.device) if taken.ids is None else taken.ids
        return Columns(prepared, taken.labels, ids)

    def _directed(self, anchors: Columns, batch: Columns, references: References) -> Tensor:
        """The loss of anchors against references, and what these do after the step."""
        total: Tensor | None = None
        unit_length = self.comparison.unit_length
        for term in references.terms(batch, training=self.training, unit_length=unit_length):
            loss = self._of_columns(anchors, term.parts, term.changing)
            for dim, weight in self.matryoshka.items():
                short = shortened(anchors, term.parts, dim, unit_length)
                loss = loss + weight * self._of_columns(*short, term.changing)
            total = loss if total is None else total + term.weight * loss
        assert total is not None
        return total

    def _of_columns(self, anchors: Columns, parts: Sequence[Columns], changing: bool) -> Tensor:
        return self.execution(anchors, parts, self.learned, ranks=self._ranks, changing=changing)

    @property
    def _ranks(self) -> int:
        return distributed.world() if self.training else 1

    def _name(self, count: int, device: torch.device) -> Tensor:
        """Ids never used before; on several ranks, those that the joined batch would get."""
        first = count * distributed.rank() if self._ranks > 1 else 0
        # A number of the CPU goes with cells of any device: a criterion without parameters need not be moved.
        ids = self.unnamed - first - torch.arange(count, device=device)
        self.unnamed -= count * self._ranks
        return ids

    def _repr_html_(self) -> str:
        """What it compares and how, a row a part."""
        parts = {"loss": repr(self.loss), "similarity": getattr(self.similarity, "__name__", "of your own")}
        parts |= {"relation": repr(self.relation), "miner": repr(self.miner)}
        parts |= {name: repr(each) for name in ("memory", "proxies") if (each := getattr(self, name)) is not None}
        return table([{"": name, "Criterion": what} for name, what in parts.items()])

    def __repr__(self) -> str:
        """As of any module, without a part that holds nothing."""
        return super().__repr__().replace("\n  (learned): LearnedOptions()", "")

    def extra_repr(self) -> str:
        """The loss with its options, and what else is chosen; memory and proxies print themselves."""
        parts = [repr(self.loss), f"similarity={getattr(self.similarity, '__name__', 'of your own')}"]
        parts += [] if self.relation.made_by(same_class) else [f"relation={self.relation!r}"]
        parts.append(f"miner={self.miner!r}")
        if self.memory is None and self.proxies is None:
            parts.append("memory=None")
        parts += ["symmetric=True"] if self.symmetric else []
        parts += [f"learn={self.learned.learn!r}"] if self.learned.learn else []
        parts += [f"matryoshka={self.matryoshka}"] if self.matryoshka else []
        return ", ".join(parts)


def _check_together(criterion: Criterion) -> None:
    if criterion.proxies is not None and (criterion.memory is not None or criterion.symmetric):
        raise UserError("proxies are the only columns of a criterion: leave memory and symmetric out")
    if criterion.proxies is not None and criterion.relation.made_by(same_ancestor, same_text):
        raise UserError("proxies are of single classes: take relation='same_class' or 'shared_label'")
    if criterion.reverse_memory is not None and not criterion.symmetric:
        raise UserError("reverse_memory is of the second direction: give symmetric=True")
    if criterion.reverse_memory is not None and criterion.reverse_memory is criterion.memory:
        raise UserError("memory and reverse_memory are one, which each direction would write: give each its own")
