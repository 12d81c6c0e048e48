"""What of an encoder learns: its head alone, the last stages of its backbone, adapters of it, or all."""

from typing import Any, Literal

from timm.models import group_parameters
from torch import nn

from pullpush.encoders.encoder import Encoder, seeded
from pullpush.encoders.lora import Lora, add_adapters
from pullpush.errors import UserError

__all__ = ["Tune", "freeze_stages", "stages", "tune"]

Tune = Literal["auto", "head", "last-stages", "lora", "all"]


def stages(backbone: nn.Module, coarse: bool = True) -> list[list[str]]:
    """The names of the parameters of each stage, from the input on.

    Of an image backbone as its `group_matcher` says, the stem being the first and what follows the last block a part of
    the last. Of any other one the members of its longest list of layers, with what stands before them as the first and
    what stands behind them in the last.

    Args:
        backbone: of an encoder.
        coarse: stages of several blocks as one; else each block is one.
    """
    matcher: Any = getattr(backbone, "group_matcher", None)
    if matcher is not None:
        groups = group_parameters(backbone, matcher(coarse=coarse))
        return [groups[number] for number in sorted(groups)]
    lists = {name: module for name, module in backbone.named_modules() if isinstance(module, nn.ModuleList)}
    longest = max(lists, key=lambda name: len(lists[name]), default="")
    found: list[list[str]] = [[] for _ in range(1 + len(lists.get(longest, ())))]
    stage = 0
    for name, _ in backbone.named_parameters():
        if longest and name.startswith(f"{longest}."):
            stage = 1 + int(name.removeprefix(f"{longest}.").partition(".")[0])
        found[stage].append(name)
    return [names for names in found if names]


def freeze_stages(backbone: nn.Module, count: int, name: str) -> None:
    """The first `count` stages do not learn.

    Raises:
        UserError: there are fewer.
    """
    if not count:
        return
    groups = stages(backbone)
    if not 0 < count <= len(groups):
        raise UserError(
            f"frozen_stages (--encoder.frozen_stages) is {count}, but {name!r} has {len(groups)} stages, the stem "
            "counted"
        )
    parameters = dict(backbone.named_parameters())
    for each in (each for group in groups[:count] for each in group):
        parameters[each].requires_grad_(False)


def tune(encoder: Encoder, what: Tune, last_stages: int = 2, lora: Lora | None = None, seed: int = 0) -> None:
    """Sets what of an encoder learns; its head always does.

    Args:
        encoder: is changed.
        what: `auto`: as the encoder was made (`freeze`, `frozen_stages`); `head`: nothing else; `last-stages`: the last
            stages of the backbone (see `stages`) too; `lora`: low-rank adapters of the backbone, which stays as it is;
            `all`: everything.
        last_stages: how many.
        lora: how the adapters are made.
        seed: of their random values.

    Raises:
        UserError: the backbone has fewer stages, or nothing that can have an adapter; the extra `lora` is missing.
    """
    if what == "auto":
        return
    encoder.freeze = what == "head"
    encoder.backbone.requires_grad_(what != "head")
    count = 0
    if what == "last-stages":
        there = len(stages(encoder.backbone))
        if not 0 < last_stages <= there:
            raise UserError(f"last_stages is {last_stages}, but {encoder.name!r} has {there} stages, the stem counted")
        count = there - last_stages
        freeze_stages(encoder.backbone, count, encoder.name)
    elif what == "lora":
        encoder.lora = lora or Lora()
        with seeded(seed):
            add_adapters(encoder.backbone, encoder.lora, encoder.example(), encoder.name)
    encoder.frozen_stages = count
    encoder.train()
