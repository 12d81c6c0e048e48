"""Everything that repeats a run, as plain values."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml

from pullpush.bounds import Bound, Count, Dim, NonNegative, Part, Seed, Share, Whole
from pullpush.files import write_text
from pullpush.runs.checked import PROG, SHORT, Checked

if TYPE_CHECKING:
    from pullpush.maths.choice import Loss, Miner
else:  # help shows the options of a run without torch
    Loss = Miner = Any

__all__ = [
    "LOSS",
    "PROG",
    "RESTARTED",
    "SHORT",
    "TEXT_DEFAULTS",
    "TEXT_LOSS",
    "AverageConfig",
    "BatchConfig",
    "Checked",
    "Config",
    "DataConfig",
    "EncoderConfig",
    "MemoryConfig",
    "OptimizerConfig",
    "TextConfig",
    "ViewsConfig",
    "left_open",
    "with_texts",
    "write_config",
]

Head = Literal["linear", "mlp", "none"]
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
class DataConfig(Checked):
    """What to train on.

    Args:
        source: a name (`pullpush data --help` lists them), a folder of classes, or a CSV or Parquet manifest.
        root: folder of the download, for the benchmark data sets.
        options: further options of the reader, such as {skin_tones: true} for emoji.
        test: share of the classes kept for the test, where the data bring no split.
        validation: share of the classes kept for validation (of the training classes where the data bring a test).
        folds: with k > 1, the test classes are one k-th of all and `fold` says which.
        fold: which of the folds is the test.
        long_tail: with r > 1, training classes are thinned out: the largest has r times the items of the smallest.
        on_bad_item: stop before the first step when an image can't be read, or skip it.
        check: decode every image once before training.
        workers: processes that decode images ahead of the steps where they are not kept in memory: as many as there are
            cores (auto), or a number; 0 decodes in the training process. The run is the same for any number.
        cache: keep decoded images in memory: yes, no, or where they take less than half of what is free (auto).
    """

    source: str = "emoji"
    root: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    test: Part = 0.5
    validation: Part = 0.1
    folds: Annotated[int, Bound(0, 1000)] = 0
    fold: Annotated[int, Bound(0, 999)] = 0
    long_tail: Annotated[float, Bound(1, 1e6, also=(0,))] = 0.0
    on_bad_item: Literal["stop", "skip"] = "stop"
    check: bool = True
    workers: Literal["auto"] | Annotated[int, Bound(0, 256)] = "auto"
    cache: Literal["auto", "yes", "no"] = "auto"


@dataclass
class EncoderConfig(Checked):
    """The image encoder.

    Args:
        name: any timm model.
        dim: dimension of the embeddings.
        head: what stands between the backbone and the embedding.
        init: where the head linear starts: at the principal components of what the backbone makes of training images,
            half whitened (pca), or at a random projection.
        hidden: width of the head mlp.
        dropout: share of the values that the head mlp drops in training.
        weights: auto (the installed package, else timm's hub), none, timm, or a file.
        size: side of the image in pixels; 0 follows the images: 64 for icons, more for photographs.
        freeze: train the head only; features of the backbone are computed once and cached. none is false, unless the
            minutes are too few for the whole backbone.
        frozen_stages: so many first stages of the backbone (the stem is the first) do not learn; they cost the most.
        frozen_norm: keep the batch-norm statistics of the pretrained backbone.
        augment: random crops and colours in training; not with cached features.
        flip: mirror half of the training images, where left and right mean the same.
    """

    name: str = "tf_efficientnet_lite0"
    dim: Dim = 128
    head: Head = "linear"
    init: Literal["pca", "random"] = "pca"
    hidden: Dim = 512
    dropout: Part = 0.0
    weights: str = "auto"
    size: Annotated[int, Bound(1, 8192, also=(0,), unit="pixels")] = 0
    freeze: bool | None = None
    frozen_stages: Annotated[int, Bound(0, 1000)] = 3
    frozen_norm: bool = True
    augment: bool = True
    flip: bool = True


@dataclass
class TextConfig(Checked):
    """The text encoder, with task image-text.

    Args:
        name: any sentence-transformers model.
        head: what stands between the backbone and the embedding.
        hidden: width of the head mlp.
        dropout: share of the values that the head mlp drops in training.
        freeze: train the head only; features of the backbone are computed once and cached.
        lr_scale: learning rate of the backbone where it is not frozen, as a share of the head's.
        relation: an image and a description belong together where they are of one class, or of one item only.
        duplicates: another item with the same description in the batch is a positive, or left out (mask), or kept out
            of the batch by the sampler (apart), or a negative all the same.
        memory: whose embeddings the cross-batch memory keeps.
    """

    name: str = "all-MiniLM-L6-v2"
    head: Head = "mlp"
    hidden: Dim = 512
    dropout: Part = 0.0
    freeze: bool = True
    lr_scale: NonNegative = 0.05
    relation: Literal["class", "item"] = "class"
    duplicates: Literal["positive", "mask", "apart", "negative"] = "positive"
    memory: Literal["both", "images", "texts"] = "both"

    @property
    def relation_column(self) -> Literal["label", "id"]:
        """The column of the item table by which an image and a text belong together."""
        return "label" if self.relation == "class" else "id"


@dataclass
class BatchConfig(Checked):
    """The batch sampler: classes x samples.

    Args:
        classes: classes in a batch; 0 follows the data: 32 (256 with task image-text), or all where there are fewer.
        samples: items of each class; 0 follows the data: 4 (1 with task image-text), or the size of the largest class
            where that is smaller.
        short: classes with fewer items than `samples` are repeated or dropped.
    """

    classes: Annotated[int, Bound(0, 10**6)] = 0
    samples: Annotated[int, Bound(0, 4096)] = 0
    short: Literal["repeat", "drop"] = "repeat"


@dataclass
class MemoryConfig(Checked):
    """The cross-batch memory.

    Args:
        size: places of the cross-batch memory; 0 for none, up to 1 as a share of the training set.
        fill: at start_step, fill it with embeddings of a seeded draw of training items by the model as it is then.
        layout: "queue" is first in, first out. "table" has one place an item, refreshed whenever the item is seen, of
            which the `size` most recent are compared with.
        combine: "sum": L(batch, batch) + weight * L(batch, memory). "joint": one loss over the columns of batch and
            memory together. "memory": L(batch, memory), and L(batch, batch) as long as the memory is empty.
        weight: of the memory's part in "sum".
        compensate: "moments" takes the motion that all embeddings have in common out of what is held, "mean" that of
            their mean alone, "none" nothing.
        tolerance: largest drift of what is read, as measured on items seen again, from 0 to about 1 (nothing is left of
            where an item was); 0 reads all.
        start_step: batches until the memory is written and read: embeddings drift fast at first.
        enqueue: "after" the loss, or "before" it: then anchors meet their batch in the memory too, never themselves.
        storage: "float32", "bfloat16", "float16", "float64"; half precision halves the bytes.
    """

    size: Annotated[float, Bound(0, 1e8)] = 0.0
    fill: bool = False
    layout: Literal["queue", "table"] = "queue"
    combine: Literal["joint", "sum", "memory"] = "sum"
    weight: NonNegative = 1.0
    compensate: Literal["moments", "mean", "none"] = "moments"
    tolerance: Annotated[float, Bound(0, 100)] = 1.0
    start_step: Whole = 0
    enqueue: Literal["after", "before"] = "after"
    storage: Literal["float32", "float16", "bfloat16", "float64"] = "float32"


@dataclass
class AverageConfig(Checked):
    """Averages of weights, which the validation classes choose where they are better.

    Args:
        ema: steps that a moving average of the weights reaches back, up to 1 as a share of all steps; 0 for none. From
            half of the steps on it is validated beside the weights themselves.
        blend: at the end, try averages of the untrained and the best weights.
    """

    ema: Annotated[float, Bound(0, 1e8)] = 0.1
    blend: bool = True


@dataclass
class ViewsConfig(Checked):
    """Test views: an image is embedded at several scales and mirrored, and the mean is its embedding.

    Args:
        choose: auto takes those that the validation classes choose, where they show a gain (mirrored ones where
            training has encoder.flip); none takes an image as it is.
        query: the views of a query, such as 1 and "1.25 flip", instead of a choice.
        gallery: those of what is searched; the query's, where only these are said.
        query_cost: the most that a query may cost, as a multiple of the time for the plain view.
        gallery_cost: the same of an item of the gallery, which is embedded once.
    """

    choose: Literal["auto", "none"] = "auto"
    query: Sequence[str | float] = ()
    gallery: Sequence[str | float] = ()
    query_cost: Annotated[float, Bound(1, 1000)] = 3.0
    gallery_cost: Annotated[float, Bound(1, 1000)] = 8.0


@dataclass
class OptimizerConfig(Checked):
    """AdamW with a linear warm-up and a cosine decay.

    Args:
        lr: learning rate of the head at its highest.
        backbone_scale: learning rate of the backbone, as a share of the head's.
        criterion_scale: learning rate of proxies and other learned options of the loss, as a multiple of the head's.
        weight_decay: decoupled; biases and norms have none.
        warmup: share of the steps in which the rate rises.
        clip: largest norm of the gradient; 0 for no limit.
    """

    lr: Annotated[float, Bound(0, 100)] = 5e-4
    backbone_scale: NonNegative = 1.0
    criterion_scale: NonNegative = 10.0
    weight_decay: Annotated[float, Bound(0, 100)] = 1e-4
    warmup: Share = 0.1
    clip: NonNegative = 1.0


@dataclass
class Config(Checked):
    """A run.

    Args:
        task: what is embedded, images alone or with texts (image-text), which has other defaults: --task image-text
            --help; another kind of encoder likewise.
        data: what to train on.
        encoder: the image encoder.
        text: the text encoder, with task image-text.
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
        steps: optimiser steps; with minutes as many as fit.
        minutes: time for all that the command does, reading and report too; size, freezing, batch and steps follow,
            unless they are said, from the data and from what they cost on this machine; 0 for no limit.
        seed: of everything that is drawn.
        out: the run folder; by default runs/DATA-LOSS-TIME.
        precision: bf16 computes the encoder in bfloat16; auto does with minutes on a GPU that knows it, and 32 else.
        device: cpu, cuda, mps, or whatever is there (auto).
        devices: processes that train together.
        compile: compile the criterion.
        gradient_cache: embed the batch in chunks of so many, for batches larger than memory; 0 for all at once.
        validate_every: steps between evaluations on the validation classes; 0 for eight in a run.
        on_collapse: where the embeddings have collapsed and find less than the untrained model: stop after saving, only
            warn, or restart once from the last healthy weights with the options that the doctor advises.
        gate: keep the untrained model where the validation classes show no gain over it.
        checkpoint_every: steps between checkpoints.
        tensorboard: write TensorBoard's logs beside log.jsonl.
        trackers: who else takes the numbers: csv, comet, mlflow, neptune, wandb (with the packages `lightning` and
            theirs), or the full name of a class of Fabric's `Logger`.
        report: draw the report at the end.
        nmi: cluster the test embeddings too; of many classes that takes seconds.
    """

    task: Task = "image"
    data: DataConfig = field(default_factory=DataConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    text: TextConfig = field(default_factory=TextConfig)
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
    steps: Count = 288
    minutes: Annotated[float, Bound(0, 100_000)] = 0.0
    seed: Seed = 0
    out: str | None = None
    precision: Literal["auto", "32", "bf16"] = "auto"
    device: Literal["auto", "cpu", "cuda", "gpu", "mps"] = "auto"
    devices: Annotated[int, Bound(1, 64)] = 1
    compile: bool = False
    gradient_cache: Whole = 0
    validate_every: Whole = 0
    on_collapse: Literal["stop", "warn", "restart"] = "stop"
    gate: bool = True
    checkpoint_every: Count = 50
    tensorboard: bool = True
    trackers: Sequence[str] = ()
    report: bool = True
    nmi: bool = True

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
    "encoder.size": 192,
    "text.hidden": 1024,
    "text.dropout": 0.2,
    "data.test": 0.25,
    "loss.temperature": 0.07,
    "optimizer.lr": 1e-3,
    "optimizer.weight_decay": 0.05,
    "steps": 300,
}


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
