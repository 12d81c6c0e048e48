"""The stages of a backbone, from the input on."""

from typing import Any

from timm.models import group_parameters
from torch import nn

from pullpush.errors import UserError

__all__ = ["freeze_stages", "stages"]


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
