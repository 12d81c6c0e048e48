"""States of a module that hold only what learns, and what the rest was."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pullpush.errors import UserError
from pullpush.files.tensors import hash_tensors

__all__ = ["hold_what_learns"]

BASE = "base"
"""In such a state, the checksum of what does not learn: int64 [4]."""


def hold_what_learns(module: nn.Module) -> None:
    """From now on `state_dict` of the module leaves out the parameters that don't learn, and `load_state_dict` leaves
    them as they are, after a look whether they are the same.

    A backbone with adapters is large and stays as it is; its adapters are a few per cent.
    """
    frozen = {name: p for name, p in module.named_parameters() if not p.requires_grad}
    checksum = _checksum(frozen)

    def leave_out(_: nn.Module, state: dict[str, Any], prefix: str, *_more: Any) -> None:
        for name in frozen:
            state.pop(prefix + name, None)
        state[prefix + BASE] = checksum.clone()

    def fill_in(_: nn.Module, state: dict[str, Any], prefix: str, *_more: Any) -> None:
        if not torch.equal(state.pop(prefix + BASE, checksum).cpu(), checksum):
            raise UserError(
                "the checkpoint holds adapters of other weights than these of the backbone: put its weights "
                "(--encoder.weights, the installed package, the text model) back as they were"
            )
        for name, value in frozen.items():
            state.setdefault(prefix + name, value.detach())

    module.register_state_dict_post_hook(leave_out)  # type: ignore[no-untyped-call]
    module.register_load_state_dict_pre_hook(fill_in)  # type: ignore[no-untyped-call]


def _checksum(tensors: Mapping[str, Tensor]) -> Tensor:
    digest = hashlib.sha256()
    hash_tensors(digest, tensors.items())
    return torch.tensor([int.from_bytes(digest.digest()[at : at + 8], "little", signed=True) for at in range(0, 32, 8)])
