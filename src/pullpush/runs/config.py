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
        task: what is trained on: images, images with their texts, or vectors of another model; each has defaults of
            its own, which --task image-text --help shows.
        data: what to train on.
        encoder: the image encoder.
        text: the text encoder, with task image-text.
        lora: the adapters of both, with --encoder.tune lora.
        batch: the batch sampler.
        loss: `losses.circle(margin=0.4)`, its name, or a mapping of its name and options.
        learn: train this option of the loss too, from its value on, such as temperature (never below 0.01) or scale
            (never above 100); auto learns the temperature with --task image-text and nothing else.
        similarity: how two embeddings are compared; by default as in the loss's paper.
        matryoshka: train shorter embeddings too, such as 64,32: the first 64 and the first 32 numbers of each can then
            be used alone. Each costs the loss once more.
        miner: the same, of `miners`; none keeps all pairs.
        memory: the cross-batch memory; `MemoryConfig(size=0.5)`, a mapping, or its size.
        optimizer: AdamW.
        average: averages of weights.
        views: test views.
        rerank: how the hits of a search are put into a better order when somebody asks for that: auto chooses on the
            validation classes; expand, augment, both or reciprocal chooses the best of that kind; or say it in full,
            such as expand=3,augment=3; or none (docs/reranking.md).
        steps: how long to train: the number of batches; more steps take longer and mostly find more.
        minutes: how long the whole command may take, report included, instead of --steps. Image size, batch and what
            learns then follow from the images and this machine, unless they are said; 0 for no limit.
        seed: the start of the random numbers; another seed gives another split and another run.
        out: the folder to write the run to; by default runs/DATA-LOSS-TIME.
        precision: bf16 computes the encoder in bfloat16, which is faster on a GPU; auto does so with --minutes on a
            GPU that can.
        device: where to compute; auto takes a GPU if there is one.
        devices: how many GPUs (or processes) train together on each machine.
        nodes: how many machines train together, started by torchrun or a cluster.
        compile: compile the loss (torch.compile); the first steps take longer, the others less.
        compile_encoder: compile the encoders in training (torch.compile); the first steps take much longer.
        gradient_cache: for batches larger than memory: embed so many items at a time; 0 for all at once.
        validate_every: measure on the validation classes after every so many steps; 0 for eight times in a run.
        on_collapse: what to do when the model has lost all that it knew (all embeddings look alike): stop after
            saving, only warn, or restart once from the last good weights with the options that the doctor advises.
        gate: keep the untrained model where training shows no gain on the validation classes.
        checkpoint_every: save the state after every so many steps, to go on from with --resume.
        tensorboard: write logs for TensorBoard beside log.jsonl.
        trackers: other programs that take the numbers (or --track): csv, comet, mlflow, trackio, wandb, each with its
            package, or the full name of a class of Fabric's Logger.
        report: draw the report at the end.
        nmi: cluster the test embeddings too, which takes seconds where there are many classes.
        table: measure on the test what each way to use the model finds, and what it costs (docs/retrieval.md).
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
    def validation_interval(self) -> int:
        """Steps from one validation to the next."""
        return self.validate_every or max(1, self.steps // 8)

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
