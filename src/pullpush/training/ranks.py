"""The processes of a run as one: what the first of them embeds, all embed together."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import Tensor

from pullpush.encoders import View

if TYPE_CHECKING:
    from pullpush.training.run import Run
    from pullpush.training.task import Task

__all__ = ["Asked", "Ranks", "together"]

Result = TypeVar("Result")


class Asked(NamedTuple):
    """What is to be embedded.

    Attributes:
        tower: its number.
        split: all entries of it.
        views: embeddings in each of them [n, views, dim], instead of the plain ones [n, dim].
    """

    tower: int
    split: str
    views: tuple[View, ...] = ()


class Ranks:
    """The processes of a run, each of which embeds its share of what the first one asks for.

    Args:
        fabric: of the run.
        task: the same on each of them, but for what is learned: that is the first one's, and becomes that of all.
    """

    def __init__(self, fabric: Fabric, task: Task) -> None:
        self.fabric, self.task = fabric, task

    def embed(self, asked: Asked) -> Tensor:
        """What is asked for, on the CPU, in the order of its entries: of the first rank, while the others `help`."""
        self.fabric.broadcast(asked)
        return torch.cat(self._shares(asked))

    def help(self) -> None:
        """Embeds a share of all that is asked for, until `end`."""
        while (asked := self.fabric.broadcast(None)) is not None:
            self._shares(asked)
        self._agree()

    def end(self) -> None:
        """Lets the others go on."""
        self.fabric.broadcast(None)
        self._agree()

    def _shares(self, asked: Asked) -> list[Tensor]:
        """Embeds the own share, and gives those of all on the first rank, nothing on the others."""
        self._agree()
        world, rank, device = self.fabric.world_size, self.fabric.global_rank, self.fabric.device
        places = torch.arange(self.task.count(asked)).tensor_split(world)
        own = self.task.part(asked, places[rank], device)
        padded = torch.zeros(len(places[0]), *own.shape[1:], device=device)  # the first share is the largest
        padded[: len(own)] = own.to(device)
        shares = [torch.empty_like(padded) for _ in places] if rank == 0 else []
        dist.gather(padded, shares or None)
        return [share[: len(each)].cpu() for share, each in zip(shares, places, strict=False)]

    @torch.no_grad()
    def _agree(self) -> None:
        """The weights of the first rank, on all."""
        for encoder in self.task.encoders:
            for tensor in (*encoder.parameters(), *encoder.buffers()):
                sent = tensor.detach().contiguous()  # of images, the channels are last
                dist.broadcast(sent, 0)
                tensor.copy_(sent)


def together(run: Run, work: Callable[[], Result]) -> Result:
    """What `work` gives on the first rank, on all. What it embeds by the task, they embed together.

    Raises:
        Exception: what `work` raises there, on all.
    """
    fabric, task = run.fabric, run.task
    if fabric.world_size == 1:
        return work()
    ranks, wrong = Ranks(fabric, task), None
    result: Result | None = None
    if fabric.is_global_zero:
        task.ranks = ranks
        try:
            result = work()
        except Exception as error:
            wrong = error
        finally:
            task.ranks = None
        ranks.end()
    else:
        ranks.help()
    result, wrong = fabric.broadcast((result, wrong))
    if wrong is not None:
        raise wrong
    return result  # type: ignore[return-value]
