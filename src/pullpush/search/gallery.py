"""The classes of an index, and who somebody is among them: a name with a probability, or unknown."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pullpush.encoders.decision import PRIOR, Decision
from pullpush.errors import UserError
from pullpush.evaluation.classes import closest_classes, prototypes
from pullpush.evaluation.knn import Floats
from pullpush.search.errors import BadQuery
from pullpush.search.stores import Vectors

__all__ = ["FAR", "Gallery", "Identity", "gallery_of"]

FAR = 1e-2
"""The false accept rate where nobody says another, and it can be told."""
LARGEST = 0.1
"""The largest that is taken instead, where the smallest that can be told is larger."""
MOST_ENROLLED = 1_000_000
ASKED = 10_000
"""The threshold is told from at most so many of the enrolled images, a fixed random choice."""
TOLD = 2
"""A false accept rate is told from at least so many classes that are accepted."""


@dataclass(frozen=True)
class Identity:
    """Who an image shows.

    Attributes:
        name: the class; None for unknown.
        closest: the closest class, whether or not it is close enough.
        probability: that the image shows the closest class; None where the model has no decision.
        score: of the closest class, the cosine with its prototype.
        threshold: the score from which on the class is named.
        far: the false accept rate that the threshold is for.
    """

    name: str | None
    closest: str
    probability: float | None
    score: float
    threshold: float
    far: float

    def as_dict(self) -> dict[str, Any]:
        """What `pullpush identify --json` prints of it."""
        return dict(vars(self))


@dataclass(frozen=True)
class Gallery:
    """The classes of one version of an index: the values of `label`; items without one are of none.

    Attributes:
        names: of the classes.
        prototypes: float32 `[classes, dim]`.
        strangers: `[n]`, descending: what each enrolled image scores with the closest of the other classes, as one
            would who is not enrolled. Empty where there is one class.
        above: float64 `[n]`, how many classes score above each of them; one with 3 of its 5 images counts 0.6.
        images: int64 `[classes]`, how many are enrolled of each.
    """

    names: list[str]
    prototypes: Floats
    strangers: Floats
    above: NDArray[np.float64]
    images: NDArray[np.int64]

    def threshold(self, far: float, decision: Decision | None = None) -> float:
        r"""The score from which on a class is named, so that of those who are not enrolled a share of `far` is.

        With N classes a stranger has N chances to be taken for somebody, so the threshold of a pair is of no use. It is
        told from the gallery itself: each enrolled image asks who it is among the *other* classes, where it is a
        stranger. It is the least score that no more than $\alpha (N + 1) - 1$ classes are above, the images of a class
        sharing one place, so that of strangers who are of one kind with the enrolled a share of $\alpha$ is named (as
        in conformal prediction: Vovk, Gammerman, Shafer 2005, Algorithmic learning in a random world; by classes, as
        the images of one are not independent).
        Where $\alpha (N + 1)$ is below 2, too few to tell well, what the validation classes of the model score with
        each other, enrolled with as many images each, counts besides (`Naming.threshold`). Bundles of earlier versions
        do not have this: there it is the threshold of a pair at $1 - (1 - \alpha)^{1/N}$, as though each class had one
        image.

        Args:
            far: above 0 and below 1.
            decision: of the model.

        Raises:
            BadQuery: `far` is out of its bounds, or can be told neither by the gallery nor by the decision.
        """
        if not 0 < far < 1:
            raise BadQuery(f"the false accept rate is {far:g}; it is above 0 and below 1, such as 0.01")
        classes = len(self.names)
        if len(self.strangers) and far * (classes + 1) >= TOLD - 1e-9:
            last = int(np.searchsorted(self.above, far * (classes + 1) - 1 + 1e-9, side="right")) - 1
            return float(np.nextafter(self.strangers[last], np.float32(2)))
        if decision is None:
            least = f"ask for at least {TOLD / (classes + 1):.2g}, " if classes > 1 else ""
            raise BadQuery(
                f"a false accept rate of {far:g} cannot be told from so few classes ({classes}), and the model has no "
                f"decision of its own: enrol more, {least}or train the model again with validation classes"
            )
        if decision.naming is not None:
            try:
                return decision.naming.threshold(far, self.images, self.strangers, self.above)
            except UserError as error:
                raise BadQuery(str(error)) from None
        pair = -math.expm1(math.log1p(-far) / classes)
        if pair < decision.fars[-1]:
            raise BadQuery(
                f"a false accept rate of {far:g} among {classes} classes can be told neither from these classes nor "
                "from the validation of the model: ask for more, or enrol more"
            )
        return decision.threshold(pair)

    def usual(self, decision: Decision | None = None) -> float:
        """The false accept rate where nobody says another: 0.01, or the smallest that can be told, if at most 0.1."""
        classes = len(self.names)
        least = TOLD / (classes + 1) if classes > 1 else 1.0
        if decision is not None and decision.naming is not None:
            least = min(least, decision.naming.least(self.images, self.strangers, self.above))
        elif decision is not None:
            least = min(least, -math.expm1(classes * math.log1p(-min(decision.fars[-1], 0.5))))
        rate = float(f"{1.05 * least:.2g}")  # with two digits, and not below
        return FAR if least <= FAR or rate > LARGEST else rate

    def identify(self, vectors: Floats, far: float | None = None, decision: Decision | None = None) -> list[Identity]:
        """Who each is.

        Args:
            vectors: float32 `[n, dim]`, of length 1.
            far: the false accept rate; None for the `usual` one.
            decision: of the model; without one there are no probabilities.

        Raises:
            BadQuery: as of `threshold`.
        """
        far = self.usual(decision) if far is None else far
        threshold = self.threshold(far, decision)
        scores = vectors @ self.prototypes.T
        chances = [None] * len(scores) if decision is None else self.probabilities(scores, decision).tolist()
        return [
            Identity(
                name=self.names[best] if row[best] >= threshold else None,
                closest=self.names[best],
                probability=chance,
                score=float(row[best]),
                threshold=threshold,
                far=far,
            )
            for row, best, chance in zip(scores, scores.argmax(axis=1).tolist(), chances, strict=True)
        ]

    def probabilities(self, scores: Floats, decision: Decision) -> NDArray[np.float64]:
        r"""The probability of the closest class, of those who score so with each class: `Naming.probabilities`.

        Of a model of an earlier version, by the same formula with the log likelihood ratio of a pair and no correction.

        Args:
            scores: `[n, classes]`, cosines with the prototypes.
            decision: of the model.

        Returns:
            float64 `[n]`.
        """
        if decision.naming is not None:
            return decision.naming.probabilities(scores, self.images)
        ratios = decision.probability(scores)
        ratios = ratios / np.maximum(1 - ratios, 1e-12)  # at a prior of 0.5, odds are likelihood ratios
        closest = np.take_along_axis(ratios, scores.argmax(axis=1)[:, None], axis=1)[:, 0]
        return np.asarray(closest / (len(self.names) * (1 - PRIOR) / PRIOR + ratios.sum(axis=1)), np.float64)


def gallery_of(table: pd.DataFrame, vectors: Vectors) -> Gallery:
    """The classes of a version.

    Args:
        table: with `id` and `label`, "" for none.
        vectors: the embeddings, by id.

    Raises:
        BadQuery: no item has a class, or too many have.
    """
    labelled = table[table["label"] != ""]
    if not len(labelled):
        raise BadQuery("nobody is enrolled: no item of this index has a class; enrol one with: pullpush enroll")
    if len(labelled) > MOST_ENROLLED:
        raise BadQuery(f"{len(labelled):,} items have a class; among more than {MOST_ENROLLED:,} nobody is identified")
    labels, names = pd.factorize(labelled["label"], sort=True)
    x = vectors.get(labelled["id"].to_numpy(np.int64))
    strangers, above = np.zeros(0, np.float32), np.zeros(0)
    if len(names) > 1:
        rows = np.sort(np.random.default_rng(0).permutation(len(x))[:ASKED])
        scores = closest_classes(x[rows], labels[rows], x, labels).other
        order = np.argsort(-scores, kind="stable")
        share = (1 / np.bincount(labels[rows], minlength=len(names)).clip(1))[labels[rows]][order]
        # of a sample that lacks some classes, as though all were in it
        share *= len(names) / len(np.unique(labels[rows]))
        strangers, above = scores[order], np.cumsum(share) - share
    return Gallery([str(name) for name in names], prototypes(x, labels)[1], strangers, above, np.bincount(labels))
