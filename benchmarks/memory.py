"""The cross-batch memory: a batch of 64 against 65,536 columns, compiled, and a large one within bounds.

The peer is the memory of PyTorch Metric Learning; `bare` is the two matrix products that nobody can do without: the
similarities forward and the gradient back. These are of the exact memory, which is nothing but columns, as PML's is;
`default` is that one against the memory as it comes, which also takes the common motion out and measures drift.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.loss import DIM, PEERS, batch
from benchmarks.measure import compare, peak_bytes, result, seconds
from pullpush.criterion import Criterion, CrossBatchMemory

ROWS, PLACES, CLASSES = 64, 65_536, 11_318
LARGE_ROWS, LARGE_PLACES, BOUND = 1024, 1_000_000, 2e9
NAMES = ("contrastive", "multi_similarity", "circle", "sup_con", "triplet")

EXACT = {"combine": "joint", "compensate": "none", "tolerance": 0}


def content(places: int) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    x = torch.nn.functional.normalize(torch.randn(places, DIM, generator=g))
    return x, torch.randint(CLASSES, (places,), generator=g), torch.arange(places)


def ours(name: str, places: int = PLACES, *, compile: bool = True, **options: Any) -> Criterion:
    criterion = Criterion(name, memory=CrossBatchMemory(places, DIM, **options), compile=compile)
    assert criterion.memory is not None
    criterion.memory.enqueue(*content(places))
    return criterion


def step(loss: Callable[..., Tensor], rows: int = ROWS, *ids: Tensor) -> Callable[[], None]:
    x, labels = batch(rows, 4)
    leaf = x.requires_grad_()

    def run() -> None:
        leaf.grad = None
        loss(leaf, labels, *ids).backward()

    return run


def peer(name: str) -> Any:
    from pytorch_metric_learning import losses

    made, options = PEERS[name]
    memory = losses.CrossBatchMemory(getattr(losses, made)(**options), DIM, memory_size=PLACES)
    memory.embedding_memory, memory.label_memory, _ = content(PLACES)
    memory.has_been_filled = True
    return memory


def bare() -> Callable[[], None]:
    x, y = batch(ROWS, 4)[0], content(PLACES)[0]

    def run() -> None:
        (x @ y.mT) @ y

    return run


def large() -> Callable[[], None]:
    """As it comes; streamed row by row, without a compiler, which is the larger of the two."""
    return step(ours("multi_similarity", LARGE_PLACES, compile=False), LARGE_ROWS, torch.arange(LARGE_ROWS))


def call(run: Callable[[], None]) -> None:
    run()


def run() -> list[dict[str, Any]]:
    rows = []
    for name in NAMES:
        mine, theirs = step(ours(name, **EXACT)), step(peer(name))
        if name == "triplet":  # seconds a step
            mine()
            times = (min(seconds(mine) for _ in range(3)), seconds(theirs))
        else:
            times = compare(mine, theirs, repeats=7, warm=2)
        rows.append(result(f"memory/{name}/{PLACES}/pml", *times, "s"))
        if name == "multi_similarity":
            rows.append(result(f"memory/{name}/{PLACES}/bare", *compare(mine, bare(), repeats=15, warm=2), "s"))
    default, exact = step(ours("contrastive"), ROWS, torch.arange(ROWS)), step(ours("contrastive", **EXACT))
    rows.append(result(f"memory/contrastive/{PLACES}/default", *compare(default, exact, repeats=7, warm=2), "s"))
    rows.append(result(f"memory/multi_similarity/{LARGE_PLACES}/peak", peak_bytes(large, call), BOUND, "bytes"))
    return rows
