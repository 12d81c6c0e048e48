"""Regularisers, called like a criterion."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pullpush.criterion import distributed
from pullpush.criterion.columns import Columns
from pullpush.criterion.given import Labels, check_sides, given
from pullpush.maths import regularizers, relations
from pullpush.maths.choice import Choice, chosen
from pullpush.maths.pairs import make_pairs
from pullpush.maths.rectangle import AnchorLoss, value

__all__ = ["Regularizer"]


class Regularizer(nn.Module):
    """A penalty on the embeddings themselves, alone or in a `Sum`.

        views = Regularizer("vicreg")
        loss = views(first, labels, references=second, reference_labels=labels)

    Args:
        penalty: `regularizers.vicreg(...)`, a name, or any function of that form.
        relation: as of `Criterion`.
        options: of the regulariser.

    Raises:
        UserError: an unknown name or option.
    """

    def __init__(
        self,
        penalty: str | Choice[AnchorLoss] | Callable[..., Any],
        *,
        relation: Any = "same_class",
        **options: Any,
    ) -> None:
        super().__init__()
        self.penalty: Choice[AnchorLoss] = chosen("regularizer", penalty, regularizers.REGISTRY, options)
        self.relation = chosen("relation", relation, relations.REGISTRY)

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
        """The penalty, over the joined batch of all ranks in training mode; arguments and errors as of `Criterion`."""
        side, other = (embeddings, labels, ids), (references, reference_labels, reference_ids)
        two = check_sides(side, other)
        anchors = self._side("embeddings", side, 0)
        columns = self._side("references", other, 1 << 62) if two else anchors
        pairs = make_pairs(anchors.labels, anchors.ids, columns.labels, columns.ids, self.relation)
        return value(self.penalty(anchors.embeddings, columns.embeddings, pairs))

    def _side(self, name: str, side: tuple[Any, Any, Any], first: int) -> Columns:
        embeddings, labels, ids, _ = given(name, *side, self.relation)
        columns = Columns(embeddings, labels, torch.full((len(embeddings),), -1, device=embeddings.device))
        if ids is not None:
            columns = columns._replace(ids=ids)
        if self.training:
            columns = distributed.gather(columns)
        if ids is None:
            columns = columns._replace(ids=first + torch.arange(len(columns.ids), device=columns.ids.device))
        return columns

    def extra_repr(self) -> str:
        """The regulariser with its options."""
        return repr(self.penalty)
