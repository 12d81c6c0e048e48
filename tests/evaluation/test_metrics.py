"""Metrics against an oracle that lists every order of the tied references and averages the plain definition."""

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pullpush.evaluation.metrics import METRICS, metric_of, per_query, title_of
from pullpush.evaluation.metrics.base import Standing, first_rank, precision_within
from pullpush.evaluation.metrics.map_at_r import map_at_r
from pullpush.evaluation.metrics.mrr import mrr
from pullpush.evaluation.metrics.r_precision import r_precision
from pullpush.evaluation.metrics.recall import recall_at_k


def standing(rows: list[list[tuple[int, bool]]]) -> Standing:
    """The standing of (similarity, is positive) rows, counted in loops."""
    width = max(sum(positive for _, positive in row) for row in rows)
    fields = torch.zeros(4, len(rows), width, dtype=torch.long)
    exists = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        for j, s in enumerate(sorted((s for s, positive in row if positive), reverse=True)):
            exists[i, j] = True
            fields[0, i, j] = sum(other > s for other, _ in row)
            fields[1, i, j] = sum(other == s for other, _ in row)
            fields[2, i, j] = sum(other > s and positive for other, positive in row)
            fields[3, i, j] = sum(other == s and positive for other, positive in row)
    return Standing(*fields, exists)


def orders(row: list[tuple[int, bool]]) -> list[list[bool]]:
    """Every ranking of the row that its similarities allow, each equally likely."""
    groups = [[p for other, p in row if other == s] for s in sorted({s for s, _ in row}, reverse=True)]
    return [
        [p for group in choice for p in group]
        for choice in itertools.product(*(list(itertools.permutations(group)) for group in groups))
    ]


def recall(hits: list[bool], k: int) -> Fraction:
    return Fraction(any(hits[:k]))


def precision(hits: list[bool], k: int) -> Fraction:
    return Fraction(sum(hits[:k]), k)


def average_precision_at_r(hits: list[bool]) -> Fraction:
    r = sum(hits)
    return sum((precision(hits, i) for i in range(1, r + 1) if hits[i - 1]), Fraction(0)) / r


def rank(hits: list[bool]) -> Fraction:
    return Fraction(hits.index(True) + 1)


# Of one order of the references, each metric by its definition.
ORACLES: dict[str, Callable[..., Fraction]] = {
    "recall@k": recall,
    "r_precision": lambda hits: precision(hits, sum(hits)),
    "map@r": average_precision_at_r,
    "mrr": lambda hits: 1 / rank(hits),
}


def mean(values: list[Fraction]) -> float:
    return float(sum(values, Fraction(0)) / len(values))


rows = st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6).filter(
    lambda row: any(positive for _, positive in row)
)


@settings(max_examples=150, deadline=None)
@given(st.lists(rows, min_size=1, max_size=3), st.integers(1, 8))
def test_metrics_equal_the_mean_over_all_orders_of_the_tied(batch, k):
    at = standing(batch)
    everything = [orders(row) for row in batch]
    assert ORACLES.keys() == {name for name, metric in METRICS.items() if not metric.of_clusters}
    for got, oracle in (
        (precision_within(at, k), lambda hits: precision(hits, k)),
        (first_rank(at), rank),
        *((METRICS[name](at, k), partial(oracle, k=k)) for name, oracle in ORACLES.items() if METRICS[name].takes_k),
        *((METRICS[name](at), oracle) for name, oracle in ORACLES.items() if not METRICS[name].takes_k),
    ):
        assert got.dtype == torch.float64
        assert got.tolist() == pytest.approx([mean([oracle(hits) for hits in all_]) for all_ in everything], abs=1e-12)


def test_the_papers_example():
    """Musgrave et al. (arXiv 2003.08505, figure 2): R = 10, the ten nearest in three orders."""
    for nearest, expected_precision, expected_map in (
        ([1] + [0] * 9, 0.1, 0.1),
        ([1, 1] + [0] * 8, 0.2, 0.2),
        ([1] + [0] * 8 + [1], 0.2, 0.12),
        ([1] * 10, 1.0, 1.0),
    ):
        hits = nearest + [1] * (10 - sum(nearest))
        row = [(-i, bool(hit)) for i, hit in enumerate(hits)]
        assert r_precision(standing([row])).item() == pytest.approx(expected_precision)
        assert map_at_r(standing([row])).item() == pytest.approx(expected_map)


@pytest.mark.parametrize("tied", [False, True])
def test_perfect_is_one_to_the_last_bit(tied):
    batch = [[(1 if tied else 100 - i, True) for i in range(r)] + [(0, False)] * 3 for r in range(1, 40)]
    at = standing(batch)
    for function in (first_rank, *per_query([1]).values()):
        assert function(at).tolist() == [1.0] * len(batch)


def test_all_tied_is_chance_in_large_numbers():
    """One of n references nearest: r/n; no positive within k: the hypergeometric chance, computed exactly."""
    n, r = 60_501, 11
    one = torch.ones(1, r, dtype=torch.long)
    at = Standing(0 * one, n * one, 0 * one, r * one, one.bool())
    for k in (1, 10, 1000):
        miss = Fraction(math.comb(n - r, k), math.comb(n, k))
        assert recall_at_k(at, k).item() == pytest.approx(float(1 - miss), rel=1e-5)
    assert r_precision(at).item() == pytest.approx(r / n)
    assert first_rank(at).item() == pytest.approx((n + 1) / (r + 1))
    chances = (math.comb(n - j, r - 1) / math.comb(n, r) for j in range(1, n - r + 2))  # of rank j
    assert mrr(at).item() == pytest.approx(math.fsum(chance / j for j, chance in enumerate(chances, 1)), rel=1e-9)


def test_a_query_without_positives_has_no_metric():
    at = Standing(*torch.zeros(4, 2, 1, dtype=torch.long), torch.zeros(2, 1, dtype=torch.bool))
    none = Standing(*torch.zeros(4, 2, 0, dtype=torch.long), torch.zeros(2, 0, dtype=torch.bool))
    for empty in (at, none):
        for value in (
            precision_within(empty, 3),
            first_rank(empty),
            *(function(empty) for function in per_query([3]).values()),
        ):
            assert value.isnan().all()
            assert value.shape == (2,)


def test_a_metric_says_its_name_meaning_and_direction_once():
    for name, metric in METRICS.items():
        assert metric.title
        assert metric.meaning.endswith("."), name
        assert metric_of(f"validation/{name.replace('@k', '@10')}") is metric
    assert next(iter(METRICS)) == "recall@k"  # the order of tables
    assert list(METRICS)[-1] == "nmi"
    assert title_of("text_to_image/recall@10") == "text to image, recall@10"
    assert title_of("map@r") == "MAP@R"
    assert metric_of("image_to_text/median_rank") is None


def test_the_table_of_the_docs_is_what_the_metrics_say():
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    rows = [line for line in page.split("## The rules")[0].splitlines() if line.startswith("| `")]
    assert rows[:-1] == [f"| `{m.name}` | {m.title} | {m.meaning} |" for m in METRICS.values()], "run: make docs"
