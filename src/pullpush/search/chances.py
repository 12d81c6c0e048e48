r"""How likely a hit is of the query's class, read from the hits that a collection has for its own items.

A model's `Decision` says how likely a pair is of one class among random pairs. A hit is no random pair: it is one of
the nearest. In crowds the nearest are oftener wrong than pairs with that score are on the whole, small classes fill few
of the places, and of large ones most pairs are in no list. So the log odds of a hit with the score $s$ are

$$\log \frac{P}{1 - P} = a + b \lambda(s)$$

where $\lambda$ is the decision's log ratio, and $a$ and $b$ have the least log loss over the nearest of some of the
collection's own items, whose labels say which of these are right (Platt 1999, with the ratio in the place of the
score). Where too few classes have two items that is $a = \log \frac{\pi}{1 - \pi}$, $b = 1$, with the share $\pi$ of
pairs of one class.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize

from pullpush.encoders.decision import PRIOR, Decision
from pullpush.search.stores import Vectors

__all__ = ["NEAREST", "PROBES", "Chances", "chances_of", "pair_share", "probed"]

PROBES, NEAREST = 256, 20
"""So many items of the collection are asked about, each with so many of its nearest."""
FEWEST = 10
"""Classes with two items, below which their hits tell nothing."""

Floats = NDArray[np.float64]


class Chances(NamedTuple):
    """The probability of a hit, of the model's decision and the two numbers of a collection."""

    decision: Decision
    shift: float
    slope: float

    def __call__(self, scores: NDArray[np.floating]) -> Floats:
        """Of hits with these scores."""
        return _sigmoid(self.shift + self.slope * self.decision.log_ratio(scores))


def chances_of(table: pd.DataFrame, vectors: Vectors, decision: Decision, probes: int = PROBES) -> Chances:
    """How hits in a collection are read.

    Args:
        table: with `id` and `label`, "" for none.
        vectors: the embeddings, by id.
        decision: of the model.
        probes: at most so many items are asked about, a fixed random choice.
    """
    share = pair_share(table["label"])
    if share is None:
        pairs = decision.positives + decision.negatives
        share = decision.positives / pairs if decision.positives and decision.negatives else PRIOR
    prior = float(np.log(share / (1 - share)))
    labels, ids = table["label"].to_numpy(), table["id"].to_numpy(np.int64)
    rows = probed(table, probes)
    if np.count_nonzero(table["label"][labels != ""].value_counts() > 1) < FEWEST:
        return Chances(decision, prior, 1.0)
    scores, found = vectors.search(vectors.get(ids[rows]), NEAREST + 1)
    place = pd.Index(ids).get_indexer(found.ravel()).reshape(found.shape)
    told = (place >= 0) & (found != ids[rows][:, None])
    told &= labels[place] != ""  # of an item without a label nobody knows whether it is right
    right = labels[place] == labels[rows][:, None]
    return Chances(decision, *_least_loss(decision.log_ratio(scores[told]), right[told], prior))


def probed(table: pd.DataFrame, probes: int = PROBES) -> NDArray[np.int64]:
    """The rows of the items that are asked about."""
    return np.random.default_rng(0).permutation(np.flatnonzero(table["label"] != ""))[:probes]


def pair_share(labels: "pd.Series[str]") -> float | None:
    """The share of pairs of items that are of one class; None where no two have one."""
    sizes = labels[labels != ""].value_counts().to_numpy(np.float64)
    pairs = float((sizes * (sizes - 1)).sum())
    return min(pairs / (len(labels) * (len(labels) - 1)), 0.999) if pairs else None


def _least_loss(ratios: Floats, right: NDArray[np.bool_], prior: float) -> tuple[float, float]:
    """Shift and slope. Each is held near what it is for random pairs as though by one hit."""

    def loss(line: Floats) -> tuple[float, Floats]:
        odds, off = line[0] + line[1] * ratios, line - (prior, 1)
        slope = _sigmoid(odds) - right
        value = np.logaddexp(0, odds).sum() - odds[right].sum() + off @ off / 2
        return float(value), np.array([slope.sum(), slope @ ratios]) + off

    found = minimize(loss, np.array([prior, 1.0]), jac=True, method="L-BFGS-B", bounds=[(None, None), (0, None)])
    return float(found.x[0]), float(found.x[1])


def _sigmoid(odds: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-odds)), np.float64)
