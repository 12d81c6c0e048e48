"""What every encoder is: a backbone and a head. A kind of encoder is one file beside this one."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn

from pullpush.bounds import Dim, Part, checked
from pullpush.data.items import Items
from pullpush.encoders.adapter import CURE, write_adapter
from pullpush.encoders.lora import Lora, is_adapter, merged
from pullpush.encoders.stages import stages
from pullpush.encoders.weights import Loaded
from pullpush.errors import UserError
from pullpush.maths.similarity import normalize

__all__ = ["CONFIG", "CURE", "WEIGHTS", "Encoder", "Head", "Stored", "make_head", "principal", "seeded"]

Head = Literal["linear", "mlp", "none"]
WEIGHTS, CONFIG = "model.safetensors", "config.json"


class Stored(NamedTuple):
    """What a bundle holds of one encoder.

    Attributes:
        bundle: the folder of the bundle; `bundle / KIND` holds what `save_backbone` wrote.
        config: what `Encoder.config` gave.
        tensors: what `Encoder.saved_state` gave.
        timm: the version of timm that the bundle was written with.
    """

    bundle: Path
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    timm: str


@checked
def make_head(head: Head, width: int, dim: Dim, *, hidden: Dim = 512, dropout: Part = 0.0) -> nn.Module:
    """A module `[n, width] -> [n, dim]`.

    - `linear`: one affine map, its rows orthonormal at the start, so that it begins as a projection that keeps angles.
    - `mlp`: `width -> hidden -> dim` with a GELU between, and with `dropout` before both layers in training.
    - `none`: the features themselves; `dim` is not read.

    Raises:
        UserError: another name, or sizes out of their bounds.
    """
    if head == "none":
        return nn.Identity()
    if head == "mlp":
        layers: list[tuple[str, nn.Module]]
        layers = [("0", nn.Linear(width, hidden)), ("1", nn.GELU()), ("2", nn.Linear(hidden, dim))]
        if dropout:  # named aside, so that a head's weights have the same names with and without it
            layers.insert(2, ("drop_hidden", nn.Dropout(dropout)))
            layers.insert(0, ("drop", nn.Dropout(dropout)))
        return nn.Sequential(OrderedDict(layers))
    linear = nn.Linear(width, dim)
    nn.init.orthogonal_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


@torch.no_grad()
def principal(head: nn.Linear, features: Tensor, whitening: float = 0.5) -> None:
    """Sets a linear head to the whitened projection onto the principal components of these features, in place.

    `head(x) = c L^(-whitening / 2) V (x - mean)`, with the largest eigenvalues `L` of the features' covariance and
    their eigenvectors `V`. What all features have in common, which makes all cosines large, is gone (Jegou and Chum,
    2012), and the few directions in which they differ most no longer hide the others. Half of a whitening suffices
    (attenuated whitening: Mukundan et al., 2019). `c` gives the outputs the mean squared length of those of a random
    orthonormal projection, `dim / width` of the features', so that learning rates mean what they meant.

    Directions beyond those that so few features span are any that complete an orthonormal set; eigenvalues count as a
    tenth of their mean at least.

    Args:
        head: `[width] -> [dim]`, with `dim <= width`.
        features: `[n, width]`.
        whitening: 0 for none, 1 for equal variances.
    """
    x, dim = features.double(), head.out_features
    mean = x.mean(0)
    _, spread, directions = torch.linalg.svd(x - mean, full_matrices=len(x) < dim)
    values = nn.functional.pad(spread[:dim].square() / len(x), (0, max(0, dim - len(spread))))
    values = values.clamp_min(0.1 * values.mean()).clamp_min(1e-12)
    weight = values[:, None] ** (-whitening / 2) * directions[:dim]
    length = dim / head.in_features * x.square().sum(1).mean()
    weight *= (length / ((x - mean) @ weight.T).square().sum(1).mean().clamp_min(1e-12)).sqrt()
    head.weight.copy_(weight)
    head.bias.copy_(-weight @ mean)


class Encoder(nn.Module):
    """A backbone and a head: inputs of one kind to embeddings `[n, dim]` of length 1.

    A kind says what its backbone is (`__init__`), how inputs become features (`features`), and how what people have
    becomes inputs (`prepare`). Bundles find it by its `kind`.

    Args:
        name: of the backbone.
        backbone: inputs to features `[n, width]`.
        width: of the features.
        dim: dimensions of the embedding; with the head `none` it is `width`.
        head: `linear`, `mlp` or `none`; see `make_head`.
        hidden: width of the head `mlp`.
        dropout: share of values that the head `mlp` drops in training.
        freeze: the backbone neither learns nor changes its statistics.
        normalize: end with the L2 normalisation.
    """

    kind: ClassVar[str]
    loaded: Loaded | None = None
    weights: str = ""
    """Of the backbone, as they were asked for."""
    frozen_stages: int = 0
    lora: Lora | None = None
    """How the adapters of the backbone were made, where it has some (`tuning.tune`)."""
    base: str = ""
    """With adapters that are kept apart, the checksum of the backbone that they belong to."""
    computed: Callable[[Any], Tensor] | None = None
    """What computes the embeddings in the place of the modules: another runtime (`runtimes.with_runtime`)."""

    def __init__(
        self,
        name: str,
        backbone: nn.Module,
        width: int,
        dim: int,
        head: Head,
        hidden: int,
        dropout: float,
        freeze: bool,
        normalize: bool,
    ) -> None:
        super().__init__()
        self.backbone, self.width = backbone, width
        self.head = make_head(head, width, dim, hidden=hidden, dropout=dropout)
        self.dim = width if head == "none" else dim
        self.name, self.head_name, self.normalize, self.freeze = name, head, normalize, freeze
        self.hidden, self.dropout = hidden, dropout
        self.pool: nn.Module | None = None
        backbone.requires_grad_(not freeze)

    @classmethod
    def for_items(cls, items: Items, *, dim: int, head: Head, hidden: int, dropout: float, seed: int) -> Self:
        """The encoder that embeds something of each of these items; see `of_items`.

        Raises:
            UserError: the items lack it.
        """
        raise UserError(f"encoders of the kind {cls.kind!r} are not trained by themselves")

    @classmethod
    def of_items(cls, items: Items) -> Sequence[Any]:
        """What it embeds of each item, as `prepare` takes it."""
        raise NotImplementedError

    def prepare(self, inputs: Sequence[Any], first: int = 0) -> Any:
        """What `forward` takes, of what people have: files, strings.

        Args:
            inputs: one or more.
            first: the number of the first, for messages.

        Raises:
            UserError: one of them can't be read.
        """
        raise NotImplementedError

    def example(self) -> Any:
        """Something that the backbone takes."""
        raise NotImplementedError

    def features(self, inputs: Any) -> Tensor:
        """The output of the backbone, `[n, width]`: what a frozen encoder needs to compute only once."""
        raise NotImplementedError

    def pooled(self, features: Tensor) -> Tensor:
        """What the head takes, `[n, width]`: the features themselves, unless `pool` learns."""
        return features

    def from_features(self, features: Tensor) -> Tensor:
        """Embeddings `[n, dim]` of features `[n, width]`."""
        embeddings: Tensor = self.head(self.pooled(features))
        return normalize(embeddings) if self.normalize else embeddings

    def forward(self, inputs: Any) -> Tensor:
        """Embeddings `[n, dim]`."""
        return self.from_features(self.features(inputs)) if self.computed is None else self.computed(inputs)

    def train(self, mode: bool = True) -> Self:
        """Like `nn.Module.train`, except that a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.freeze:
            self.backbone.eval()
        return self

    def title(self) -> str:
        """What it is, in a few words."""
        return repr(self.name)

    @property
    def device(self) -> torch.device:
        """Where the backbone is."""
        return next(chain(self.backbone.parameters(), self.backbone.buffers())).device

    def parameter_groups(
        self, lr: float, *, backbone_scale: float = 1.0, weight_decay: float = 0.01, layer_decay: float = 1.0
    ) -> list[dict[str, Any]]:
        """Groups for a `torch.optim` optimiser, each with `name`, `params`, `lr` and `weight_decay`.

        Biases and norm parameters (all tensors of at most one dimension) do not decay. Adapters are a group of their
        own, at `lora.lr_scale` times the rate. Frozen parameters and empty groups are left out.

        Args:
            lr: learning rate of the head.
            backbone_scale: that of the backbone is `lr * backbone_scale`.
            weight_decay: of the weights.
            layer_decay: each block of the backbone nearer to the input has its rate times so much. Of `n` blocks (see
                `stages`, the stem as the first, what follows the last block in the last) the i-th has
                `lr * backbone_scale * layer_decay ** (n - i)`. Source: Bao et al., BEiT, ICLR 2022, in the definition
                of timm's `param_groups_layer_decay`.
        """
        named, rate = dict(self.backbone.named_parameters()), lr * backbone_scale
        groups = [] if layer_decay == 1 else stages(self.backbone, coarse=False)
        parts = [
            (f"backbone/{number}", {each: named[each] for each in names}, rate * layer_decay ** (len(groups) - number))
            for number, names in enumerate(groups, 1)
        ] or [("backbone", named, rate)]
        pool = {} if self.pool is None else {f"pool.{each}": p for each, p in self.pool.named_parameters()}
        head = ("head", {**pool, **dict(self.head.named_parameters())}, lr)
        adapters = 1.0 if self.lora is None else self.lora.lr_scale
        return [group for each in (*parts, head) for group in _groups(*each, weight_decay, adapters)]

    def config(self) -> dict[str, Any]:
        """What `rebuild` needs, as plain JSON values."""
        return {
            "name": self.name,
            "dim": self.dim,
            "head": self.head_name,
            "hidden": self.hidden,
            "dropout": self.dropout,
            "freeze": self.freeze,
            "normalize": self.normalize,
            **({"adapter": self.adapted} if self.base else {}),
        }

    @property
    def adapted(self) -> dict[str, str]:
        """What `config` says of adapters that are kept apart: the checksum of their base, and its weights."""
        file = Path(self.weights)
        return {"base": self.base, "weights": str(file.resolve()) if file.is_file() else self.weights}

    def saved_state(self) -> dict[str, Tensor]:
        """The tensors that a bundle keeps, the adapters as a part of the weights; what `save_backbone` writes is not
        among them."""
        if self.lora is None:
            return self.state_dict()
        own = {name: value for name, value in self.state_dict().items() if not name.startswith("backbone.")}
        if self.base:
            return own
        return own | {f"backbone.{name}": value for name, value in merged(self.backbone).state_dict().items()}

    def save_backbone(self, folder: Path) -> None:
        """Writes the backbone into a new folder, where it has a format of its own, or its adapters where these are kept
        apart."""
        if self.base:
            write_adapter(self.backbone, folder)

    @classmethod
    def rebuild(cls, stored: Stored) -> Self:
        """The encoder that a bundle holds, without downloading anything.

        Raises:
            RuntimeError: the tensors are not those of the encoder.
            UserError: its parts do not belong together.
        """
        encoder = cls(**stored.config)
        encoder.load_state_dict(stored.tensors)
        return encoder


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within it, PyTorch's global generator, which modules draw from, begins at `seed`; then it is put back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _groups(
    name: str, parameters: Mapping[str, nn.Parameter], lr: float, weight_decay: float, adapter_scale: float
) -> Iterator[dict[str, Any]]:
    trained = {each: p for each, p in parameters.items() if p.requires_grad}
    adapters = [trained.pop(each) for each in list(trained) if is_adapter(each)]
    decayed, plain = ([p for p in trained.values() if (p.ndim > 1) == wide] for wide in (True, False))
    if adapters:
        yield {"name": f"{name}/lora", "params": adapters, "lr": lr * adapter_scale, "weight_decay": weight_decay}
    if decayed:
        yield {"name": f"{name}/weights", "params": decayed, "lr": lr, "weight_decay": weight_decay}
    if plain:
        yield {"name": f"{name}/biases_and_norms", "params": plain, "lr": lr, "weight_decay": 0.0}
