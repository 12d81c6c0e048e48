"""Repeats over seeds: what is said of them, and of the difference between two settings."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

__all__ = ["ENOUGH", "Spread", "differences", "meaning", "paired", "shown", "spread", "where"]

ENOUGH = 4
"""Fewer repeats than these are shown as they are: Student's t of two or three says next to nothing."""


class Spread(NamedTuple):
    """Repeats of a number: their mean, what they span or the interval of the mean, and the repeats themselves."""

    mean: float
    low: float
    high: float
    runs: tuple[float, ...]

    @property
    def is_interval(self) -> bool:
        return len(self.runs) >= ENOUGH

    def formatted(self, form: str = ".3f") -> str:
        """`0.485 (0.471 to 0.499)`, of fewer than four `0.485 (0.480, 0.490)`, of one `0.485`."""
        if not self.runs:
            return "–"
        mean, low, high, *runs = (shown(value, form) for value in (*self[:3], *self.runs))
        if len(runs) == 1:
            return mean
        return f"{mean} ({f'{low} to {high}' if self.is_interval else ', '.join(runs)})"


def shown(value: float, form: str) -> str:
    """A number as a format says; what is rounded to zero has no sign."""
    text = f"{value:{form}}"
    return text if float(text) else text.lstrip("+-")


def spread(values: ArrayLike, least: float = 0.0, most: float = np.inf) -> Spread:
    """Mean of repeats, with its 95% interval by Student's t from four on, else with the range that they span.

        mean ± t(0.975, n - 1) s / sqrt(n)

    Args:
        values: [n]; NaN is no repeat.
        least, most: ends that the quantity cannot pass: 0 for times and counts, 0 and 1 for fractions.
    """
    from scipy.stats import t

    numbers = np.asarray(values, dtype=np.float64)
    numbers = numbers[~np.isnan(numbers)]
    n, runs = len(numbers), tuple(numbers.tolist())
    if not n:
        return Spread(np.nan, np.nan, np.nan, runs)
    mean = float(numbers.mean())
    if n < ENOUGH:
        return Spread(mean, float(numbers.min()), float(numbers.max()), runs)
    half = float(t.ppf(0.975, n - 1) * numbers.std(ddof=1) / np.sqrt(n))
    return Spread(mean, max(mean - half, least), min(mean + half, most), runs)


def paired(one: pd.Series, other: pd.Series) -> Spread:
    """`other` less `one`, seed by seed (their index); a seed that only one of them has is left out."""
    return spread((other - one).dropna().to_numpy(), -np.inf)


def differences(
    table: pd.DataFrame, settings: Sequence[str], baseline: Mapping[str, object], metric: str
) -> list[tuple[dict[str, object], Spread]]:
    """What every other setting has more than `baseline` in a metric, paired by seed.

    Runs of a seed share classes, batches and the start of the head, so a pair differs in its setting alone.
    """
    by = {key: part.set_index("seed")[metric] for key, part in table.groupby(list(settings), sort=False)}
    own = tuple(baseline[name] for name in settings)
    return [
        (dict(zip(settings, key, strict=True)), paired(by[own], values)) for key, values in by.items() if key != own
    ]


def meaning(counts: Iterable[int]) -> str:
    """What stands in brackets and in bands, for settings of so many repeats each."""
    repeats = set(counts)
    if repeats <= {1}:
        return "One repeat: small differences say nothing. Give --seeds 4 or more."
    sentences = []
    if max(repeats) >= ENOUGH:
        sentences.append("Intervals (a to b) and bands are 95% by Student's t over the seeds.")
    if any(1 < n < ENOUGH for n in repeats):
        sentences.append(
            "Of fewer than four repeats the runs themselves are given (a, b) and drawn: so few have no interval that "
            "says anything."
        )
    return " ".join(sentences)


def where(setting: Mapping[str, object]) -> str:
    """`circle, margin 0.4`: a setting in words, names of losses as they are."""
    return ", ".join(
        str(value) if name == "loss" else f"{name} {value:g}" if isinstance(value, int | float) else f"{name} {value}"
        for name, value in setting.items()
    )
