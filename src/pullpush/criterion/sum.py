"""Sums of criteria."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from pullpush.criterion.memory import CrossBatchMemory
from pullpush.errors import UserError

__all__ = ["Sum"]


class Sum(nn.Module):
    r"""$\sum_k w_k L_k$, called like a criterion.

        criterion = Sum([Criterion("triplet"), Regularizer("embedding_norm")], weights=[1.0, 0.01])

    Args:
        criteria: criteria and regularisers. Each has its own memory and proxies.
        weights: one for each; 1 by default.

    Raises:
        UserError: numbers of criteria and weights differ, or a memory is in two of the criteria.
    """

    def __init__(self, criteria: Sequence[nn.Module], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.weights = [1.0] * len(criteria) if weights is None else [float(w) for w in weights]
        if not criteria or len(self.weights) != len(criteria):
            raise UserError(f"{len(criteria)} criteria with {len(self.weights)} weights: give one weight for each")
        memories = [m for c in criteria for m in c.modules() if isinstance(m, CrossBatchMemory)]
        if len(set(memories)) < len(memories):
            raise UserError("two criteria of a sum share a memory, which each would write: give each its own")
        self.criteria = nn.ModuleList(criteria)

    def forward(self, embeddings: Tensor, labels: Tensor, ids: Tensor | None = None, **references: Any) -> Tensor:
        """The weighted sum; arguments as of `Criterion`."""
        parts: list[Tensor] = [
            weight * criterion(embeddings, labels, ids, **references)
            for weight, criterion in zip(self.weights, self.criteria, strict=True)
        ]
        return sum(parts[1:], parts[0])

    def extra_repr(self) -> str:
        """The weights."""
        return f"weights={self.weights}"
