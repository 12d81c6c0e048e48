"""Nothing in a step waits for the device: shown on a GPU that is none, and where there is one, on that."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from pullpush import transfer
from pullpush.criterion import Criterion, CrossBatchMemory, Proxies, Regularizer
from pullpush.data.sources import open_items
from pullpush.maths import losses, miners, regularizers
from pullpush.runs.options import config_from
from pullpush.training.averages import MovingAverage
from pullpush.training.items import make_items
from pullpush.training.monitor import EVERY
from pullpush.training.probes import LastBatch
from pullpush.training.run import Run
from pullpush.training.task import Task
from tests.support.fake_gpu import GPU, fake_gpu

Options = dict[str, Any]
Found = Callable[[], list[str]]
CLASSES, DIM, ITEMS = 6, 8, 24


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Iterator[Found]:
    with fake_gpu(monkeypatch) as places:
        yield places


def test_whoever_waits_is_seen(found: Found) -> None:
    x = torch.ones(3, 2, device=GPU)
    waits: list[Callable[[], object]] = [
        lambda: float(x.sum()),
        lambda: bool((x > 0).all()),
        lambda: x.sum().item(),
        lambda: x.nonzero(),
        lambda: x.cpu(),
        lambda: x.to("cpu", non_blocking=False),
        lambda: torch.zeros(3).to(GPU),
        lambda: torch.zeros(3).to(GPU, non_blocking=True),  # from memory that is not pinned
        lambda: torch.zeros(3, 2).copy_(x),
        lambda: torch.tensor([1.0], device=GPU),
        lambda: x.new_tensor([1.0]),
        lambda: x[torch.tensor([0, 1])],
    ]
    for place, wait in enumerate(waits):
        wait()
        assert found(), place
    free: list[Callable[[], object]] = [
        lambda: torch.zeros(3).pin_memory().to(GPU, non_blocking=True),
        lambda: x[torch.zeros(2, dtype=torch.int64, device=GPU)],
        lambda: x @ x.T + 1,
        lambda: torch.where(x > 0, x, 0.0).sum(),
    ]
    for wait in free:
        wait()
    assert found() == []


def test_the_next_part_is_begun_before_the_last_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU; on the CPU each comes at once."""

    def order(pinned: set[str]) -> list[str]:
        said = list[str]()

        def parts() -> Iterator[Tensor]:
            for number in range(3):
                said.append(f"begun {number}")
                yield torch.full((2,), number)

        def fetched(part: Tensor) -> Callable[[], Tensor]:
            return lambda: part

        monkeypatch.setattr(transfer, "PINNED", pinned)
        monkeypatch.setattr(transfer, "fetched", fetched)
        said += [f"there {int(part[0])}" for part in transfer.arriving(parts()) if said.append("waited") is None]
        return said

    assert order(set())[:3] == ["begun 0", "waited", "begun 1"]
    assert order({"cpu"})[:4] == ["begun 0", "begun 1", "waited", "begun 2"]
    assert order({"cpu"})[-3:] == ["there 0", "there 1", "there 2"]


def waits_of(criterion: nn.Module, found: Found, *, steps: int = 3) -> list[str]:
    """Where a criterion waits in its forward and backward passes."""
    criterion = criterion.to(GPU)
    labels = (torch.arange(12) // 2 % CLASSES).pin_memory()
    ids = torch.arange(12).pin_memory()
    places = []
    for _ in range(steps):
        x = torch.randn(12, DIM).pin_memory().to(GPU, non_blocking=True).requires_grad_()
        given = [each.to(GPU, non_blocking=True) for each in (labels, ids)]
        found()
        loss = criterion(x, *given)
        loss.backward()
        places += found()
    return places


@pytest.mark.parametrize("name", losses.REGISTRY)
def test_no_loss_waits(name: str, found: Found) -> None:
    """With the batch, a queue and a table; with class proxies where it has them."""
    loss = losses.REGISTRY[name]()
    options: list[Options]
    if loss.traits.proxies:
        per_class = loss.options.get("centers", 1)
        options = [{"proxies": Proxies(CLASSES, DIM, per_class=per_class)}]
    else:
        kept = [CrossBatchMemory(16, DIM, items=ITEMS, layout=layout) for layout in ("queue", "table")]
        options = [{}, *({"memory": memory} for memory in kept if not loss.traits.whole)]
    for each in options:
        assert waits_of(Criterion(name, **each), found) == []


@pytest.mark.parametrize("name", miners.REGISTRY)
def test_no_miner_waits(name: str, found: Found) -> None:
    memory = CrossBatchMemory(16, DIM, items=ITEMS)
    assert waits_of(Criterion("contrastive", miner=name, memory=memory), found) == []


def test_prefixes_and_blocks_do_not_wait(found: Found) -> None:
    assert waits_of(Criterion("multi_similarity", matryoshka=[4]), found) == []
    assert waits_of(Criterion("circle", block_rows=4), found) == []
    for name in regularizers.REGISTRY:
        assert waits_of(Regularizer(name), found) == [], name


STEPS: dict[str, Options] = {
    "default": {},
    "kept apart": {"data": {"cache": "no"}, "encoder": {"augment": False}},
    "memory": {"memory": {"size": 8}, "miner": "multi_similarity", "loss": "contrastive"},
    "gradient cache": {"gradient_cache": 3, "loss": "proxy_anchor"},
    "frozen": {"encoder": {"freeze": True}, "matryoshka": [4]},
    "texts": {"task": "image-text", "text": {"freeze": False}},
}


def nested(options: Options, more: Options) -> Options:
    both = {key: options[key] | more[key] for key in options.keys() & more.keys() if isinstance(more[key], dict)}
    return options | more | both


@pytest.mark.parametrize("name", STEPS)
def test_no_step_waits(
    name: str, small: Options, photos: Path, transformer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that `Run.do` does: preparing the batch, both passes, clipping, the optimiser, the average of the weights."""
    monkeypatch.setenv("PULLPUSH_CACHE", str(tmp_path / "cache"))
    options = nested(nested(small, {"data": {"workers": 0}, "encoder": {"init": "random"}}), STEPS[name])
    if name == "texts":
        items = open_items(photos)
        names = [items.classes[label] for label in items.table["label"]]
        table = pd.DataFrame({"path": items.table["path"], "label": names, "text": names})
        table.to_csv(tmp_path / "items.csv", index=False)
        options = nested(options, {"data": {"source": str(tmp_path / "items.csv")}, "text": {"name": transformer}})
    config = config_from(options)
    task = Task(config, make_items(config.data, config.seed, lambda sentence: None))
    batches = task.batches(0)
    given = [next(batches) for _ in range(3)]
    with fake_gpu(monkeypatch) as found:
        task.step.to(GPU)
        backward: Callable[[Tensor], None] = lambda loss: loss.backward()  # noqa: E731
        fabric: Any = SimpleNamespace(device=GPU, backward=backward, autocast=nullcontext)
        optimizer = torch.optim.AdamW(task.parameter_groups(), foreach=True)
        average = MovingAverage(task.encoders, 3)
        LastBatch(task.criterion, 0, EVERY)
        run = Run(config, tmp_path, task, fabric, task.step, optimizer, average)
        found()
        for step, batch in enumerate(given, 1):
            run.do(step, batch)
        places = found()
    if name == "texts":  # the library looks whether there is any padding
        (place,) = places
        assert "transformers/masking_utils.py: and (padding_mask is None or padding_mask.all())" in place
    else:
        assert places == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", STEPS)
def test_no_step_waits_for_a_gpu(name: str, small: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same by PyTorch's own word, where there is one."""
    if name == "texts":
        pytest.skip("the fake one shows it")
    monkeypatch.setenv("PULLPUSH_CACHE", str(tmp_path / "cache"))
    config = config_from(nested(nested(small, {"data": {"workers": 0}}), STEPS[name]))
    device = torch.device("cuda")
    task = Task(config, make_items(config.data, config.seed, lambda sentence: None), device=device)
    task.step.to(device)
    backward: Callable[[Tensor], None] = lambda loss: loss.backward()  # noqa: E731
    fabric: Any = SimpleNamespace(device=device, backward=backward, autocast=nullcontext)
    optimizer = torch.optim.AdamW(task.parameter_groups(), fused=True)
    run = Run(config, tmp_path, task, fabric, task.step, optimizer, MovingAverage(task.encoders, 3))
    batches = task.batches(0)
    run.do(1, next(batches))
    try:
        torch.cuda.set_sync_debug_mode("error")
        for step in (2, 3):
            run.do(step, next(batches))
    finally:
        torch.cuda.set_sync_debug_mode("default")
