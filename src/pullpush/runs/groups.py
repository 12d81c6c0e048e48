"""The groups of options of a run: what it trains on, the encoders, the batch, the memory, and so on."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pullpush.bounds import Bound, Count, Dim, NonNegative, Part, Share, Whole
from pullpush.errors import UserError
from pullpush.runs.checked import Checked

__all__ = [
    "AverageConfig",
    "BatchConfig",
    "DataConfig",
    "EncoderConfig",
    "LoraConfig",
    "MemoryConfig",
    "OptimizerConfig",
    "TextConfig",
    "ViewsConfig",
]

Head = Literal["linear", "mlp", "none"]
Tune = Literal["auto", "head", "last-stages", "lora", "all"]


def _agree(group: str, tune: Tune, freeze: bool | None) -> None:
    """Raises `UserError` where two options contradict each other."""
    if tune != "auto" and freeze is not None and freeze != (tune == "head"):
        raise UserError(
            f"--{group}.tune {tune} and --{group}.freeze {str(freeze).lower()} contradict each other: leave one out"
        )


@dataclass
class DataConfig(Checked):
    """The data.

    Args:
        source: what to train on: a folder with a sub-folder for each class, a CSV or Parquet file, or the name of a
            data set (pullpush data --help lists them).
        root: the folder to which a benchmark data set (sop, cub, ...) was downloaded.
        options: more options of the data set, such as {skin_tones: true} for emoji.
        test: the share of the classes to test on, which are not trained on; data that bring a split keep theirs.
        validation: the share of the classes to choose the best weights by, which are not trained on either.
        folds: for cross-validation: the test is one of so many equal parts of the classes, and --data.fold says which;
            0 for none.
        fold: which of the folds is the test.
        long_tail: thin out the training classes until the largest has so many times the items of the smallest, to see
            what that does; 0 for none.
        on_bad_item: when an image cannot be read, stop before training, or skip it.
        check: open every image once before training, to find those that cannot be read.
        workers: processes that read images ahead, where they are not kept in memory: as many as there are cores
            (auto); 0 reads in the training process. The result is the same for any number.
        cache: keep the images in memory once they are read; auto does where they take less than half of what is free.
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
    """The image encoder (a pretrained network, the backbone, and a head that makes the embedding).

    Args:
        name: the pretrained network: any name of timm, hf:FOLDER_OR_NAME of transformers, or open_clip:NAME:TAG or
            open_clip:FOLDER of open_clip.
        dim: how many numbers an embedding has.
        head: what makes the embedding of what the backbone gives.
        pool: how what the backbone says of each place of an image becomes one vector: in its own way (auto), by its
            class token (cls), by the mean, or learned: a generalised mean (gem) or attention. With --encoder.tune head
            the learned ones take more memory.
        init: where a linear head starts: at the principal components of the features of training images (pca), which
            keeps the space of a joint model, or at random.
        hidden: width of the head mlp.
        dropout: share of the values that the head mlp drops in training.
        weights: where the pretrained weights come from: the installed package, else the library (auto), the library
            (timm), a file, or none to start from random weights.
        size: width and height to which images are scaled. More shows more and takes longer. 0 is what the model is
            built for, or where any size will do, 64 for icons, more for photographs, 192 with --task image-text.
        tune: what learns: the head alone, which is fastest; the last stages of the backbone too; low-rank adapters
            (lora); or all. auto is all but the first stages (--encoder.frozen_stages), or what --encoder.freeze says.
        last_stages: how many stages learn, with --encoder.tune last-stages.
        freeze: train the head alone, as --encoder.tune head does; by default only where --minutes are too few for
            more.
        frozen_stages: with --encoder.tune auto, how many of the first stages of the backbone do not learn, which saves
            time; the stem is the first.
        frozen_norm: keep the batch-norm statistics of the pretrained backbone.
        gradient_checkpointing: take less memory and more time for a step.
        augment: vary images in training by random crops and colours; not where the head alone learns.
        flip: mirror half of the training images; false where left and right differ in meaning, as in writing.
    """

    name: str = "tf_efficientnet_lite0"
    dim: Dim = 128
    head: Head = "linear"
    pool: Literal["auto", "cls", "mean", "gem", "attention"] = "auto"
    init: Literal["pca", "random"] = "pca"
    hidden: Dim = 512
    dropout: Part = 0.0
    weights: str = "auto"
    size: Annotated[int, Bound(1, 8192, also=(0,), unit="pixels")] = 0
    tune: Tune = "auto"
    last_stages: Count = 2
    freeze: bool | None = None
    frozen_stages: Annotated[int, Bound(0, 1000)] = 3
    frozen_norm: bool = True
    gradient_checkpointing: bool = False
    augment: bool = True
    flip: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _agree("encoder", self.tune, self.freeze)

    @property
    def frozen(self) -> bool:
        """Whether the head alone learns."""
        return bool(self.freeze) if self.tune == "auto" else self.tune == "head"


@dataclass
class TextConfig(Checked):
    """The text encoder, with --task image-text.

    Args:
        name: the text model: any of sentence-transformers, or LIBRARY:NAME, such as open_clip:ViT-B-32:openai; auto is
            that of the image encoder where it has one (CLIP, SigLIP), else all-MiniLM-L6-v2.
        head: what makes the embedding of what the text model gives.
        hidden: width of the head mlp.
        dropout: share of the values that the head mlp drops in training.
        tune: what learns, as --encoder.tune; auto is what --text.freeze says.
        last_stages: how many layers of the transformer learn, with --text.tune last-stages.
        freeze: train the head alone; by default it does.
        gradient_checkpointing: take less memory and more time for a step.
        lr_scale: learning rate of the text model where it learns, as a share of the head's.
        relation: an image and a text belong together where they are of one class, or only where they are of one item.
        duplicates: what another item in the batch with the same text is: a positive, neither (mask), kept out of the
            batch (apart), or a negative all the same.
        memory: whose embeddings the cross-batch memory keeps.
    """

    name: str = "auto"
    head: Head = "mlp"
    hidden: Dim = 512
    dropout: Part = 0.0
    tune: Tune = "auto"
    last_stages: Count = 2
    freeze: bool | None = None
    gradient_checkpointing: bool = False
    lr_scale: NonNegative = 0.05
    relation: Literal["class", "item"] = "class"
    duplicates: Literal["positive", "mask", "apart", "negative"] = "positive"
    memory: Literal["both", "images", "texts"] = "both"

    def __post_init__(self) -> None:
        super().__post_init__()
        _agree("text", self.tune, self.freeze)

    @property
    def frozen(self) -> bool:
        """Whether the head alone learns."""
        return self.freeze is not False if self.tune == "auto" else self.tune == "head"

    @property
    def relation_column(self) -> Literal["label", "id"]:
        """The column of the item table by which an image and a text belong together."""
        return "label" if self.relation == "class" else "id"


@dataclass
class LoraConfig(Checked):
    """Low-rank adapters, with --encoder.tune lora (W' = W + alpha / rank * B A, and only A and B learn).

    Args:
        rank: rank of the change of a weight: more can learn more.
        alpha: scale of the change, which is alpha / rank.
        dropout: share of the inputs of an adapter that are dropped in training.
        modules: which layers have an adapter: all (linear maps, attentions, convolutions of one pixel without groups),
            those with attention in their name, or the others (mlp).
        lr_scale: learning rate of the adapters, as a multiple of the backbone's.
        keep: what the model holds in the end: all weights, with the adapters in them (merged), or the adapters alone,
            a few MB, with the name of the model that they belong to (adapter).
    """

    rank: Annotated[int, Bound(1, 4096)] = 8
    alpha: Annotated[float, Bound(1e-6, 1e6)] = 16.0
    dropout: Part = 0.0
    modules: Literal["all", "attention", "mlp"] = "all"
    lr_scale: NonNegative = 4.0
    keep: Literal["merged", "adapter"] = "merged"


@dataclass
class BatchConfig(Checked):
    """The batch (classes x samples).

    Args:
        classes: how many classes are in a batch; 0 takes 32 (256 with --task image-text), or all where there are fewer.
        samples: how many images of each class are in a batch; 0 takes 4 (1 with --task image-text), or as many as the
            largest class has.
        short: where a class has fewer items than --batch.samples, repeat some of them, or drop the class.
    """

    classes: Annotated[int, Bound(0, 10**6)] = 0
    samples: Annotated[int, Bound(0, 4096)] = 0
    short: Literal["repeat", "drop"] = "repeat"


@dataclass
class MemoryConfig(Checked):
    """The cross-batch memory.

    Args:
        size: how many embeddings of earlier batches the loss compares with too (a cross-batch memory); 0 for none, up
            to 1 as a share of the training set.
        fill: at --memory.start_step, fill it with embeddings of training items by the model as it is then.
        layout: what is kept: "queue", what was seen last, or "table", the last embedding of each item, of which the
            most recent are compared with.
        combine: how it joins the loss. "sum": L(batch, batch) + weight * L(batch, memory). "joint": one loss over batch
            and memory together. "memory": L(batch, memory), and L(batch, batch) as long as the memory is empty.
        weight: weight of the memory's part in "sum".
        compensate: older embeddings are moved as the model has moved since: by what all have in common (moments), by
            their mean alone (mean), or not at all (none).
        tolerance: leave out embeddings that have drifted farther than this since they were stored, as is measured on
            items seen again, from 0 to about 1 (nothing is left of where an item was); 0 keeps all.
        start_step: how many batches to wait, as embeddings change fast at first.
        enqueue: put a batch into the memory after its loss, or before it, which compares with it there too.
        storage: type of the numbers; half precision halves the bytes.
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
    """Averages of weights (kept where the validation classes show that they are better).

    Args:
        ema: how many steps a moving average of the weights reaches back, up to 1 as a share of all steps; 0 for none.
            It is validated from half of the steps on.
        blend: at the end, try averages of the untrained and the best weights.
    """

    ema: Annotated[float, Bound(0, 1e8)] = 0.1
    blend: bool = True


@dataclass
class ViewsConfig(Checked):
    """Test views (an image is embedded at several scales and mirrored, and the mean is its embedding).

    Args:
        choose: auto takes the views that find more on the validation classes, if any do; none embeds an image once,
            as it is.
        query: the views of an image that is searched with, such as "1, 1.25 flip", instead of a choice.
        gallery: the views of the images that are searched; by default those of --views.query.
        query_cost: how many times the plain time the embedding of a query may take.
        gallery_cost: the same for an image that is searched, which is embedded once.
    """

    choose: Literal["auto", "none"] = "auto"
    query: Sequence[str | float] = ()
    gallery: Sequence[str | float] = ()
    query_cost: Annotated[float, Bound(1, 1000)] = 3.0
    gallery_cost: Annotated[float, Bound(1, 1000)] = 8.0


@dataclass
class OptimizerConfig(Checked):
    """The optimizer (AdamW with a linear warm-up and a cosine decay).

    Args:
        lr: highest learning rate of the head.
        backbone_scale: learning rate of the backbone, as a share of the head's.
        layer_decay: each block of the backbone nearer to the input learns at so many times the rate of the next; 1 for
            the same rate.
        criterion_scale: learning rate of proxies and other learned options of the loss, as a multiple of the head's.
        weight_decay: how strongly weights are pulled to 0; biases and norms are not.
        warmup: share of the steps in which the rate rises.
        clip: largest norm of a gradient; 0 for no limit.
    """

    lr: Annotated[float, Bound(0, 100)] = 5e-4
    backbone_scale: NonNegative = 1.0
    layer_decay: Annotated[float, Bound(0.01, 1)] = 1.0
    criterion_scale: NonNegative = 10.0
    weight_decay: Annotated[float, Bound(0, 100)] = 1e-4
    warmup: Share = 0.1
    clip: NonNegative = 1.0
