"""What the monitor looks at: the last batch of the criterion, and the last update of the optimiser."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pullpush.criterion import Criterion, distributed
from pullpush.doctor.measures import Measures, measure_cells, measure_duplicates, measure_sides
from pullpush.doctor.objective import Objective
from pullpush.maths import health
from pullpush.maths.pairs import Pairs, make_pairs
from pullpush.maths.rectangle import Rectangle
from pullpush.maths.similarity import normalize
from pullpush.signatures import of

__all__ = ["LastBatch", "learned_options", "measure_batch", "measure_updates"]

# Items both in the batch and in the memory, from which on their drift says something.
FEW_SAME = 8


class LastBatch:
    """Keeps what the criterion was last called with in training: embeddings that are there anyway, labels, ids.

    Args:
        criterion: of the run.
        done: calls that were made before.
        every: of each so many calls, the memory is compared with the batch before the batch is written over it.
    """

    def __init__(self, criterion: Criterion, done: int, every: int) -> None:
        self.criterion, self.calls, self.every = criterion, done, every
        self.given: dict[str, Tensor] = {}
        self.memory = Measures()
        self._names = list(of(criterion.forward).options)
        criterion.register_forward_pre_hook(self._keep, with_kwargs=True)

    def _keep(self, criterion: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        if not criterion.training:
            return
        self.calls += 1
        inputs = dict(zip(self._names, args, strict=False)) | named
        self.given = {k: v.detach() for k, v in inputs.items() if isinstance(v, Tensor)}
        self.memory = _measure_memory(self.criterion, self.given) if self.calls % self.every == 0 else Measures()


@torch.no_grad()
def measure_batch(batch: LastBatch, objective: Objective) -> Measures:
    """Of the last batch, without any further forward pass of the encoder."""
    criterion, inputs = batch.criterion, batch.given
    x, labels = inputs["embeddings"].float(), inputs["labels"]
    ids = inputs.get("ids", torch.arange(len(x), device=x.device))
    y, other, others = x, labels, ids
    two = "references" in inputs
    if two:
        y, other = inputs["references"].float(), inputs["reference_labels"]
        others = inputs.get("reference_ids", -1 - torch.arange(len(y), device=x.device))
    measures = measure_sides({"image": x, "text": y} if two else {"embeddings": x})
    if not (x.isfinite().all() and y.isfinite().all()):
        return measures
    s = criterion.similarity(*((normalize(v) for v in (x, y)) if criterion.comparison.unit_length else (x, y)))
    pairs = make_pairs(labels, ids, other, others, criterion.relation)
    mined = _mined(criterion, s, pairs, x, two)
    measures |= measure_cells(s, pairs, objective, mined=mined, itself=not two)
    sides = [(x, labels, ids), (y, other, others)] if two else [(x, labels, ids)]
    measures |= measure_duplicates(sides, criterion.relation)
    if criterion.proxies is not None or criterion.memory is not None or distributed.world() > 1:
        # The loss has other columns than these.
        for name in ("with_positive", "mined", "floor", "chance", "active_triplets"):
            measures.pop(name, None)
    measures |= batch.memory
    return measures


def learned_options(criterion: Criterion, objective: Objective) -> Objective:
    """The objective with the present values of what is learned."""
    if criterion.learned.learn is None:
        return objective
    value = float(criterion.learned[f"log_{criterion.learned.learn}"].detach().exp())
    return replace(objective, learned={criterion.learned.learn: value})


@torch.no_grad()
def measure_updates(optimizer: Any) -> Measures:
    r"""The last step of Adam as a share of the weights, $\max_g |\Delta w_g| / |w_g|$ over parameter groups, and the
    length of each group's weights.

    Computed from the optimiser's state, $\Delta w = \eta \hat m / (\sqrt{\hat v} + \epsilon)$, so that no copy of the
    weights is kept; vectors (biases, norms), which start at zero, are left out.
    """
    ratios, measures = [], Measures()
    for place, group in enumerate(optimizer.param_groups):
        weights = [p for p in group["params"] if p.ndim > 1 and "exp_avg" in optimizer.state.get(p, {})]
        if not weights:
            continue
        squares = torch.zeros(2, dtype=torch.float64, device=weights[0].device)
        (one, two), eps = group["betas"], group["eps"]
        for p in weights:
            state = optimizer.state[p]
            t = float(state["step"])
            m, v = state["exp_avg"] / (1 - one**t), state["exp_avg_sq"] / (1 - two**t)
            squares += torch.stack([(m / (v.sqrt() + eps)).square().sum(), p.square().sum()]).double()
        moved, length = squares.sqrt().tolist()
        ratios.append(group["lr"] * moved / max(length, 1e-12))
        measures[f"weight_norm/{group.get('name', place)}"] = length
    measures["update_ratio"] = max(ratios, default=math.nan)
    return measures


def _mined(criterion: Criterion, similarity: Tensor, pairs: Pairs, x: Tensor, two: bool) -> Pairs | None:
    if criterion.miner is None or (two and criterion.miner.traits.wants_references):
        return None
    among, name = None if two else similarity, criterion.comparison.similarity_name
    mined: Pairs = criterion.miner(Rectangle(similarity, pairs, among, name, x.shape[1]))
    return mined


@torch.no_grad()
def _measure_memory(criterion: Criterion, inputs: dict[str, Tensor]) -> Measures:
    """What is read of the memory, and how far the batch's items are from those embeddings of them that are read."""
    memory = criterion.memory
    name = "reference_ids" if "references" in inputs else "ids"
    if memory is None or name not in inputs or memory.empty:
        return Measures()
    held, ages = memory.columns(), memory.ages()
    read = ages > 0 if held.valid is None else held.valid
    measures = Measures(memory_open=float(read.sum() / (ages > 0).sum()))
    rows, places = ((inputs[name][:, None] == held.ids[None, :]) & read).nonzero(as_tuple=True)
    if len(rows) < FEW_SAME:
        return measures
    now = inputs["references" if "references" in inputs else "embeddings"][rows]
    age = ages[places].double()
    drift = health.drift(now, held.embeddings[places].float())
    measures.update(memory_drift=drift, memory_age=float(age.mean()), memory_oldest=float(ages.max()))
    return measures
