"""Every miner against loops over its definition, and the laws that hold for all of them."""

import inspect
from math import inf, nan

import pytest
import torch
from rectangles import KINDS, make

from pullpush.maths.losses.base import traits_of
from pullpush.maths.miners import REGISTRY
from pullpush.maths.pairs import Pairs

CASES = {
    "multi_similarity": [{}, {"epsilon": 0.5}],
    "hardest": [{}],
    "margin_violators": [{}, {"margin": 0.0}, {"margin": 1.0}],
    "pair_margin": [{}, {"positive_below": 0.3, "negative_above": -0.3}],
}


def columns(mask):
    return [j for j, keep in enumerate(mask) if keep]


def row_by_row(rule):
    """An oracle of (row of similarities, positives, negatives) -> (kept positives, kept negatives)."""

    def oracle(similarity, positive, negative, **options):
        rows = zip(similarity, map(columns, positive), map(columns, negative), strict=True)
        return [tuple(map(set, rule(s, p, n, **options))) for s, p, n in rows]

    return oracle


def multi_similarity(s, p, n, *, epsilon=0.1):
    hard_n = [k for k in n if any(s[k] > s[j] - epsilon for j in p)]
    return [j for j in p if any(s[j] < s[k] + epsilon for k in n)], hard_n


def hardest(s, p, n):
    if not p or not n:
        return [], []
    return [j for j in p if s[j] == min(s[q] for q in p)], [k for k in n if s[k] == max(s[q] for q in n)]


def margin_violators(s, p, n, *, margin=0.2):
    triplets = [(j, k) for j in p for k in n if s[k] + margin > s[j]]
    return [j for j, _ in triplets], [k for _, k in triplets]


def pair_margin(s, p, n, *, positive_below=0.8, negative_above=0.2):
    return [j for j in p if s[j] < positive_below], [k for k in n if s[k] > negative_above]


ORACLES = {f.__name__: row_by_row(f) for f in (multi_similarity, hardest, margin_violators, pair_margin)}
ALL = [
    pytest.param(name, o, id="-".join([name, *(f"{k}={v}" for k, v in o.items())]))
    for name in CASES
    for o in CASES[name]
]
each_case = pytest.mark.parametrize(("name", "options"), ALL)
each_kind = pytest.mark.parametrize("kind", KINDS)


def rectangle(kind, seed=0, anchors=8):
    return make(kind, seed, anchors, "cosine", 0)


def mine(name, r, options):
    return REGISTRY[name](r.similarity, r.pairs, **options)


def kept(pairs):
    return [(set(columns(p)), set(columns(n))) for p, n in zip(*(m.tolist() for m in pairs), strict=True)]


def test_each_miner_is_tested():
    assert set(CASES) == set(REGISTRY)


@pytest.mark.parametrize("name", REGISTRY)
def test_docstring_has_formula_options_and_source(name):
    text = inspect.getdoc(REGISTRY[name])
    assert "$$" in text
    assert "Source:" in text
    for p in inspect.signature(REGISTRY[name]).parameters:
        assert f"{p}:" in text


@each_case
@each_kind
def test_keeps_what_the_oracle_keeps(name, options, kind):
    for seed in range(3):
        r = rectangle(kind, seed, 8 + 4 * seed)
        wanted = ORACLES[name](r.similarity.tolist(), *(m.tolist() for m in r.pairs), **options)
        assert kept(mine(name, r, options)) == wanted


@each_case
@each_kind
def test_only_removes_pairs_and_passes_no_gradient(name, options, kind):
    r = rectangle(kind)
    found = REGISTRY[name](r.similarity.clone().requires_grad_(), r.pairs, **options)
    for new, old in zip(found, r.pairs, strict=True):
        assert new.dtype == torch.bool
        assert not (new & ~old).any()
        assert not new.requires_grad


@each_case
def test_order_of_rows_and_columns_does_not_matter(name, options):
    for kind in ("square", "wide", "ragged", "duplicates"):
        r = rectangle(kind)
        rows, cols = (torch.randperm(n, generator=torch.Generator().manual_seed(1)) for n in r.similarity.shape)
        found = mine(name, r.permuted(rows, cols), options)
        for new, old in zip(found, mine(name, r, options), strict=True):
            assert torch.equal(new, old[rows][:, cols])


@each_case
def test_blocks_of_rows_are_the_whole(name, options):
    if traits_of(REGISTRY[name]).whole(options):
        pytest.skip("looks at the whole batch, as its traits say")
    for kind in ("square", "wide", "ragged"):
        r = rectangle(kind)
        blocks = [mine(name, r.rows(rows), options) for rows in (slice(0, 3), slice(3, None))]
        for joined, whole in zip(map(torch.cat, zip(*blocks, strict=True)), mine(name, r, options), strict=True):
            assert torch.equal(joined, whole)


@each_case
def test_nan_is_kept_where_it_can_be_seen(name, options):
    r = rectangle("square")
    row = int((r.pairs.positive.any(1) & r.pairs.negative.any(1)).nonzero()[0])
    r.similarity[row] = nan
    found = mine(name, r, options)
    assert found.positive[row].any() or found.negative[row].any()


@each_case
@pytest.mark.parametrize("n", [1, 2])
def test_tiny_batches(name, options, n):
    r = rectangle("square", anchors=n)
    assert mine(name, r, options).positive.shape == (n, n)


@each_case
def test_compiler_takes_it_whole(name, options):
    torch._dynamo.reset()
    r = rectangle("wide")
    compiled = torch.compile(REGISTRY[name], backend="eager", fullgraph=True)
    for new, old in zip(compiled(r.similarity, r.pairs, **options), mine(name, r, options), strict=True):
        assert torch.equal(new, old)


def test_hardest_keeps_all_of_equal_similarity():
    r = rectangle("square")
    found = REGISTRY["hardest"](torch.zeros_like(r.similarity), r.pairs)
    both = (r.pairs.positive.any(1) & r.pairs.negative.any(1))[:, None]
    assert torch.equal(found.positive, r.pairs.positive & both)
    assert torch.equal(found.negative, r.pairs.negative & both)


def test_infinite_margins_keep_everything_or_nothing():
    r = rectangle("square")
    pairs = Pairs(*(m & (r.pairs.positive.any(1) & r.pairs.negative.any(1))[:, None] for m in r.pairs))
    for margin, wanted in ((inf, pairs), (-inf, Pairs(*(m & False for m in pairs)))):
        found = REGISTRY["margin_violators"](r.similarity, pairs, margin=margin)
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
