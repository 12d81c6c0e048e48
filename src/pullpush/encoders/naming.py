"""How the scores of enrolled classes are read: from which one on a class is named, and how likely the name is right.

A `Naming` is fitted on the validation classes of a run (`evaluation.galleries`), and kept in the model's `Decision`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logsumexp

from pullpush.bounds import check, types_of
from pullpush.errors import UserError

__all__ = ["Naming", "features"]

PRIOR = 0.5
"""Share of those who ask that are enrolled."""
TOLD = 0.5
"""A rate is told from at least so many accepts: one pair of classes that are close counts about so much."""
STEPS = 1000
"""Thresholds that are looked at."""

Floats = NDArray[np.float64]
NONE = np.zeros(0)


@dataclass(frozen=True)
class Naming:
    r"""What strangers, and others, score with classes of s enrolled images each.

    $p_s(t)$ is the chance that an image of a class that is not enrolled scores at least t with a class of s images. Of
    the classes c of a gallery, with $s_c$ images each, at least one scores so with the probability

    $$R(t) = 1 - \prod_c (1 - p_{s_c}(t))$$

    as though these chances were independent, which is never below the truth on average (some strangers are close to
    many classes: by Jensen's inequality). $K_s(t)$ is the number of independent accepts by which $p_s(t)$ is known as
    well as it is, $K(t)$ its mean over the classes.

    All are kept at a few s and t: between them thresholds of one chance are linear in $1/s$ and in the logarithm of the
    chance.

    Attributes:
        shots: numbers s of images, ascending.
        chances: descending.
        thresholds: `[shots][chances]`, cosines, ascending; the last chances have none where they could not be told.
        accepts: K at these.
        ratios: `[shots]`, the log likelihood ratio $\lambda_s$ of a score, a straight line: at the cosines -1 and 1.
        weights: by which the odds that a name is right are corrected, see `probabilities`.

    Raises:
        UserError: the numbers are not in their order, or not as many as they must be.
    """

    shots: tuple[int, ...]
    chances: tuple[float, ...]
    thresholds: tuple[tuple[float, ...], ...]
    accepts: tuple[tuple[float, ...], ...]
    ratios: tuple[tuple[float, float], ...]
    weights: tuple[float, float, float]

    def __post_init__(self) -> None:
        for name, kind in types_of(Naming).items():
            object.__setattr__(self, name, check(f"{name} of a naming", getattr(self, name), kind))
        if not self.shots or min(self.shots) < 1 or not (np.diff(self.shots) > 0).all():
            raise UserError(f"shots of a naming must ascend from 1, they are {self.shots[:9]}")
        if not all(0 < each < 1 for each in self.chances) or not (np.diff(self.chances) < 0).all():
            raise UserError(f"chances of a naming must descend between 1 and 0, they are {self.chances[:9]}")
        lengths = [len(row) for row in self.thresholds]
        if len(lengths) != len(self.shots) or max(lengths) > len(self.chances):
            raise UserError("a naming needs thresholds for each of its shots, at most as many as it has chances")
        if any((np.diff(row) < 0).any() for row in self.thresholds):
            raise UserError("thresholds of a naming must ascend")
        if [len(row) for row in self.accepts] != lengths or any(each <= 0 for row in self.accepts for each in row):
            raise UserError("a naming needs as many accepts as thresholds, all above 0")
        if len(self.ratios) != len(self.shots):
            raise UserError("a naming needs ratios for each of its shots")

    def threshold(
        self, far: float, images: NDArray[np.int64], strangers: ArrayLike = NONE, above: ArrayLike = NONE
    ) -> float:
        r"""The score from which on a class is named, so that at most a share of `far` of strangers is.

        R(t) is known as well as from $K(t) / R(t)$ strangers of whom $K(t)$ are named. The enrolled are strangers to
        each other's classes: of N classes, k(t) are named. With $a = k(t) + K(t)$ accepts that are seen, it is the
        least t for which

        $$\frac{a + \sqrt a + 1}{N + K(t) / R(t)} \le \alpha$$

        One accept more, as in conformal prediction, and a standard error: few pairs of classes make most of a small
        rate, and a draw of classes lacks such pairs more often than it has too many.

        Args:
            far: $\alpha$, above 0 and below 1.
            images: of each enrolled class, how many, `[classes]`.
            strangers: `[n]`, descending: what the enrolled images score with the closest of the other classes; without
                them k and N are 0.
            above: `[n]`, how many classes score above each of them.

        Raises:
            UserError: `far` is out of its bounds, or smaller than can be told from so few accepts.
        """
        if not 0 < far < 1:
            raise UserError(f"the false accept rate must be a number above 0 and below 1, not {far!r}")
        scores, share = self._shares(images, strangers, above)
        if far < (least := share.min(initial=1.0)):
            raise UserError(
                f"a false accept rate of {far:g} among {len(images)} classes can't be told from these and the "
                f"validation classes of the model: ask for at least {min(1.05 * least, 0.99):.2g}, or enrol more"
            )
        return float(scores[np.argmax(share <= far)])

    def least(self, images: NDArray[np.int64], strangers: ArrayLike = NONE, above: ArrayLike = NONE) -> float:
        """The smallest rate that can be told; 1 where none can. Args: as of `threshold`."""
        return float(self._shares(images, strangers, above)[1].min(initial=1.0))

    def _shares(self, images: NDArray[np.int64], strangers: ArrayLike, above: ArrayLike) -> tuple[Floats, Floats]:
        """Thresholds, ascending, and the share of strangers that is reckoned to be named at each."""
        scores, rate, known = self._strangers(images)
        own = np.asarray(strangers, np.float64)
        count = len(images) if len(own) else 0
        named = np.append(above, count)[np.searchsorted(-own, -scores, side="right")]
        accepts = named + known
        share = (accepts + np.sqrt(accepts) + 1) / (count + known / rate)
        return scores, np.where(accepts >= TOLD * (1 - 1e-9), share, 1.0)

    def probabilities(self, scores: NDArray[np.float32], images: NDArray[np.int64]) -> Floats:
        r"""The probability that the closest class is the right one, of those who score so with each class.

        With as many strangers as enrolled among those who ask ($\pi = 0.5$), all of them equally often, and independent
        scores $s_j$ of the N classes, by Bayes the odds of the closest class c are

        $$O = \frac{e^{\lambda(s_c)}}{N (1 - \pi) / \pi + \sum_{j \ne c} e^{\lambda(s_j)}}$$

        and with the weights w, as scores are not independent, $\log O' = w_0 + w_1 \log O + w_2 \log N$.

        Args:
            scores: `[n, classes]`, cosines with the prototypes.
            images: of each class, how many are enrolled, `[classes]`.

        Returns:
            float64 `[n]`.
        """
        sizes, of = np.unique(images, return_inverse=True)
        lines = np.array([self._line(size) for size in sizes.tolist()])[of]
        constant, *slopes = self.weights
        return np.asarray(expit(constant + features(scores, lines) @ slopes), np.float64)

    def _line(self, images: int) -> Floats:
        """The ratios of a class with so many images: linear in 1 / s, those of the most images beyond."""
        low, high = np.array(self.ratios).T
        at, of = -1 / np.array(self.shots), -1 / images
        return np.array([np.interp(of, at, low), np.interp(of, at, high)])

    def _strangers(self, images: NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
        """Thresholds, ascending, as far as all numbers of images are told, with R and K."""
        sizes, counts = np.unique(images, return_counts=True)
        curves = [self._curve(size) for size in sizes.tolist()]
        if not all(len(each[0]) for each in curves):
            return NONE, NONE, NONE
        scores = np.linspace(min(t[0] for t, _ in curves), min(t[-1] for t, _ in curves), STEPS)
        log_chances = np.log(self.chances)
        chances = np.exp([np.interp(scores, t, log_chances[: len(t)]) for t, _ in curves])
        known = np.exp([np.interp(scores, t, np.log(k)) for t, k in curves])
        return scores, -np.expm1(counts @ np.log1p(-chances)), counts @ known / counts.sum()

    def _curve(self, images: int) -> tuple[Floats, Floats]:
        """Thresholds and accepts at `chances`, as far as they are told, of a class with so many images."""
        if len(self.shots) == 1:
            return np.array(self.thresholds[0]), np.array(self.accepts[0])
        last = int(np.clip(np.searchsorted(self.shots, images), 1, len(self.shots) - 1))
        few, many = self.shots[last - 1 : last + 1]
        towards = max(0.0, (1 / few - 1 / images) / (1 / few - 1 / many))
        length = min(len(each) for each in self.thresholds[last - 1 : last + 1])
        a, b, k, m = (
            np.array(rows[at][:length]) for rows in (self.thresholds, self.accepts) for at in (last - 1, last)
        )
        return (1 - towards) * a + towards * b, np.minimum(k, m)

    def values(self) -> dict[str, Any]:
        """As JSON has it; `Naming.of` reads it."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def of(cls, values: Any) -> "Naming":
        """Made of what `values` gave; names that this version does not know are passed over.

        Raises:
            UserError: something is missing, or not what it should be.
        """
        if not isinstance(values, Mapping):
            raise UserError(f"a naming must be a mapping of names to values, not {type(values).__name__}")
        known = [each.name for each in fields(cls)]
        missing = next((name for name in known if name not in values), None)
        if missing is not None:
            raise UserError(f"a naming has no {missing!r}")
        return cls(**{name: values[name] for name in known})


def features(scores: NDArray[np.float32], lines: Floats) -> Floats:
    """Of those who score so with each of N classes: the log odds of the closest class by Bayes, and log N, `[n, 2]`.

    Args:
        scores: `[n, N]`.
        lines: `[N, 2]`, the log likelihood ratio of each class at the cosines -1 and 1.
    """
    ratios = lines[:, 0] + (scores + 1) / 2 * (lines[:, 1] - lines[:, 0])
    rows, best, count = np.arange(len(scores)), scores.argmax(axis=1), scores.shape[1]
    closest = ratios[rows, best]
    ratios[rows, best] = np.log(count * (1 - PRIOR) / PRIOR)  # in its place: nobody
    return np.column_stack([closest - logsumexp(ratios, axis=1), np.full(len(scores), np.log(count))])
