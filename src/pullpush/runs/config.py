"""Everything that repeats a run, as plain values."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml

from pullpush.bounds import Bound, Count, Dim, Seed, Whole
from pullpush.files import write_text
from pullpush.runs.checked import Checked
from pullpush.runs.groups import (
    AverageConfig,
    BatchConfig,
    DataConfig,
    EncoderConfig,
    LoraConfig,
    MemoryConfig,
    OptimizerConfig,
    TextConfig,
    ViewsConfig,
)

if TYPE_CHECKING:
    from pullpush.maths.choice import Loss, Miner
else:  # help shows the options of a run without torch
    Loss = Miner = Any

__all__ = [
    "JOINT_DEFAULTS",
    "LOSS",
    "RESTARTED",
    "TEXT_DEFAULTS",
    "TEXT_LOSS",
    "Config",
    "left_open",
    "with_texts",
    "write_config",
]

Similarity = Literal["cosine", "dot", "negative_euclidean", "negative_squared_euclidean", "snr"]


# In the run folder, the options of the second part of a run that collapsed and was restarted.
RESTARTED = "config-restarted.yaml"
# Names, of which `Config` makes the objects: made here, they would bring torch.
LOSS: Any = "multi_similarity"
MINER: Any = "none"


def tasks() -> tuple[str, ...]:
    """What can be trained: each kind of encoder alone, or with texts. Told without importing the encoders."""
    sources = sorted((Path(__file__).parents[1] / "encoders").glob("*.py"))
    kinds = [kind for file in sources for kind in re.findall(r'^    kind = "(\w+)"', file.read_text("utf-8"), re.M)]
    return tuple(name for kind in kinds if kind != "text" for name in (kind, f"{kind}-text"))


def with_texts(task: str) -> bool:
    """Whether a task has a tower of texts beside its first."""
    return task.endswith("-text")


if TYPE_CHECKING:
    Task = str
else:
    Task = Literal[tasks()]


@dataclass
class Config(Checked):
    """A run.

    Args:
        task: what is embedded, images alone or with texts (image-text), which has other defaults: --task image-text
            --help; another kind of encoder likewise.
        data: what to train on.
        encoder: the image encoder.
        text: the text encoder, with task image-text.
        lora: the adapters of both, with tune lora.
        batch: the batch sampler.
        loss: `losses.circle(margin=0.4)`, its name, or a mapping of its name and options.
        learn: a positive option of the loss that is learned from its value on, such as temperature (at least 0.01) or
            scale (at most 100); none; auto is the temperature with task image-text and none else.
        similarity: instead of the one of the loss's paper.
        matryoshka: dimensions of prefixes of the embeddings that are trained too, such as 64,32, each at the cost of
            the loss once more.
        miner: the same, of `miners`; none keeps all pairs.
        memory: the cross-batch memory; `MemoryConfig(size=0.5)`, a mapping, or its size.
        optimizer: AdamW.
        average: averages of weights.
        views: test views.
        rerank: auto lets the validation classes choose how the hits of a search are re-ranked where somebody asks for
            that; also the best of one method there (expand, augment, both, reciprocal), what to do, such as
            "expand=3,augment=3", or none.
        steps: optimiser steps; with minutes as many as fit.
        minutes: time for all that the command does, reading and report too; size, freezing, batch and steps follow,
            unless they are said, from the data and from what they cost on this machine; 0 for no limit.
        seed: of everything that is drawn.
        out: the run folder; by default runs/DATA-LOSS-TIME.
        precision: bf16 computes the encoder in bfloat16; auto does with minutes on a GPU that knows it, and 32 else.
        device: cpu, cuda, mps, or whatever is there (auto).
        devices: processes that train together on each machine.
        nodes: machines that train together, started by torchrun or a cluster; --devices says how many processes each
            has.
        compile: compile the criterion.
        compile_encoder: compile the encoders (torch.compile), for the steps alone; the first steps take much longer.
        gradient_cache: embed the batch in chunks of so many, for batches larger than memory; 0 for all at once.
        validate_every: steps between evaluations on the validation classes; 0 for eight in a run.
        on_collapse: where the embeddings have collapsed and find less than the untrained model: stop after saving, only
            warn, or restart once from the last healthy weights with the options that the doctor advises.
        gate: keep the untrained model where the validation classes show no gain over it.
        checkpoint_every: steps between checkpoints.
        tensorboard: write TensorBoard's logs beside log.jsonl.
        trackers: who else takes the numbers: csv, comet, mlflow, neptune, wandb (with `pytorch-lightning` and
            their packages), or the full name of a class of Fabric's `Logger`; --track for short.
        report: draw the report at the end.
        nmi: cluster the test embeddings too; of many classes that takes seconds.
        table: measure on the test what the model finds in each way that it can be used, and what that costs.
    """

    task: Task = "image"
    data: DataConfig = field(default_factory=DataConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    text: TextConfig = field(default_factory=TextConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    loss: Loss = LOSS
    learn: str = "auto"
    similarity: Similarity | None = None
    matryoshka: Sequence[Dim] = ()
    miner: Miner | None = MINER
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    average: AverageConfig = field(default_factory=AverageConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    rerank: str = "auto"
    steps: Count = 288
    minutes: Annotated[float, Bound(0, 100_000)] = 0.0
    seed: Seed = 0
    out: str | None = None
    precision: Literal["auto", "32", "bf16"] = "auto"
    device: Literal["auto", "cpu", "cuda", "gpu", "mps"] = "auto"
    devices: Annotated[int, Bound(1, 64)] = 1
    nodes: Annotated[int, Bound(1, 4096)] = 1
    compile: bool = False
    compile_encoder: bool = False
    gradient_cache: Whole = 0
    validate_every: Whole = 0
    on_collapse: Literal["stop", "warn", "restart"] = "stop"
    gate: bool = True
    checkpoint_every: Count = 50
    tensorboard: bool = True
    trackers: Sequence[str] = ()
    report: bool = True
    nmi: bool = True
    table: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        from pullpush.maths import losses, miners
        from pullpush.maths.choice import chosen

        self.loss = chosen("loss", self.loss, losses.REGISTRY)
        none = self.miner in (None, "", "none", {"name": "none"})
        self.miner = None if none else chosen("miner", self.miner, miners.REGISTRY)

    @property
    def usual_batch(self) -> tuple[int, int]:
        """Classes and samples of a batch, where nothing is said and the data have as many."""
        return (256, 1) if with_texts(self.task) else (32, 4)

    @property
    def processes(self) -> int:
        """How many train together."""
        return self.devices * self.nodes

    def values(self) -> dict[str, Any]:
        """Nested plain values, as YAML has them; `config_from` reads them."""
        miner = {"name": "none"} if self.miner is None else self.miner.named()
        return asdict(self) | {"loss": self.loss.named(), "miner": miner}


# What a task with texts takes instead of the defaults above, where nothing else is said.
TEXT_LOSS = "n_pair"
TEXT_DEFAULTS: dict[str, Any] = {
    "encoder.freeze": True,
    "encoder.head": "mlp",
    "encoder.dim": 256,
    "encoder.hidden": 1024,
    "encoder.dropout": 0.2,
    "text.name": "all-MiniLM-L6-v2",
    "text.hidden": 1024,
    "text.dropout": 0.2,
    "data.test": 0.25,
    "loss.temperature": 0.07,
    "optimizer.lr": 1e-3,
    "optimizer.weight_decay": 0.05,
    "steps": 300,
}


# What a joint model with both its towers takes instead, beside its own dimensions and temperature.
JOINT_DEFAULTS: dict[str, Any] = {"encoder.head": "linear", "text.head": "linear"}


def left_open(config: Config) -> list[str]:
    """The options that the data decide, or with `minutes` the machine; a run that has begun holds what they are."""
    encoder, batch = config.encoder, config.batch
    opened = {"encoder.size": not encoder.size, "encoder.freeze": encoder.freeze is None}
    opened["precision"] = config.precision == "auto"
    if config.minutes:
        opened |= {"batch.classes": not batch.classes, "batch.samples": not batch.samples}
        opened |= {"steps": config.steps == Config.steps, "validate_every": not config.validate_every}
    return [name for name, is_open in opened.items() if is_open]


def write_config(config: Config, path: Path, then: str = "") -> None:
    """Writes YAML that `pullpush train --config` reads."""
    write_text(path, yaml.safe_dump(config.values(), sort_keys=False, allow_unicode=True), then)
