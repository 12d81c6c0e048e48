"""Rectangles to try losses on, in float64: batches of many shapes, and the columns that each loss expects."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pullpush.maths.choice import Loss
from pullpush.maths.pairs import Pairs, equal, make_pairs
from pullpush.maths.rectangle import AnchorLoss
from pullpush.maths.rectangle import Rectangle as Handed
from pullpush.maths.rectangle import value as value_of
from pullpush.maths.relations import shared_label
from pullpush.maths.similarity import SIMILARITIES

KINDS = ("square", "wide", "unbalanced", "multi_label", "duplicates", "ragged", "other_modality", "no_pair_at_all")


@dataclass(frozen=True)
class Rectangle:
    """Similarities and pairs of anchors with references, and similarities of references with each other."""

    similarity: Tensor
    pairs: Pairs
    reference_similarity: Tensor

    def rows(self, keep: slice) -> "Rectangle":
        return replace(self, similarity=self.similarity[keep], pairs=Pairs(*(m[keep] for m in self.pairs)))

    def permuted(self, rows: Tensor, columns: Tensor) -> "Rectangle":
        def both(x: Tensor) -> Tensor:
            return x[rows][:, columns]

        def square(x: Tensor) -> Tensor:
            return x[columns][:, columns]

        return Rectangle(
            both(self.similarity),
            Pairs(*map(both, self.pairs)),
            square(self.reference_similarity),
        )

    def to(self, dtype: torch.dtype) -> "Rectangle":
        return replace(
            self, similarity=self.similarity.to(dtype), reference_similarity=self.reference_similarity.to(dtype)
        )


@dataclass(frozen=True)
class Case:
    """A loss with options, which may be beyond what a person is let choose."""

    name: str
    loss: Any
    options: dict[str, Any]

    @property
    def chosen(self) -> Loss:
        """With its defaults."""
        return self.loss()

    @property
    def whole(self) -> bool:
        """Whether it needs all anchors at once."""
        return self.loss(**self.options).whole

    @property
    def group(self) -> int:
        """Proxies a class."""
        return int(self.options.get("centers", self.chosen.options.get("centers", 1)))

    @property
    def wants_references(self) -> bool:
        return bool(self.chosen.traits.wants_references)

    def learned(self) -> dict[str, float]:
        """Starting points of the options that are learned."""
        known = self.chosen.options | self.options
        return {k: float(known[k]) for k in self.chosen.traits.learned}

    def rectangle(self, kind: str, seed: int = 0, anchors: int = 6) -> Rectangle:
        traits = self.chosen.traits
        return make(kind, seed, anchors, traits.similarity, self.group if traits.proxies else 0)

    def __call__(self, r: Rectangle, **changed: Any) -> AnchorLoss:
        return self.chosen(self.handed(r), **{**self.options, **changed})

    def handed(self, r: Rectangle) -> Handed:
        """What the loss is called with."""
        return Handed(r.similarity, r.pairs, r.reference_similarity if self.wants_references else None)

    def value(self, r: Rectangle, **changed: Any) -> Tensor:
        return value_of(self(r, **changed))

    def gradients(self, r: Rectangle) -> list[Tensor]:
        """Of the value: in the similarity, in the references' own similarity, in what is learned."""
        return self.value_and_gradients(r)[1]

    def value_and_gradients(self, r: Rectangle) -> tuple[Tensor, list[Tensor]]:
        """The value and its `gradients`."""
        r = replace(
            r,
            similarity=r.similarity.clone().requires_grad_(),
            reference_similarity=r.reference_similarity.clone().requires_grad_(),
        )
        learned = {k: torch.tensor(v, dtype=r.similarity.dtype, requires_grad=True) for k, v in self.learned().items()}
        inputs = [r.similarity, r.reference_similarity, *learned.values()]
        value = self.value(r, **learned)
        found = torch.autograd.grad(value, inputs, allow_unused=True)
        return value, [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True)]


def make(kind: str, seed: int, anchors: int, similarity: str, group: int) -> Rectangle:
    """A rectangle.

    Args:
        kind: one of KINDS.
        seed: of everything random.
        anchors: rows.
        similarity: name of the measure.
        group: 0 for columns that are the batch itself (and more); else proxies, so many a class.
    """
    g = torch.Generator().manual_seed(seed)
    classes, dim = max(3, anchors // 4), 5

    def points(n: int) -> Tensor:
        return torch.randn(n, dim, generator=g, dtype=torch.float64)

    def labels_of(n: int) -> Tensor:
        labels = torch.randint(classes, (n,), generator=g)
        if kind == "unbalanced":
            labels = torch.where(torch.arange(n) < (3 * n + 3) // 4, 0, labels)
        if kind == "multi_label":
            labels = torch.nn.functional.one_hot(labels, classes)
            labels = (labels + (torch.rand(labels.shape, generator=g) < 0.2)).clamp(max=1)
        return labels

    x, labels, ids = points(anchors), labels_of(anchors), torch.arange(anchors)
    if kind == "duplicates":
        x = x[torch.arange(anchors) // 2]
    if group:
        y, own = points(classes * group), torch.arange(classes).repeat_interleave(group)
        reference_labels = torch.nn.functional.one_hot(own, classes) if kind == "multi_label" else own
        reference_ids = -1 - torch.arange(len(y))
    elif kind == "wide":
        y, reference_labels = torch.cat([x, points(4)]), torch.cat([labels, labels_of(4)])
        reference_ids = torch.arange(len(y))
    elif kind == "other_modality":
        y, reference_labels, reference_ids = (
            points(anchors + 1),
            labels_of(anchors + 1),
            1000 + torch.arange(anchors + 1),
        )
    else:
        y, reference_labels, reference_ids = x, labels, ids
    relation = shared_label() if kind == "multi_label" else equal
    pairs = make_pairs(labels, ids, reference_labels, reference_ids, relation)
    if kind == "no_pair_at_all":
        pairs = Pairs(*(torch.zeros_like(m) for m in pairs))
    if kind == "ragged":  # as a miner leaves it, with rows that lack one side or both
        kept = [m & (torch.rand(m.shape, generator=g) < 0.7) for m in pairs]
        row = torch.arange(anchors)[:, None] % 4
        pairs = Pairs(kept[0] & (row != 1) & (row != 3), kept[1] & (row != 2) & (row != 3))
    measure = SIMILARITIES[similarity]
    return Rectangle(measure(x, y), pairs, measure(y, y))
