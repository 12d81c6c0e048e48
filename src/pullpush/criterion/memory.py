"""The cross-batch memory: embeddings of recent batches as extra columns."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from pullpush.bounds import Bound, Count, Dim, NonNegative, Whole, check, checked
from pullpush.criterion import distributed, drift
from pullpush.criterion.columns import Columns
from pullpush.criterion.drift import AGES, Drift, Moments
from pullpush.criterion.fill import drawn
from pullpush.criterion.given import Side, on_cpu
from pullpush.criterion.references import Term
from pullpush.errors import UserError
from pullpush.maths.choice import Choice
from pullpush.maths.similarity import normalize
from pullpush.modes import evaluating

__all__ = ["CrossBatchMemory"]

# A float from 0 to 1 is a share of the items.
Size = Annotated[int, Bound(1, 10**8)] | Annotated[float, Bound(0, 1e8, above=True)]
Layout = Literal["queue", "table"]
Combine = Literal["joint", "sum", "memory"]
Enqueue = Literal["after", "before"]
Compensate = Literal["moments", "mean", "none"]
Tolerance = Annotated[float, Bound(0, 100)]
Storage = Literal["float32", "float16", "bfloat16", "float64"]
STORAGE = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "float64": torch.float64}

# Items of a batch from which its moments are known well enough.
ENOUGH = 8
# Cells of ids that are compared at each step to find items that are held: a few milliseconds.
LOOKED_AT = 1 << 19


class CrossBatchMemory(nn.Module):
    r"""The most recent embeddings, without gradients.

    Embeddings drift slowly after the first steps, so those of recent batches serve as references at almost no cost.
    Wang et al., Cross-Batch Memory for Embedding Learning, CVPR 2020 (arXiv 1912.06798).

    Where they drift fast they do harm: all embeddings of a model in motion move together, so the loss can fall by
    moving away from where all were, which tells nothing apart. Two things keep the memory from it. `compensate` takes
    the common motion out: what is held of batch $t$ is read as $(e - \mu_t) \, \sigma / \sigma_t + \mu$, with the means
    and standard deviations, dimension by dimension, of batch $t$ and of the present one (after Ajanthan et al.,
    Adaptive Cross Batch Normalization for Metric Learning, 2023, arXiv 2303.17127). `tolerance` bounds what motion is
    left: the drift at age $a$,

    $$d(a) = \operatorname{E} |e_{now} - e_{held}|^2 \,/\, \operatorname{E} |e_i - e_j|^2$$

    is measured on the items of each batch that are held, after the compensation, as a share of the squared distance of
    any two items. From the youngest age on at which it is beyond the tolerance nothing is read: where embeddings move
    too fast the memory shuts, and it opens again as far as they stay where they were.

    A batch that holds a NaN or an infinity is never taken; on an accelerator that is decided there, without waiting.

    Everything that changes is in buffers: a saved and loaded memory goes on as if nothing had happened. All ranks of
    torch.distributed write the batches of all ranks, so their memories are equal.

    Args:
        size: places that are compared with; as a fraction (0.5), of `items`.
        dim: dimension of the embeddings.
        items: number of training items, whose ids are 0 ... items - 1, or the int64 tensor of their ids.
        layout: "queue" is first in, first out. "table" has one place an item, refreshed whenever the item is seen, of
            which the `size` most recent are compared with; it needs `items`, and ids with each batch.
        combine: "sum": L(batch, batch) + weight * L(batch, memory). "joint": one loss over the columns of batch and
            memory together, exactly that of a batch with these gradient-free columns added. "memory": L(batch, memory),
            and L(batch, batch) as long as the memory is empty.
        weight: of the memory's part in "sum".
        compensate: "moments" takes out the motion that all embeddings have in common, "mean" that of their mean alone;
            "none" reads what was written, as XBM does. A batch of fewer than 8 is taken to have the last one's.
        tolerance: largest drift of what is read, 0 to about 1 (nothing is left of where an item was); 0 reads all. It
            needs ids: without them no item is seen again, and all is read.
        start_step: batches until the memory is written and read: embeddings drift fast at first.
        enqueue: "after" the loss, or "before" it: then anchors meet their batch in the memory too, never themselves.
        storage: "float32", "bfloat16", "float16", "float64"; half precision halves the bytes.
        label_shape: of one label, for relations which take more than a number.

    Raises:
        UserError: a value that an option does not take, a fraction or a table without `items`.
    """

    embeddings: Tensor
    labels: Tensor
    ids: Tensor
    entered: Tensor
    cursor: Tensor
    step: Tensor
    known: Tensor | None
    mean: Tensor
    std: Tensor
    changed: Tensor
    seen: Tensor
    spread: Tensor

    @checked
    def __init__(
        self,
        size: Size,
        dim: Dim,
        *,
        items: int | Tensor | None = None,
        layout: Layout = "queue",
        combine: Combine = "sum",
        weight: NonNegative = 1.0,
        compensate: Compensate = "moments",
        tolerance: Tolerance = 1.0,
        start_step: Whole = 0,
        enqueue: Enqueue = "after",
        storage: Storage = "float32",
        label_shape: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        known: Tensor | None = None
        if isinstance(items, Tensor):
            known = torch.unique(items)
            items = len(known)
        if items is not None:
            items = int(check("items of CrossBatchMemory", items, Count))
        self.size = _places(size, items)
        if layout == "table":
            if items is None:
                raise UserError("a memory with layout 'table' has a place for each item: give items=")
            self.size = min(self.size, items)
        self.layout, self.combine, self.weight = layout, combine, weight
        self.compensate, self.tolerance = compensate, tolerance
        self.start_step, self.when = start_step, enqueue
        self.unit_length, self.named = False, True
        places = self.size if layout == "queue" else int(items or 0)
        self.register_buffer("embeddings", torch.zeros(places, dim, dtype=STORAGE[storage]))
        self.register_buffer("labels", torch.zeros(places, *label_shape, dtype=torch.int64))
        self.register_buffer("ids", torch.zeros(places, dtype=torch.int64))
        # The step at which a place was written; -1 where it holds nothing.
        self.register_buffer("entered", torch.full((places,), -1))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.int64))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("known", known if layout == "table" else None)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))
        # Of items seen again, see `Drift`.
        self.register_buffer("changed", torch.zeros(AGES))
        self.register_buffer("seen", torch.zeros(AGES, dtype=torch.int64))
        self.register_buffer("spread", torch.zeros(()))
        # `step`, and how many embeddings were written, as known without asking the device, which would wait for it.
        self._steps, self._written = 0, 0
        self.register_load_state_dict_post_hook(_loaded)  # type: ignore[no-untyped-call]

    @property
    def filled(self) -> Tensor:
        """Number of places that hold something."""
        return (self.entered >= 0).sum()

    @property
    def warm(self) -> bool:
        """Whether `start_step` is reached: from then on the memory is written and read."""
        return self._steps >= self.start_step

    @property
    def empty(self) -> bool:
        """Whether nothing was written yet; on an accelerator, whether no batch came."""
        return self._written == 0

    @property
    def limit(self) -> Tensor:
        """The largest age that is read, in batches: up to the youngest that is known to have drifted too far."""
        return drift.limit(self._drift, self.tolerance if self._limited else math.inf)

    def columns(self) -> Columns:
        """`size` references; places that hold nothing, or what is older than `limit`, are not valid."""
        place, entered = self._active()
        valid = (entered >= 0) & (self.step - entered <= self.limit)
        # Without a mask the loss is quicker. Which batches were taken, an accelerator alone knows.
        all_valid = self.layout == "queue" and on_cpu(entered) and bool(valid.all())
        rows = slice(None) if place is None else place
        held = self._read(self.embeddings[rows])
        return Columns(held, self.labels[rows], self.ids[rows], None if all_valid else valid)

    @property
    def _drift(self) -> Drift:
        return Drift(self.changed, self.seen, self.spread)

    @property
    def _limited(self) -> bool:
        """Whether old places are left out: without ids no item is known to be seen again."""
        return self.tolerance > 0 and self.named

    def _read(self, held: Tensor) -> Tensor:
        """What is held, as if it had moved as all have."""
        if self.compensate == "none":
            return held
        return drift.moved(held, Moments(self.mean, self.std), self.unit_length)

    def ages(self) -> Tensor:
        """Batches since each reference of `columns` was written, int64 [size]; -1 where it holds nothing."""
        entered = self._active()[1]
        return torch.where(entered >= 0, self.step - entered, -1)

    def fits(self, name: str, side: Side, relation: Choice[object]) -> None:
        """See `References`: `check`, and a table's need of ids."""
        if side.ids is None and self.layout == "table":
            raise UserError(f"a memory with layout 'table' finds places by ids: give the ids of the {name}")
        self.check(name, side.embeddings, side.labels)
        self.named = side.ids is not None

    def terms(self, batch: Columns, *, training: bool, unit_length: bool) -> Iterator[Term]:
        """The batch and, in training, what is held, as `combine` says; then, or before, the batch is written."""
        if not training:
            yield Term([batch])
            return
        batch = distributed.gather(batch)
        new = (self._note(batch.embeddings.detach()), batch.labels, batch.ids)
        self._look(new[0], batch.ids)
        if self.when == "before":
            self._enter(*new)
        if not self.warm or (self.combine == "memory" and self.empty):
            yield Term([batch])
        else:
            held = self.columns()
            held = held._replace(embeddings=held.embeddings.to(batch.embeddings.dtype))
            if self.combine == "sum":
                yield Term([batch])
            yield Term([batch, held] if self.combine == "joint" else [held], self.weight, changing=True)
        if self.when == "after":
            self._enter(*new)

    def check(self, name: str, embeddings: Tensor, labels: Tensor) -> None:
        """
        Args:
            name: of the embeddings, for the message.
            embeddings, labels: a batch that is to be compared with the memory, and to be written.

        Raises:
            UserError: they do not fit.
        """
        held, shape = self.embeddings, tuple(self.labels.shape[1:])
        if embeddings.shape[1:] != held.shape[1:]:
            raise UserError(
                f"{name} {list(embeddings.shape)} do not fit a memory with dim={held.shape[1]}: "
                f"give CrossBatchMemory(..., dim={embeddings.shape[-1]})"
            )
        if tuple(labels.shape[1:]) != shape:
            raise UserError(
                f"labels {list(labels.shape)} do not fit a memory with label_shape={shape}: "
                f"give CrossBatchMemory(..., label_shape={tuple(labels.shape[1:])})"
            )
        if labels.is_floating_point() or labels.is_complex():
            raise UserError(f"labels are {labels.dtype}, a memory keeps int64: give labels.long(), if they are whole")
        if held.device != embeddings.device:
            raise UserError(
                f"the memory is on {held.device}, {name} on {embeddings.device}: move the criterion or the memory, "
                f".to({str(embeddings.device)!r})"
            )

    @torch.no_grad()
    def _note(self, embeddings: Tensor) -> Tensor:
        """Notes the moments of a batch. Returns it as it is compared."""
        embeddings = normalize(embeddings) if self.unit_length else embeddings
        if len(embeddings) >= ENOUGH and self.compensate != "none":
            before = Moments(self.mean, self.std)
            now = drift.moments(embeddings.to(self.mean.dtype), before, only_mean=self.compensate == "mean")
            self.mean.copy_(now.mean)
            self.std.copy_(now.std)
        return embeddings

    @torch.no_grad()
    def _look(self, embeddings: Tensor, ids: Tensor) -> None:
        """Notes how far the items of a batch are from what is held of them; no device is waited for."""
        if not self._limited or self.empty or not len(ids):
            return
        x = embeddings.to(self.mean.dtype)
        few = max(1, LOOKED_AT // len(self.ids))
        same = (ids[:few, None] == self.ids) & (self.entered >= 0)
        entered, place = torch.where(same, self.entered, -1).max(1)
        change = (x[:few] - self._read(self.embeddings[place]).to(x.dtype)).square().sum(1)
        after = drift.update(self._drift, x, change, self.step - entered, entered >= 0)
        for held, come in zip(self._drift, after, strict=True):
            held.copy_(come)

    @torch.no_grad()
    def enqueue(self, embeddings: Tensor, labels: Tensor, ids: Tensor) -> None:
        """Writes a batch: over the oldest places of a queue, into the items' own places of a table.

        Of a batch larger than the queue the last embeddings stay. An empty batch changes nothing. Of one that is not
        finite, and during the first `start_step` batches, only the step is counted.

        Raises:
            UserError: ids that are none of a table's items; embeddings, labels or ids that do not fit.
        """
        self.check("embeddings", embeddings, labels)
        if not len(embeddings) == len(labels) == len(ids):
            raise UserError(
                f"{len(embeddings)} embeddings come with {len(labels)} labels and {len(ids)} ids: give as many of each"
            )
        self._enter(self._note(embeddings.detach()), labels, ids)

    @torch.no_grad()
    def fill(self, encoder: Callable[[Any], Tensor], loader: Iterable[Any], *, seed: int = 0) -> None:
        """Fills the memory with embeddings of the present model, in evaluation mode, whose mode is put back.

        Args:
            encoder: a batch of inputs to embeddings.
            loader: batches `(inputs, labels, ids)`. Of a DataLoader, `size` items of its data set are drawn; of
                a stream (`IterableDataset`) and anything else the first batches are taken.
            seed: of the draw.

        Raises:
            UserError: the encoder gives NaN or infinity; what `enqueue` refuses.
        """
        device, left = self.ids.device, self.size
        with evaluating(encoder):
            for inputs, labels, ids in drawn(loader, self.size, seed):
                embeddings = encoder(inputs.to(device) if isinstance(inputs, Tensor) else inputs)[:left]
                labels = labels.to(device)
                self.check("embeddings", embeddings, labels)
                if not embeddings.isfinite().all():
                    raise UserError(
                        "the encoder gives NaN or infinity, which no memory takes: see where training diverged"
                    )
                self._write(self._note(embeddings), labels[:left], ids.to(device)[:left])
                left -= len(embeddings)
                if left <= 0:
                    break

    @torch.no_grad()
    def keep_unit_length(self, wanted: bool = True) -> None:
        """Normalises what is held and what comes.

        A criterion whose similarity is the cosine asks for it, and need not normalise the whole memory at each step.
        """
        self.unit_length = wanted
        if wanted and self.compensate == "none":
            self.embeddings.copy_(normalize(self.embeddings))

    def _active(self) -> tuple[Tensor | None, Tensor]:
        if self.size == len(self.entered):
            return None, self.entered
        newest = self.entered.topk(self.size)
        return newest.indices, newest.values

    @torch.no_grad()
    def _enter(self, embeddings: Tensor, labels: Tensor, ids: Tensor) -> None:
        """A batch as `_note` gave it: written once the memory is warm, and counted unless it is empty."""
        if len(ids):
            if self.warm:
                self._write(embeddings, labels, ids)
            self.step += 1
            self._steps += 1

    def _write(self, embeddings: Tensor, labels: Tensor, ids: Tensor) -> None:
        embeddings = ((embeddings - self.mean) / self.std).to(self.embeddings.dtype)
        taken = embeddings.isfinite().all()
        if on_cpu(taken) and not taken:
            return
        if self.layout == "queue":
            embeddings, labels, ids = embeddings[-self.size :], labels[-self.size :], ids[-self.size :]
            place = (self.cursor + torch.arange(len(ids), device=self.ids.device)) % self.size
            self.cursor.copy_((self.cursor + len(ids) * taken) % self.size)
        else:
            place = self._place_of(ids)
            # An item twice in a batch: the last one is written by both, whatever the order of writing.
            last = (ids[:, None] == ids[None, :]).int().cumsum(1).argmax(1)
            embeddings, labels = embeddings[last], labels[last]
        new = ((self.embeddings, embeddings), (self.labels, labels), (self.ids, ids), (self.entered, self.step))
        for held, come in new:
            held[place] = torch.where(taken, come.to(held.dtype), held[place])
        self._written += len(ids)

    def _place_of(self, ids: Tensor) -> Tensor:
        places = len(self.ids)
        if self.known is None:
            place, right = ids, (ids >= 0) & (ids < places)
        else:
            place = torch.searchsorted(self.known, ids).clamp(max=places - 1)
            right = self.known[place] == ids
        # Asking an accelerator would wait for it; there the place out of bounds is its own error.
        if on_cpu(right) and not right.all():
            wrong = int(ids[~right][0])
            raise UserError(f"id {wrong} is none of the {places} items of the memory: give items= their ids")
        return torch.where(right, place, places)

    def extra_repr(self) -> str:
        """Places, how many of them are filled, and choices."""
        places, dim = self.embeddings.shape
        items = f"items={places}, " if self.layout == "table" else ""
        weight = f", weight={self.weight:g}" if self.combine == "sum" and self.weight != 1 else ""
        start = f", start_step={self.start_step}" if self.start_step else ""
        start += f", compensate={self.compensate!r}, tolerance={self.tolerance:g}"
        return (
            f"size={self.size}, {items}filled={int(self.filled)}, dim={dim}, "
            f"layout={self.layout!r}, combine={self.combine!r}{weight}{start}"
        )


def _places(size: int | float, items: int | None) -> int:
    if isinstance(size, int) or size > 1:
        places = int(size)
    elif items is None:
        raise UserError(f"memory size {size} is a fraction of the training items: give items= as well")
    else:
        places = round(size * items)
    if places < 1:
        raise UserError(f"memory size {size} gives no place: take at least 1, or leave the memory out")
    return places


def _loaded(memory: CrossBatchMemory, _: Any) -> None:
    memory._steps, memory._written = int(memory.step), int(memory.filled)
    memory.keep_unit_length(memory.unit_length)
