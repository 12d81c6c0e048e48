"""A step of the loss study beside the same step with PML's loss: `study/step/LOSS/pml`, and with its miner too.

The head alone learns, on cached features, 32 classes x 4, as in `pullpush study`; only the criterion differs.
"""

from collections.abc import Callable
from typing import Any

import torch
from pytorch_metric_learning import distances, losses, miners
from torch import Tensor, nn

from benchmarks.measure import Work, compare, result
from pullpush import Criterion

CLASSES, SAMPLES, FEATURES, DIM, STEPS = 32, 4, 1280, 128, 20
REPEATS = 9


def run() -> list[dict[str, Any]]:
    """Milliseconds a step, for circle and triplet, over all pairs and with the miner multi_similarity."""
    peers: dict[str, Callable[[], nn.Module]] = {
        "circle": lambda: losses.CircleLoss(m=0.4, gamma=80),
        "triplet": lambda: losses.TripletMarginLoss(
            margin=0.4, distance=distances.LpDistance(power=2), triplets_per_anchor="all"
        ),
    }
    rows = []
    for name, peer in peers.items():
        for mined in (False, True):
            ours = Criterion(name, margin=0.4, miner="multi_similarity" if mined else None)
            other = _Peer(peer(), miners.MultiSimilarityMiner(epsilon=0.1) if mined else None)
            times = compare(_steps(ours), _steps(other), REPEATS)
            label = f"study/step/{name}{'-mined' if mined else ''}/pml"
            rows.append(result(label, *(1e3 * t / STEPS for t in times), "ms"))
    return rows


class _Peer(nn.Module):
    def __init__(self, loss: nn.Module, miner: nn.Module | None) -> None:
        super().__init__()
        self.loss, self.miner = loss, miner

    def forward(self, embeddings: Tensor, labels: Tensor, ids: Tensor) -> Tensor:
        pairs = self.miner(embeddings, labels) if self.miner else None
        found: Tensor = self.loss(embeddings, labels, pairs)
        return found


def _steps(criterion: nn.Module) -> Work:
    """STEPS steps: head, loss, backward, optimiser."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(CLASSES * SAMPLES, FEATURES, generator=generator)
    labels, ids = torch.arange(CLASSES).repeat_interleave(SAMPLES), torch.arange(len(features))
    torch.manual_seed(0)
    head = nn.Linear(FEATURES, DIM)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-6)

    def work() -> None:
        for _ in range(STEPS):
            embeddings = nn.functional.normalize(head(features), dim=-1)
            criterion(embeddings, labels, ids).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return work
