r"""Low-rank adapters of a backbone (LoRA), by peft.

A linear map (or a convolution of one pixel) with the weight $W$ [out, in] learns only the factors of a change of low
rank, $A$ [r, in] and $B$ [out, r]:

$$W' = W + \frac{\alpha}{r} B A$$

with $A$ random and $B = 0$ at the start, so that training begins at the backbone as it is. Source: Hu et al., LoRA:
Low-Rank Adaptation of Large Language Models, ICLR 2022.
"""

import copy
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from torch import nn

from pullpush.bounds import Bound, Count, Part, checked
from pullpush.errors import UserError
from pullpush.extras import need
from pullpush.modes import evaluating

__all__ = ["Lora", "Modules", "add_adapters", "is_adapter", "merged"]

Modules = Literal["all", "attention", "mlp"]
ATTENTION = re.compile(r"attn|attention")


@dataclass(frozen=True)
class Lora:
    """How the adapters of a backbone are made.

    Args:
        rank: r.
        alpha: the scale is alpha / rank.
        dropout: share of the inputs of A that is dropped in training.
        modules: `all`: every `Linear`, `MultiheadAttention`, and convolution of one pixel without groups; `attention`:
            those of them in whose name stands attn or attention; `mlp`: the others.
        lr_scale: learning rate of A and B, as a multiple of the backbone's: B starts at zero, and the change of a
            weight is a product of both.
        keep: what a bundle holds: the `merged` weights, or the `adapter` and which base it belongs to.
    """

    rank: Count = 8
    alpha: Annotated[float, Bound(1e-6, 1e6)] = 16.0
    dropout: Part = 0.0
    modules: Modules = "all"
    lr_scale: Annotated[float, Bound(0, 1e3)] = 4.0
    keep: Literal["merged", "adapter"] = "merged"


@checked
def add_adapters(backbone: nn.Module, lora: Lora, example: Any, name: str) -> None:
    """Adds adapters to a backbone, in place; nothing else of it learns any more.

    Args:
        backbone: of an encoder.
        lora: how.
        example: what the backbone takes. Only modules that it calls get an adapter: of others (a weight that is read by
            another module) it would not count.
        name: of the backbone, for the message.

    Raises:
        UserError: the extra `lora` is missing, or there is nothing to adapt.
    """
    need("lora")
    from peft import LoraConfig, inject_adapter_in_model

    called = _called(backbone, example)
    names = [each for each in called if lora.modules == "all" or bool(ATTENTION.search(each)) == _attention(lora)]
    if not names:
        there = f"{len(called)} others" if called else "nothing that can be adapted"
        raise UserError(f"{name!r} has no modules of the kind {lora.modules!r} (--lora.modules), only {there}")
    pattern = f"^({'|'.join(map(re.escape, names))})$"
    options: dict[str, Any] = {"r": lora.rank, "lora_alpha": lora.alpha, "lora_dropout": lora.dropout}
    inject_adapter_in_model(LoraConfig(target_modules=pattern, **options), backbone)
    for module in backbone.modules():
        if _of_attention(module):
            module.register_forward_pre_hook(_keep)
            module.register_forward_hook(_restore)


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name belongs to an adapter."""
    return ".lora_" in name


def merged(backbone: nn.Module) -> nn.Module:
    """A copy of the backbone with the changes of its adapters in its weights, and without the adapters: it has the
    names of the backbone as it was, and peft is not needed for it."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    whole, inside = copy.deepcopy(backbone), "\0"
    for name, module in list(whole.named_modules()):
        if not isinstance(module, BaseTunerLayer) or name.startswith(inside):
            continue
        tuned: Any = module
        if _of_attention(module):  # holds a second adapter
            inside = f"{name}."
            base = tuned.unload_and_optionally_merge_module(merge=True, safe_merge=True, adapter_names=None)
        else:
            tuned.merge(safe_merge=True)
            base = tuned.get_base_layer()
        parent, _, last = name.rpartition(".")
        setattr(whole.get_submodule(parent), last, base)
    return whole


def _attention(lora: Lora) -> bool:
    return lora.modules == "attention"


def _called(backbone: nn.Module, example: Any) -> list[str]:
    """The names of the modules that can be adapted and are called, in their order."""
    able = {name: module for name, module in backbone.named_modules() if _able(module)}
    seen, hooks = set[str](), []
    for name, module in able.items():
        hooks.append(module.register_forward_pre_hook(lambda *_, name=name: seen.add(name)))
    try:
        with evaluating(backbone):
            backbone(example)
    finally:
        for hook in hooks:
            hook.remove()
    return [name for name in able if name in seen]


def _able(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return module.groups == 1 and tuple(module.kernel_size) == (1, 1)
    if isinstance(module, nn.MultiheadAttention):
        return bool(module._qkv_same_embed_dim)
    return isinstance(module, nn.Linear)


def _of_attention(module: Any) -> bool:
    return hasattr(module, "unload_and_optionally_merge_module")


def _keep(module: Any, _: Any) -> None:
    """peft adds the change to the weights of a `MultiheadAttention` before its forward pass and takes it out again
    behind it, which rounds; so the weights themselves are put aside."""
    base = module.get_base_layer()
    module._kept = (base.in_proj_weight, base.out_proj.get_base_layer().weight)


def _restore(module: Any, *_: Any) -> None:
    base = module.get_base_layer()
    for owner, name, kept in zip(
        (base, base.out_proj.get_base_layer()), ("in_proj_weight", "weight"), module._kept, strict=True
    ):
        delattr(owner, name)
        owner.register_parameter(name, kept)
    del module._kept
