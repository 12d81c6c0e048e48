"""Averages of weights: a moving average along a run, and blends of the untrained weights with trained ones."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["SHARES", "MovingAverage", "blended"]

# Shares of the best weights in a blend with the untrained ones.
SHARES = (0.75, 0.5, 0.25)


class MovingAverage:
    r"""An average of what learns, which follows it over a horizon of $h$ steps:

        \bar\theta_t = \bar\theta_{t-1} + w_t (\theta_t - \bar\theta_{t-1}), \quad w_t = \max(1/t, 1/h)

    For the first $h$ steps that is their plain mean, then an exponential average with the decay $1 - 1/h$: the first
    weights have no more part in it than any others, so there is no bias to correct. Polyak and Juditsky 1992; Tarvainen
    and Valpola 2017 for the horizon that grows.

    Args:
        modules: their parameters that learn and their buffers are averaged, such as the statistics of a batch norm.
        horizon: steps.

    Attributes:
        values: the average of each tensor, in their order.
    """

    def __init__(self, modules: Iterable[nn.Module], horizon: float) -> None:
        self.horizon = max(1.0, horizon)
        self._live = [tensor for module in modules for tensor in _changing(module)]
        self.values = [tensor.detach().clone() for tensor in self._live]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights as they are after `step`, counted from 1; nothing waits for the device."""
        get_ema_multi_avg_fn(1 - max(1 / step, 1 / self.horizon))(self.values, self._live, step)

    def load(self, values: Sequence[Tensor]) -> None:
        """Goes on from the `values` of another time."""
        for mine, value in zip(self.values, values, strict=True):
            mine.copy_(value)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Meanwhile the modules have the average as their weights; a copy of one tensor at a time is made."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for live, value in zip(self._live, self.values, strict=True):
            kept = live.clone()
            live.copy_(value)
            value.copy_(kept)


def _changing(module: nn.Module) -> Iterator[Tensor]:
    """What of a module may change in training and can be averaged. Buffers that are not saved are constants, such as
    the mask of a transformer, whose infinities have no average."""
    saved = module.state_dict().keys()
    learned = (parameter for parameter in module.parameters() if parameter.requires_grad)
    buffers = (buffer for name, buffer in module.named_buffers() if name in saved)
    return (tensor for tensor in chain(learned, buffers) if tensor.is_floating_point())


def blended(start: Mapping[str, Tensor], trained: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    r"""$(1 - a)\,\theta_0 + a\,\theta_1$ of two states of one module (WiSE-FT, Wortsman et al. 2022).

    Args:
        start: the untrained state.
        trained: the same module trained. What is no floating-point number is taken from here, and so is its criterion:
            proxies and memory are no weights of a model.
        share: a, above 0 and below 1.
    """
    return {
        name: torch.lerp(start[name], value, share)
        if value.is_floating_point() and not name.startswith("criterion.")
        else value
        for name, value in trained.items()
    }
