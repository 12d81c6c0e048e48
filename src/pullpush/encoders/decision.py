"""How cosines of a model are read: as a probability that two items are of one class, and against a threshold.

A cosine of 0.6 means one thing to one model and another to the next. A `Decision` is fitted on the validation classes
of a run (`evaluation.calibration`), and kept in the model's bundle.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pullpush.bounds import check, types_of
from pullpush.encoders.naming import Naming
from pullpush.errors import UserError

__all__ = ["PRIOR", "TOLD", "Decision"]

PRIOR = 0.5
"""Share of pairs of one class among those that are asked about, where nobody says another."""

TOLD = 10
"""A false accept rate is told from at least so many false accepts."""


@dataclass(frozen=True)
class Decision:
    r"""What scores mean, of the cosine $s$ of two embeddings of one model.

    With $\lambda(s) = \log \frac{p(s \mid \text{same})}{p(s \mid \text{different})}$ and the prior $\pi$, the share of
    pairs of one class among those that are asked about,

    $$P(\text{same} \mid s) = \frac{1}{1 + \exp(-\lambda(s) - \log \frac{\pi}{1 - \pi})}$$

    $\lambda$ is linear between the points that are kept, and constant outside; so is the threshold over the logarithm
    of the false accept rate.

    Attributes:
        method: by which it was fitted, "logistic" or "isotonic".
        scores: cosines, ascending, at least 2.
        log_ratios: $\lambda$ at these, in nats; never descending.
        thresholds: cosines, ascending; the last is of the smallest rate that the pairs could tell.
        fars: the share of pairs of different classes with at least that cosine, descending.
        classes: that it was fitted on.
        positives: pairs of one class among their items.
        negatives: pairs of different classes.
        losses: what decided for the method: by the name of each, the log loss on classes left out of its fit, in nats,
            at a prior of 0.5 (0.69: it knows nothing).
        naming: how scores of enrolled classes are read; None in bundles of earlier versions.

    Raises:
        UserError: the points are not finite numbers in their order.
    """

    method: str
    scores: tuple[float, ...]
    log_ratios: tuple[float, ...]
    thresholds: tuple[float, ...]
    fars: tuple[float, ...]
    classes: int = 0
    positives: int = 0
    negatives: int = 0
    losses: Mapping[str, float] = field(default_factory=dict)
    naming: Naming | None = None

    def __post_init__(self) -> None:
        for name, kind in types_of(Decision).items():
            object.__setattr__(self, name, check(f"{name} of a decision", getattr(self, name), kind))
        _check_curve("scores", self.scores, "log_ratios", self.log_ratios, least=2, rising=1)
        _check_curve("thresholds", self.thresholds, "fars", self.fars, least=1, rising=-1)
        if not all(0 < far <= 1 for far in self.fars):
            raise UserError(f"fars of a decision must be above 0 and at most 1, they are {self.fars}")

    def probability(self, scores: ArrayLike, prior: float = PRIOR) -> NDArray[np.float64]:
        """The calibrated probability that two items are of one class.

        Args:
            scores: cosines of pairs, of any shape.
            prior: share of pairs of one class among those that are asked about, above 0 and below 1. 0.5: as many are
                of one class as not. 0.001: one pair in a thousand is.

        Returns:
            float64, of the shape of `scores`; NaN where a score is.

        Raises:
            UserError: the prior is out of its bounds.
        """
        if not 0 < prior < 1:
            raise UserError(f"prior must be a number above 0 and below 1, not {prior!r}")
        return np.asarray(1 / (1 + np.exp(-self.log_ratio(scores) - np.log(prior / (1 - prior)))))

    def log_ratio(self, scores: ArrayLike) -> NDArray[np.float64]:
        r"""$\lambda$ of cosines, in nats; float64, of the shape of `scores`."""
        return np.asarray(np.interp(np.asarray(scores, np.float64), self.scores, self.log_ratios))

    def threshold(self, far: float) -> float:
        """The cosine from which on a pair is called the same, so that a share of `far` (the false accept rate) of the
        pairs of different classes is.

        Args:
            far: above 0 and below 1, such as 0.001.

        Raises:
            UserError: `far` is out of its bounds, or smaller than the pairs of the validation could tell.
        """
        if not 0 < far < 1:
            raise UserError(f"the false accept rate must be a number above 0 and below 1, not {far!r}")
        if far < self.fars[-1] * (1 - 1e-9):
            raise UserError(
                f"a false accept rate of {far:g} can't be told from the {self.negatives:,} pairs of different classes "
                f"of the validation: ask for at least {self.fars[-1]:.2g}, or train with more validation classes "
                "(--data.validation)"
            )
        return float(np.interp(-np.log(far), -np.log(self.fars), self.thresholds))

    def values(self) -> dict[str, Any]:
        """As JSON has it; `Decision.of` reads it."""
        return asdict(self)

    @classmethod
    def of(cls, values: Any) -> "Decision":
        """Made of what `values` gave; names that this version does not know are passed over.

        Raises:
            UserError: something is missing, or not what it should be.
        """
        if not isinstance(values, Mapping):
            raise UserError(f"a decision must be a mapping of names to values, not {type(values).__name__}")
        known = [each.name for each in fields(cls)]
        missing = next((name for name in known[:5] if name not in values), None)
        if missing is not None:
            raise UserError(f"a decision has no {missing!r}")
        given = {name: values[name] for name in known if name in values}
        return cls(**given | {"naming": None if given.get("naming") is None else Naming.of(given["naming"])})


def _check_curve(x_name: str, x: tuple[float, ...], y_name: str, y: tuple[float, ...], least: int, rising: int) -> None:
    """Raises `UserError` unless x ascends and y goes along with it, up (rising 1) or down (-1)."""
    if len(x) < least or len(x) != len(y):
        raise UserError(f"a decision has {len(x)} {x_name} and {len(y)} {y_name}; as many of both, at least {least}")
    if not (np.diff(x) > 0).all():
        raise UserError(f"{x_name} of a decision must ascend, they are {x[:9]}")
    if not (rising * np.diff(y) >= 0).all():
        raise UserError(f"{y_name} of a decision must {'ascend' if rising > 0 else 'descend'}, they are {y[:9]}")
