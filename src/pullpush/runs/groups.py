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
        name: any timm model, hf:FOLDER_OR_NAME of transformers, or open_clip:NAME:TAG or open_clip:FOLDER.
        dim: dimension of the embeddings.
        head: what stands between the backbone and the embedding.
        pool: how the places of an image become one vector: the backbone's own way (auto), its class token (cls), their
            mean, or learned: a generalised mean (gem), or attention. With tune head a learned one takes more cache and
            memory: the features of all places.
        init: where the head linear starts: at the principal components of what the backbone makes of training images,
            half whitened (pca), or at a random projection. Of a joint model with both its towers pca is where its own
            space is kept.
        hidden: width of the head mlp.
        dropout: share of the values that the head mlp drops in training.
        weights: auto (the installed package, else the library's own), none, timm, or a file.
        size: side of the image in pixels; 0 is what the model is built for (a ViT, a CLIP model), and of one that takes
            any size follows the images: 64 for icons, more for photographs, 192 with task image-text.
        tune: what learns beside the head: nothing (head: features of the backbone are computed once and cached), the
            last stages of the backbone, low-rank adapters of it (lora), or all of it. auto is what freeze and
            frozen_stages say.
        last_stages: how many, with tune last-stages; what follows the last block counts to it.
        freeze: train the head only, as tune head does. none is false, unless the minutes are too few for the whole
            backbone.
        frozen_stages: with tune auto so many first stages of the backbone (the stem is the first) do not learn; they
            cost the most.
        frozen_norm: keep the batch-norm statistics of the pretrained backbone.
        gradient_checkpointing: keep less of a forward pass in memory, and compute it once more for the gradients.
        augment: random crops and colours in training; not with cached features.
        flip: mirror half of the training images, where left and right mean the same.
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
    """The text encoder, with task image-text.

    Args:
        name: any sentence-transformers model, or LIBRARY:NAME, such as open_clip:ViT-B-32:openai; auto is the encoder's
            own tower where that is a joint model (CLIP, SigLIP), else all-MiniLM-L6-v2.
        head: what stands between the backbone and the embedding.
        hidden: width of the head mlp.
        dropout: share of the values that the head mlp drops in training.
        tune: what learns beside the head; see encoder.tune. auto is what freeze says.
        last_stages: how many, with tune last-stages: layers of the transformer.
        freeze: train the head only, as tune head does; none is true.
        gradient_checkpointing: as of the image encoder.
        lr_scale: learning rate of the backbone where it is not frozen, as a share of the head's.
        relation: an image and a text belong together where they are of one class, or of one item only.
        duplicates: another item with the same text in the batch is a positive, or left out (mask), or kept out
            of the batch by the sampler (apart), or a negative all the same.
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
    """Low-rank adapters of a backbone, with tune lora: W' = W + alpha / rank * B A, and only A and B learn.

    Args:
        rank: of the change of a weight.
        alpha: its scale is alpha / rank.
        dropout: share of the inputs of an adapter that are dropped in training.
        modules: those that have one: all linear maps, attentions and convolutions of one pixel without groups; those of
            them with attention in their name; or the others (mlp).
        lr_scale: learning rate of the adapters, as a multiple of the backbone's.
        keep: what the model holds: the weights with the adapters in them (merged), or the adapters alone, a few MB, and
            which base they belong to (adapter).
    """

    rank: Annotated[int, Bound(1, 4096)] = 8
    alpha: Annotated[float, Bound(1e-6, 1e6)] = 16.0
    dropout: Part = 0.0
    modules: Literal["all", "attention", "mlp"] = "all"
    lr_scale: NonNegative = 4.0
    keep: Literal["merged", "adapter"] = "merged"


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
        layer_decay: each block of the backbone nearer to the input has its rate times so much; 1 for the same rate.
        criterion_scale: learning rate of proxies and other learned options of the loss, as a multiple of the head's.
        weight_decay: decoupled; biases and norms have none.
        warmup: share of the steps in which the rate rises.
        clip: largest norm of the gradient; 0 for no limit.
    """

    lr: Annotated[float, Bound(0, 100)] = 5e-4
    backbone_scale: NonNegative = 1.0
    layer_decay: Annotated[float, Bound(0.01, 1)] = 1.0
    criterion_scale: NonNegative = 10.0
    weight_decay: Annotated[float, Bound(0, 100)] = 1e-4
    warmup: Share = 0.1
    clip: NonNegative = 1.0
