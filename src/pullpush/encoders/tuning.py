"""What of an encoder learns: its head alone, the last stages of its backbone, adapters of it, or all."""

from typing import Any, Literal

from torch.nn.modules.batchnorm import _BatchNorm

from pullpush.encoders.adapter import checksum
from pullpush.encoders.encoder import Encoder, seeded
from pullpush.encoders.lora import Lora, add_adapters
from pullpush.encoders.stages import freeze_stages, stages
from pullpush.errors import UserError

__all__ = ["Tune", "checkpoint_gradients", "tune"]

Tune = Literal["auto", "head", "last-stages", "lora", "all"]


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
        if encoder.lora.keep == "adapter":
            encoder.base = _base(encoder)
        with seeded(seed):
            add_adapters(encoder.backbone, encoder.lora, encoder.example(), encoder.name)
    encoder.frozen_stages = count
    encoder.train()


def _base(encoder: Encoder) -> str:
    """The checksum of the backbone, to which adapters that are kept apart belong.

    Raises:
        UserError: nobody else has this backbone, or more of it changes than its adapters.
    """
    if encoder.loaded is not None and encoder.loaded.source == "none":
        raise UserError("adapters of random weights fit nothing that others have: give --lora.keep merged")
    if _learns_statistics(encoder):
        raise UserError(
            f"batch norms of {encoder.name!r} learn statistics, which have no place in an adapter: keep those of the "
            "weights (frozen_norm), or give --lora.keep merged"
        )
    return checksum(encoder.backbone)


def _learns_statistics(encoder: Encoder) -> bool:
    """Whether batch norms of the backbone do so in training, in which the encoder is then."""
    return any(isinstance(each, _BatchNorm) and each.training for each in encoder.train().backbone.modules())


def checkpoint_gradients(encoder: Encoder) -> None:
    """From now on the backbone keeps only the inputs of its blocks in a forward pass, and computes the rest once more
    for the gradients: less memory, about a third more time, and the same gradients.

    Source: Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016.

    Raises:
        UserError: the backbone can't do that, or has batch norms that learn statistics, which the second pass would
            count again.
    """
    backbone: Any = encoder.backbone
    enable = getattr(backbone, "set_grad_checkpointing", None)
    # transformers has a new name for it; a text model of sentence-transformers holds one of transformers
    names = ("activation_checkpointing", "gradient_checkpointing")
    held = [(each, name) for each in backbone.modules() for name in names if hasattr(each, f"{name}_enable")]
    if _learns_statistics(encoder):
        raise UserError(
            "gradient checkpointing would count each batch twice in the statistics of the batch norms of "
            f"{encoder.name!r}: keep those of the weights (frozen_norm), or leave it out"
        )
    try:
        if enable is not None:
            enable(True)
        elif held:
            model, name = next((each for each in held if each[1] == names[0]), held[-1])
            getattr(model, f"{name}_enable")(**{f"{name}_kwargs": {"use_reentrant": False}})
        else:
            raise ValueError("it has no such function")
    except UserError:  # of a backbone that says it itself
        raise
    except (AssertionError, ValueError) as error:
        raise UserError(f"{encoder.name!r} can't checkpoint gradients ({error}): leave it out") from error
