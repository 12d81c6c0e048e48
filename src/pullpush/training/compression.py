"""How the embeddings of a run are made smaller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pullpush.encoders.compression import Compression, Reduction

if TYPE_CHECKING:
    from pullpush.training.run import Run

__all__ = ["fit_compression"]


def fit_compression(run: Run, trained: Mapping[str, Tensor]) -> tuple[Compression, dict[str, Any]]:
    """Fitted on the embeddings of the training items, those of all towers together.

    Fewer dimensions are principal components; with `matryoshka` they are the first ones, where those find as much on
    the validation classes, as the mean over its dimensions of the metric by which weights are chosen.

    Returns:
        The compression; and for metrics.json its reduction, and what decided.
    """
    dims, task = run.config.matryoshka, run.task
    whole = Compression.fit(torch.cat(list(trained.values())).float().cpu().numpy(), "pca")
    if not dims:
        return whole, {"reduction": "pca", "validation": {}}
    if not len(task.splits["validation"]):
        return replace(whole, reduction="prefix"), {"reduction": "prefix", "validation": {}}
    embedded = {name: x.float().cpu().numpy() for name, x in task.embed("validation", run.fabric.device).items()}
    reductions: tuple[Reduction, ...] = ("prefix", "pca")
    kinds = [replace(whole, reduction=reduction) for reduction in reductions]

    def score(kind: Compression, dim: int) -> float:
        small = {name: torch.from_numpy(kind.reduce(x, dim)) for name, x in embedded.items()}
        return task.evaluate("validation", small).metrics[task.chosen_by]

    scores = {kind.reduction: {str(dim): score(kind, dim) for dim in dims} for kind in kinds}
    kept = max(kinds, key=lambda kind: sum(scores[kind.reduction].values()))
    return kept, {"reduction": kept.reduction, "validation": scores}
