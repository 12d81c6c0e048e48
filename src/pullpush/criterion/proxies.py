"""Learned stand-ins of the classes."""

from collections.abc import Iterator
from typing import Annotated

import torch
from torch import Tensor, nn

from pullpush.bounds import Bound, Centers, Dim, Seed, checked
from pullpush.criterion import distributed
from pullpush.criterion.columns import Columns
from pullpush.criterion.given import Side
from pullpush.criterion.references import Term
from pullpush.errors import UserError
from pullpush.maths.choice import Choice, Loss
from pullpush.maths.relations import same_class, shared_label
from pullpush.maths.similarity import normalize

__all__ = ["Proxies", "with_proxies"]

Classes = Annotated[int, Bound(1, 10**8)]


class Proxies(nn.Module):
    """One or several learned vectors a class, as columns of the rectangle.

    Args:
        classes: number of training classes; labels are 0 ... classes - 1.
        dim: dimension of the embeddings.
        per_class: vectors a class; the proxies of class c are rows c * per_class ... (c + 1) * per_class - 1.
        seed: of the start, standard normal vectors of length 1.
    """

    ids: Tensor
    labels: Tensor

    @checked
    def __init__(self, classes: Classes, dim: Dim, *, per_class: Centers = 1, seed: Seed = 0) -> None:
        super().__init__()
        start = torch.randn(classes * per_class, dim, generator=torch.Generator().manual_seed(seed))
        self.weight = nn.Parameter(nn.functional.normalize(start, dim=-1))
        self.register_buffer("labels", torch.arange(classes).repeat_interleave(per_class))
        # Below every id that a Criterion gives out: a proxy is never an item.
        self.register_buffer("ids", torch.iinfo(torch.int64).min + torch.arange(classes * per_class))
        self.classes, self.per_class = classes, per_class

    def fits(self, name: str, side: Side, relation: Choice[object]) -> None:
        """
        Args:
            name: of the embeddings.
            side: of a batch.
            relation: that of the criterion.

        Raises:
            UserError: they do not fit. On a CUDA device a label without a proxy is an assertion of the device instead,
                since asking it would hold up the step.
        """
        embeddings, labels = side.embeddings, side.labels
        if side.named:
            raise UserError(
                "proxies belong to classes 0 ... n - 1, these labels are names: number them, the same in every batch, "
                "such as by sorted(set(names)).index(name) over the training set"
            )
        if embeddings.shape[1:] != self.weight.shape[1:]:
            raise UserError(
                f"embeddings {list(embeddings.shape)} do not fit proxies with dim={self.weight.shape[1]}: "
                f"give Proxies(classes, dim={embeddings.shape[-1]})"
            )
        if embeddings.device != self.weight.device:
            raise UserError(
                f"the proxies are on {self.weight.device}, the embeddings on {embeddings.device}: "
                f"move the criterion, .to({str(embeddings.device)!r})"
            )
        classes = self.classes
        if relation.made_by(shared_label) and labels.shape[1:] != (classes,):
            raise UserError(f"labels {list(labels.shape)} do not fit proxies of {classes} classes: give [n, {classes}]")
        if relation.made_by(same_class) and labels.ndim == 1:
            cure = f"labels must be 0 ... {classes - 1}, there are proxies of {classes} classes: number these from 0"
            if labels.is_cuda:
                torch._assert_async(((labels >= 0) & (labels < classes)).all(), cure)
            elif len(labels) and (labels.amin() < 0 or labels.amax() >= classes):
                strange = int(labels[(labels < 0) | (labels >= classes)][0])
                raise UserError(f"label {strange} has no proxy: {cure}, or give Proxies(more, dim)")

    def extra_repr(self) -> str:
        """Sizes."""
        return f"classes={self.classes}, dim={self.weight.shape[1]}, per_class={self.per_class}"

    def terms(self, batch: Columns, *, training: bool, unit_length: bool) -> Iterator[Term]:
        """All proxies, which every rank has: the only columns."""
        weight = distributed.shared(self.weight) if training else self.weight
        weight = weight.to(batch.embeddings.dtype)
        yield Term([Columns(normalize(weight) if unit_length else weight, self.labels, self.ids)])


def with_proxies(loss: Loss, proxies: Proxies | None) -> Loss:
    """The loss, with as many centers a class as there are proxies of it.

    Raises:
        UserError: it wants proxies and there are none; it is given another number of centers.
    """
    if proxies is None:
        if loss.traits.proxies:
            raise UserError(f"loss {loss.name!r} compares with class proxies: give proxies=Proxies(classes, dim)")
        return loss
    if loss.given.get("centers", proxies.per_class) != proxies.per_class:
        raise UserError(
            f"centers={loss.given['centers']}, but the proxies have per_class={proxies.per_class}: leave centers out"
        )
    return loss.replace(centers=proxies.per_class) if "centers" in loss.options else loss
