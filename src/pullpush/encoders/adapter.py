"""Adapters of a backbone on disk, in the layout of peft: a few MB beside a base that lies elsewhere."""

import hashlib
from operator import itemgetter
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from pullpush.encoders.lora import merged
from pullpush.errors import UserError
from pullpush.extras import need
from pullpush.files.tensors import hash_tensors, read_safetensors

__all__ = ["CURE", "TENSORS", "checksum", "with_adapter", "write_adapter"]

TENSORS = "adapter_model.safetensors"
PREFIX = "base_model.model."
"""Before the names of modules in peft's files."""
CURE = "restore it from a copy, or write the model again from its run"


def checksum(backbone: nn.Module) -> str:
    """sha256 of the parameters of a backbone without adapters, their names among them."""
    digest = hashlib.sha256()
    hash_tensors(digest, sorted(backbone.named_parameters(), key=itemgetter(0)))
    return digest.hexdigest()


def write_adapter(backbone: nn.Module, folder: Path) -> None:
    """Writes the adapters of a backbone (`lora.add_adapters`) into a new folder.

    `PeftModel.from_pretrained(BASE, FOLDER)` reads them as well.
    """
    from peft import get_peft_model_state_dict

    folder.mkdir(parents=True)
    held: Any = backbone
    held.peft_config["default"].save_pretrained(str(folder))
    state = get_peft_model_state_dict(held)
    save_file({PREFIX + name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, folder / TENSORS)


def with_adapter(backbone: nn.Module, folder: Path, wanted: str, name: str) -> nn.Module:
    """The backbone with the adapters of a folder merged into its weights.

    Args:
        backbone: the base, as its library gives it.
        folder: that `write_adapter` wrote.
        wanted: the `checksum` of the base that the adapters were trained on.
        name: of the base, for messages.

    Raises:
        UserError: the base is another, the files are damaged, or the extra `lora` is missing.
    """
    need("lora")
    from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict

    if checksum(backbone) != wanted:
        raise UserError(
            f"the adapter in '{folder}' was trained on other weights than those that {name!r} has here: put these back "
            "(the package, the file or the folder that the run had), or train with --lora.keep merged"
        )
    tensors = read_safetensors(folder / TENSORS, CURE)
    try:
        inject_adapter_in_model(LoraConfig.from_pretrained(str(folder)), backbone)
        left: Any = set_peft_model_state_dict(backbone, {k.removeprefix(PREFIX): v for k, v in tensors.items()})
    except (KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        raise UserError(f"the adapter in '{folder}' is damaged ({error}): {CURE}") from error
    if left.unexpected_keys or len(tensors) != sum(".lora_" in each for each, _ in backbone.named_parameters()):
        raise UserError(f"the adapter in '{folder}' is damaged: its tensors are not those of its modules; {CURE}")
    return merged(backbone)
