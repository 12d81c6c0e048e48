"""Options of a loss that are learned with the encoder."""

import math

import torch
from torch import Tensor, nn

from pullpush.criterion import distributed
from pullpush.errors import UserError
from pullpush.maths.choice import Loss

__all__ = ["LearnedOptions"]

# A learned scale stays below this, a learned temperature above its inverse, as in CLIP.
LARGEST_SCALE = 100.0


class LearnedOptions(nn.ParameterDict):
    """Those that the loss's paper learns, by name, and one that a person asks for, as its logarithm, "log_" + name.

    Args:
        loss: gives the values to start from.
        learn: name of a positive option, or None.

    Raises:
        UserError: the loss has no such option, or its value is no number above 0.
    """

    def __init__(self, loss: Loss, learn: str | None) -> None:
        starts = {name: torch.as_tensor(loss.options[name], dtype=torch.float32) for name in loss.traits.learned}
        super().__init__({name: nn.Parameter(start) for name, start in starts.items()})
        self.learn = learn
        if learn is not None:
            start = loss.replace(**{learn: loss.options.get(learn)}).options[learn]
            if isinstance(start, (bool, str)) or not isinstance(start, (int, float)) or start <= 0:
                raise UserError(f"learn={learn!r}: an option is learned from a number above 0 on, not from {start!r}")
            self[f"log_{learn}"] = nn.Parameter(torch.tensor(float(start)).log())

    def current(self, ranks: int) -> dict[str, Tensor]:
        """Option to value, with a gradient that is averaged over the ranks."""
        values = {}
        for name, parameter in self.items():
            positive = self.learn is not None and name == f"log_{self.learn}"
            if positive:
                with torch.no_grad():
                    parameter.clamp_(-math.log(LARGEST_SCALE), math.log(LARGEST_SCALE))
            value = distributed.shared(parameter) if ranks > 1 else parameter
            values[str(self.learn) if positive else name] = value.exp() if positive else value
        return values
