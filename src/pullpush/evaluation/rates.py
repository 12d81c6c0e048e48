"""From counts of pairs to error rates: what is counted of how many pairs, and how the counts are read."""

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pullpush.encoders.decision import TOLD
from pullpush.evaluation.knn import Ints
from pullpush.evaluation.pairs import SIZE, Sides, cosine, sampled
from pullpush.evaluation.streaming import COLUMNS, Counts, Plan, stream

__all__ = ["FULL", "Found", "Sample", "at_rate", "counted", "curve", "equal_error", "histogram"]

FULL = 1 << 24
"""Of so many pairs each is added to the counts; of more, those that matter (`streaming`)."""

SAMPLE = 1 << 20
EXACT = 1e-3
"""The share of pairs of different classes of which each is counted for its classes."""

ERRORS = 6
"""Standard errors of independent pairs by which floor and zone are wider than the sample says; its pairs are not quite
independent."""

Floats = NDArray[np.float64]
Sample = tuple[Ints, Ints]


class Found(NamedTuple):
    """A rate, and the place of its threshold."""

    value: float
    place: int


def counted(sides: Sides, fars: tuple[float, ...], seed: int = 0) -> tuple[Counts, Sample]:
    """The counts that settle the equal error rate and the thresholds of these rates, and the sample they began with.

    Another pass, seldom needed, adds more of the pairs one by one where the sample misled, the last all of them.
    """
    sample = sampled(sides, min(SAMPLE, 4 * sides.count), seed)
    for errors in (ERRORS, 4 * ERRORS, math.inf):
        counts = stream(sides, _plan(sides, sample, fars, errors))
        counts = replace(counts, above=_filled(counts.above))
        if _settled(counts, fars):
            break
    return counts, sample


def equal_error(counts: Counts) -> Found:
    """Where the DET curve crosses FAR = FRR, and the least threshold with FAR <= FRR."""
    low, high = _crossing(counts)
    (far, frr), (next_far, next_frr) = (_errors(counts, np.array(at)) for at in (low, high))
    share = (far - frr) / ((far - frr) - (next_far - next_frr))
    return Found(float(far + share * (next_far - far)), _last_accepted(counts, high))


def at_rate(counts: Counts, far: float) -> Found:
    """The largest true accept rate of the thresholds with at most this false accept rate; NaN where that is of fewer
    than `TOLD` pairs."""
    allowed = far * counts.above[0] * (1 + 1e-12)
    if allowed < TOLD:
        return Found(np.nan, SIZE)
    at = int(np.searchsorted(-counts.above[counts.floor :], -allowed)) + counts.floor
    return Found(float(counts.same[at] / counts.same[0]), _last_accepted(counts, at))


def curve(counts: Counts, sample: Sample, points: int = 400) -> pd.DataFrame:
    """`threshold`, `far`, `tar` at about so many thresholds, ascending."""
    far, tar = _reaching(counts, sample)[:SIZE], counts.same[:SIZE] / counts.same[0]
    wanted = np.geomspace(0.5 / counts.above[0], 1, points)
    near = [np.searchsorted(-far, -wanted), np.searchsorted(-tar, -np.linspace(0, 1, points)), np.array([0, SIZE])]
    at = np.unique(np.concatenate(near).clip(max=SIZE - 1))
    return pd.DataFrame({"threshold": cosine(at), "far": far[at], "tar": tar[at]})


def histogram(counts: Counts, sample: Sample, bins: int = 200) -> pd.DataFrame:
    """Shares of the pairs in bins of cosines: `low`, `high`, `same`, `different`."""
    edges = np.linspace(0, SIZE - 1, bins + 1).astype(np.int64)
    edges[-1] = SIZE
    reach, same = _reaching(counts, sample)[edges], counts.same[edges] / counts.same[0]
    low, high = cosine(edges[:-1]), cosine(np.minimum(edges[1:], SIZE - 1))
    return pd.DataFrame({"low": low, "high": high, "same": -np.diff(same), "different": -np.diff(reach)})


def _reaching(counts: Counts, sample: Sample) -> Floats:
    """The share of the pairs of different classes that reach each place; where they were not counted, as the sample
    says, within what is known of the places above and below."""
    known = counts.above >= 0
    share = 1 - np.searchsorted(np.sort(sample[1]), np.arange(SIZE + 1)) / len(sample[1])
    share[known] = counts.above[known] / counts.above[0]
    least = np.maximum.accumulate(np.where(known, share, 0)[::-1])[::-1]
    most = np.minimum.accumulate(np.where(known, share, 1))
    return np.asarray(np.clip(share, least, most))


def _plan(sides: Sides, sample: Sample, fars: tuple[float, ...], errors: float) -> Plan:
    """What to count one by one; as much more as there are standard errors of the sample."""
    same, different = (np.sort(each) for each in sample)
    tail = np.linspace(np.quantile(different, 1 - 1e-5), max(same[-1], different[-1]), 16)
    deciles = np.quantile(same, np.linspace(0.02, 0.98, 13))
    levels = np.concatenate([_reached_by(different, np.geomspace(1e-5, 0.3, 46)), deciles, tail])
    if sides.count <= FULL or errors == math.inf:
        return _made(0, None, np.concatenate([levels, _reached_by(different, np.linspace(0.3, 0.98, 9))]))
    largest = max(fars, default=1e-3)
    floor = int(_reached_by(different, largest + errors * np.sqrt(largest / len(different))))
    zone = _zone(same, different, errors)
    inner = _reached_by(different, np.array([0.3 if zone[0] < floor else 0.1]))
    levels = np.concatenate([levels, inner])
    every = max(1, min(16, len(sides.gallery) // COLUMNS // 3))
    exact = int(_reached_by(different, EXACT))
    return _made(floor, zone, levels[(levels >= floor) | np.isin(levels, inner)], every, exact)


def _made(floor: int, zone: tuple[int, int] | None, wanted: NDArray[Any], every: int = 1, exact: int = 0) -> Plan:
    """A plan of these, brought to what `Plan` asks for."""
    levels: Ints = np.unique(np.rint(wanted).astype(np.int64).clip(1, SIZE - 1))
    if zone and zone[1] >= floor:
        floor, zone = min(floor, zone[0]), None
    if zone:
        levels = np.union1d(levels[(levels <= zone[0]) | (levels >= zone[1])], zone)
    return Plan(floor, zone, levels, every, exact)


def _reached_by(places: Ints, share: NDArray[np.float64] | float) -> Ints:
    """Places that such a share of sorted places reach."""
    return np.asarray(places[np.floor((1 - np.minimum(share, 1.0)) * (len(places) - 1)).astype(np.int64)])


def _zone(same: Ints, different: Ints, errors: float) -> tuple[int, int]:
    """Where the equal error rate lies, by sorted samples."""
    ends = min(same[0], different[0]), max(same[-1], different[-1]) + 1
    at = np.unique(np.linspace(*ends, 1 << 16).astype(np.int64))
    far = 1 - np.searchsorted(different, at) / len(different)
    frr = np.searchsorted(same, at) / len(same)
    middle = float(frr[np.argmin(np.abs(far - frr))])
    error = np.sqrt(max(middle * (1 - middle), 1e-4) * (1 / len(same) + 1 / len(different)))
    near = at[np.abs(far - frr) <= errors * error]
    return (int(near[0]), int(near[-1]) + 1) if len(near) else (int(at[0]), int(at[0]) + 1)


def _filled(above: Ints) -> Ints:
    """Counts between two known ones that are equal are that, too."""
    places, known = np.arange(len(above)), above >= 0
    low = np.maximum.accumulate(np.where(known, places, 0))
    high = np.minimum.accumulate(np.where(known, places, len(above) - 1)[::-1])[::-1]
    return np.where(above[low] == above[high], above[low], -1)


def _errors(counts: Counts, at: Ints) -> tuple[Floats, Floats]:
    """FAR and FRR of thresholds at these places."""
    return counts.above[at] / counts.above[0], 1 - counts.same[at] / counts.same[0]


def _crossing(counts: Counts) -> tuple[int, int]:
    """The known places, next to each other, between which FAR - FRR becomes 0 or less; 1 apart where settled."""
    known = np.flatnonzero(counts.above >= 0)
    far, frr = _errors(counts, known)
    at = int(np.argmax(far <= frr))
    return int(known[at - 1]), int(known[at])


def _settled(counts: Counts, fars: tuple[float, ...]) -> bool:
    """Whether what was counted tells the equal error rate and the thresholds of these rates."""
    low, high = _crossing(counts)
    rates = counts.floor == 0 or all(counts.above[counts.floor] > far * counts.above[0] for far in fars)
    return rates and high - low <= 1


def _last_accepted(counts: Counts, at: int) -> int:
    """The place of the last pair that a threshold at this place accepts; SIZE where it accepts none."""
    accepted = counts.same[at] + counts.above[at]
    if not accepted:
        return SIZE
    known = counts.above[at:] >= 0
    fewer = int(np.argmax(~known | (counts.same[at:] + counts.above[at:] < accepted)))
    return at + fewer - 1 if known[fewer] else at
