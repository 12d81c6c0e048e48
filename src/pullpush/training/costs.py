"""What a run learns, and the memory that this takes."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import chain

from torch import nn

__all__ = ["Costs", "costs_of"]

MOMENTS = 2
"""Of AdamW, of the size of what learns each."""


@dataclass(frozen=True)
class Costs:
    """Of the model of a run.

    Attributes:
        parameters: of all its encoders and of the criterion.
        learned: those that learn.
        bytes: of the weights, and of what learns the gradients and the state of the optimiser. Activations, which
            depend on the batch, are beside them.
    """

    parameters: int
    learned: int
    bytes: int

    def values(self) -> dict[str, int]:
        """As metrics.json has them."""
        return asdict(self)

    def __str__(self) -> str:
        share = 100 * self.learned / max(1, self.parameters)
        return (
            f"{self.learned:,} of {self.parameters:,} parameters learn ({share:.3g}%): weights, gradients and the "
            f"optimiser's state take {self.bytes / 1e6:,.0f} MB, beside the activations"
        )


def costs_of(modules: Iterable[nn.Module]) -> Costs:
    """Of modules that share no parameters."""
    parameters = list(chain.from_iterable(module.parameters() for module in modules))
    learned = [p for p in parameters if p.requires_grad]
    whole, grown = (sum(p.numel() * p.element_size() for p in each) for each in (parameters, learned))
    return Costs(sum(p.numel() for p in parameters), sum(p.numel() for p in learned), whole + (1 + MOMENTS) * grown)
