"""Everything that repeats a run, as plain values."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml

from pullpush.bounds import Bound, Count, Dim, NonNegative, Part, Pixels, Seed, Share, Whole, checked_fields
from pullpush.files import write_text

if TYPE_CHECKING:
    from pullpush.maths.choice import Loss, Miner
else:  # help shows the options of a run without torch
    Loss = Miner = Any

__all__ = [
    "BATCH",
    "MINER_OF",
    "TASK_DEFAULTS",
    "BatchConfig",
    "Config",
    "DataConfig",
    "EncoderConfig",
    "OptimizerConfig",
    "TextConfig",
    "write_config",
]

Head = Literal["linear", "mlp", "none"]
Similarity = Literal["cosine", "dot", "negative_euclidean", "negative_squared_euclidean", "snr"]


class Checked:
    """Values that are checked by their types as they are made."""

    def __post_init__(self) -> None:
        checked_fields(self)


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
        workers: processes that decode images; 0 decodes in the training process.
        cache: keep decoded images in memory: yes, no, or where they fit (auto).
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
    workers: Annotated[int, Bound(0, 256)] = 0
    cache: Literal["auto", "yes", "no"] = "auto"


@dataclass
class EncoderConfig(Checked):
    """The image encoder.

    Args:
        name: any timm model.
        dim: dimension of the embeddings.
        head: what stands between the backbone and the embedding.
        hidden: width of the head mlp.
        dropout: share of the values that the head mlp drops in training.
        weights: auto (the installed package, else timm's hub), none, timm, or a file.
        size: side of the image in pixels.
        freeze: train the head only; features of the backbone are computed once and cached.
        frozen_stages: so many first stages of the backbone (the stem is the first) do not learn; they cost the most.
        frozen_norm: keep the batch-norm statistics of the pretrained backbone.
        augment: random crops and colours in training; not with cached features.
        flip: mirror half of the training images, where left and right mean the same.
    """

    name: str = "tf_efficientnet_lite0"
    dim: Dim = 128
    head: Head = "linear"
    hidden: Dim = 512
    dropout: Part = 0.0
    weights: str = "auto"
    size: Pixels = 64
    freeze: bool = False
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
        task: images alone, or with descriptions (image-text), which has other defaults: --task image-text --help.
        data: what to train on.
        encoder: the image encoder.
        text: the text encoder, with task image-text.
        batch: the batch sampler.
        loss: `losses.circle(margin=0.4)`, its name, or a mapping of its name and options.
        learn: a positive option of the loss that is learned from its value on, such as temperature (at least 0.01) or
            scale (at most 100); none; auto is the temperature with task image-text and none else.
        similarity: instead of the one of the loss's paper.
        miner: the same, of `miners`; none keeps all pairs, auto is the one that belongs to the loss.
        memory: the cross-batch memory; size is its places, 0 for none, up to 1 a share of the training set; fill
            starts it full, with embeddings of the model at start_step.
        optimizer: AdamW.
        steps: optimiser steps.
        seed: of everything that is drawn.
        out: the run folder; by default runs/DATA-LOSS-TIME.
        precision: bf16 computes the encoder in bfloat16.
        device: cpu, cuda, mps, or whatever is there (auto).
        devices: processes that train together.
        compile: compile the criterion.
        gradient_cache: embed the batch in chunks of so many, for batches larger than memory; 0 for all at once.
        validate_every: steps between evaluations on the validation classes; 0 for eight in a run.
        checkpoint_every: steps between checkpoints.
        tensorboard: write TensorBoard's logs beside log.jsonl.
        report: draw the report at the end.
        nmi: cluster the test embeddings too; of many classes that takes seconds.
    """

    task: Literal["image", "image-text"] = "image"
    data: DataConfig = field(default_factory=DataConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    text: TextConfig = field(default_factory=TextConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    loss: Loss = "multi_similarity"
    learn: str = "auto"
    similarity: Similarity | None = None
    miner: Miner | None = "auto"
    memory: dict[str, Any] = field(default_factory=lambda: {"size": 0})
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    steps: Count = 240
    seed: Seed = 0
    out: str | None = None
    precision: Literal["32", "bf16"] = "32"
    device: Literal["auto", "cpu", "cuda", "gpu", "mps"] = "auto"
    devices: Annotated[int, Bound(1, 64)] = 1
    compile: bool = False
    gradient_cache: Whole = 0
    validate_every: Whole = 0
    checkpoint_every: Count = 50
    tensorboard: bool = True
    report: bool = True
    nmi: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        from pullpush.maths import losses, miners
        from pullpush.maths.choice import chosen

        self.loss = chosen("loss", self.loss, losses.REGISTRY)
        if self.miner in ("auto", {"name": "auto"}):
            paper = MINER_OF.get(self.loss.name)
            self.miner = miners.REGISTRY[paper]() if paper else None
        elif self.miner in ("none", {"name": "none"}):
            self.miner = None
        elif self.miner is not None:
            self.miner = chosen("miner", self.miner, miners.REGISTRY)

    def values(self) -> dict[str, Any]:
        """Nested plain values, as YAML has them; `config_from` reads them."""
        miner = {"name": "none"} if self.miner is None else self.miner.named()
        return asdict(self) | {"loss": self.loss.named(), "miner": miner}


# What a task takes instead of the defaults above, where nothing else is said.
TASK_DEFAULTS: dict[str, dict[str, Any]] = {
    "image": {},
    "image-text": {
        "encoder.freeze": True,
        "encoder.head": "mlp",
        "encoder.dim": 256,
        "encoder.hidden": 1024,
        "encoder.dropout": 0.2,
        "encoder.size": 192,
        "text.hidden": 1024,
        "text.dropout": 0.2,
        "data.test": 0.25,
        "loss.name": "n_pair",
        "loss.temperature": 0.07,
        "optimizer.lr": 1e-3,
        "optimizer.weight_decay": 0.05,
        "steps": 300,
    },
}


# The miner that a loss's paper trains it with.
MINER_OF = {"multi_similarity": "multi_similarity"}

# Classes and samples of a batch, where nothing is said and the data have as many.
BATCH = {"image": (32, 4), "image-text": (256, 1)}


def write_config(config: Config, path: Path, then: str = "") -> None:
    """Writes YAML that `pullpush train --config` reads."""
    write_text(path, yaml.safe_dump(config.values(), sort_keys=False, allow_unicode=True), then)
