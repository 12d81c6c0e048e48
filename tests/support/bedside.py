"""Small trainings of seconds on real images of digits, with the monitor beside them."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import normalize

from pullpush.criterion import Criterion
from pullpush.data.items import Items
from pullpush.doctor.declaration import Finding
from pullpush.runs.options import config_from
from pullpush.training.monitor import Monitor

# 8 x 8 pixels, 0 ... 16.
PIXELS, DIGITS = load_digits(return_X_y=True)


Options = dict[str, Any]


class Head(nn.Module):
    """Pixels to embeddings."""

    def __init__(self, *layers: nn.Module, unit: bool = True) -> None:
        super().__init__()
        self.layers, self.unit = nn.Sequential(*layers), unit

    def forward(self, x: Tensor) -> Tensor:
        found = self.layers(x)
        return normalize(found, dim=-1) if self.unit else found


def seeded(make: Callable[[], Any], seed: int = 0) -> Any:
    """What `make` makes, from the same random weights each time."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def mlp(dim: int = 16, *end: nn.Module, **options: Any) -> Head:
    return Head(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, dim), *end, **options)


def digits(classes: Sequence[int] = range(10)) -> tuple[Tensor, Tensor, Tensor]:
    """Images [n, 64] of these digits, labels, ids."""
    labels = torch.from_numpy(DIGITS)
    rows = torch.isin(labels, torch.tensor(list(classes))).nonzero()[:, 0]
    return torch.from_numpy(PIXELS[rows]).float() / 16, labels[rows], rows


def batches(labels: Tensor, each: int, seed: int = 0) -> Iterator[Tensor]:
    """Rows, `each` of every class."""
    draw = torch.Generator().manual_seed(seed)
    groups = [(labels == label).nonzero()[:, 0] for label in labels.unique()]
    while True:
        yield torch.cat([group[torch.randperm(len(group), generator=draw)[:each]] for group in groups])


class Bedside:
    """The monitor with a plain loop. `config` are options of a run, of which only the loss matters here."""

    def __init__(self, folder: Path, criterion: Criterion, encoder: nn.Module, steps: int, **config: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        values = config_from({"steps": steps, **config})
        sampler = SimpleNamespace(classes=10, samples=values.batch.samples or 4)
        splits = {"train": Items.build("none", [], []), "validation": ()}
        task = SimpleNamespace(criterion=criterion, splits=splits, sampler=sampler)
        self.monitor = Monitor()
        self.parameters = [*encoder.parameters(), *criterion.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=values.optimizer.lr)
        # Not the first process: nothing is written.
        self.run = SimpleNamespace(
            config=values,
            folder=folder,
            task=task,
            step=0,
            collapse=None,
            fabric=SimpleNamespace(is_global_zero=False),
            optimizer=self.optimizer,
            log=lambda step, numbers: self.monitor.on_log(self.run, step, numbers),
        )
        self.monitor.on_setup(self.run)
        self.found: dict[str, Finding] = {}
        self.steps_of: dict[str, int] = {}
        self.report = self.monitor.report
        self.monitor.report = self._note
        self.losses: list[float] = []
        self.recall = 0.0

    def _note(self, step: int, finding: Finding) -> None:
        self.steps_of.setdefault(finding.finding, step)
        self.found.setdefault(finding.finding, finding)

    def step(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.losses.append(loss.item())
        step = len(self.losses)
        self.run.log(step, {"train/loss": self.losses[-1]})
        if step == 1 or step % 10 == 0:
            self.monitor.on_look(self.run, step, validated=False)


def towers_apart(folder: Path, apart: float, **options: Any) -> Bedside:
    """Trains an encoder of digits and one of their names, each in a cone of its own at the start: `apart` is added to
    all dimensions of the names."""
    config = config_from(dict(options))
    images, words = seeded(lambda: mlp(32)), seeded(lambda: mlp(32), 1)
    words.layers[-1].bias.data += apart
    criterion = Criterion(config.loss, symmetric=True)
    bedside = Bedside(folder, criterion, nn.ModuleList([images, words]), **options)
    x, labels, ids = digits()
    drawn = batches(labels, 4)
    for _ in range(config.steps):
        rows = next(drawn)
        said = nn.functional.one_hot(labels[rows], 64).float()
        own = {"references": words(said), "reference_labels": labels[rows], "reference_ids": ids[rows] + 10_000}
        bedside.step(criterion(images(x[rows]), labels[rows], ids[rows], **own))
    return bedside
