"""From the embeddings of queries to their hits: many that look in one version among the same items read it once."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pullpush.encoders.decision import Decision
from pullpush.encoders.rerank import Rerank
from pullpush.search import reranking
from pullpush.search.calibration import closeness
from pullpush.search.hits import Hits
from pullpush.search.published import Version
from pullpush.search.query import MOST, SearchQuery

__all__ = ["Lookup", "find"]

Answer = tuple[np.ndarray, np.ndarray]
"""Scores and rows of the table, closest first."""


@dataclass(frozen=True)
class Lookup:
    """A query that was checked and embedded.

    Attributes:
        version: that it looks in.
        vector: float32 `[dim]`, of length 1.
        query: what was asked for.
        decision: how its scores are read; None where they are not.
    """

    version: Version
    vector: np.ndarray
    query: SearchQuery = field(default_factory=SearchQuery)
    decision: Decision | None = None


def find(lookups: Sequence[Lookup]) -> list[Hits]:
    """The hits of each, closest first."""
    hits: dict[int, Hits] = {}
    groups: dict[Any, list[int]] = {}
    for place, each in enumerate(lookups):
        groups.setdefault((id(each.version), *sorted(each.query.where.items())), []).append(place)
    for places in groups.values():
        group = [lookups[place] for place in places]
        for place, each, answer in zip(places, group, _answers(group), strict=True):
            hits[place] = _hits(each, *answer)
    return [hits[place] for place in range(len(lookups))]


def _hits(asked: Lookup, scores: np.ndarray, rows: np.ndarray) -> Hits:
    """Those that are close and probable enough."""
    version, query = asked.version, asked.query
    near = closeness(scores, version.manifest.calibration["text" if query.only_texts else "image"])
    keep = np.ones(len(rows), bool) if query.cut_off is None else near >= query.cut_off
    chances = None if asked.decision is None else version.chances(asked.decision)(scores)
    if chances is not None and query.min_probability is not None:
        keep &= chances >= query.min_probability
    return version.hits(rows[keep], scores[keep], near[keep], None if chances is None else chances[keep])


def _answers(group: Sequence[Lookup]) -> list[Answer]:
    """Of each. Those that are not re-ranked are looked up together."""
    plain = iter(_search(asked) if (asked := [each for each in group if not each.query.rerank]) else ())
    return [_reranked(each, each.query.rerank) if each.query.rerank else next(plain) for each in group]


def _reranked(asked: Lookup, options: Rerank) -> Answer:
    version, query = asked.version, asked.query
    ids = version.table["id"].to_numpy()

    def search(vector: np.ndarray, k: int) -> Answer:
        return _search([replace(asked, vector=vector, query=replace(query, k=k))])[0]

    return reranking.nearest(asked.vector, query.k, options, search, lambda rows: version.vectors.get(ids[rows]))


def _search(group: Sequence[Lookup]) -> list[Answer]:
    """The best `k` of each that are not excluded and that the table knows (a shared store may be ahead of it by a
    moment). All look in one version among the same items."""
    version, where = group[0].version, group[0].query.where
    vectors = np.stack([each.vector for each in group])
    more = max(each.query.k + len(each.query.excluded) for each in group)
    while True:
        answers = []
        for each, scores, ids in zip(group, *version.vectors.search(vectors, more, where), strict=True):
            k, excluded = each.query.k, each.query.excluded
            rows = version.rows(ids)
            keep = rows >= 0
            if excluded:
                keep &= ~np.isin(ids, excluded)
            if keep.sum() < k and not (ids < 0).any() and more <= 16 * MOST:
                break
            answers.append((scores[keep][:k], rows[keep][:k]))
        else:
            return answers
        more *= 2
