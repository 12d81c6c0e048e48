"""Every miner against loops over its definition, and the laws that hold for all of them."""

import inspect
import struct
from dataclasses import replace
from math import atan2, ceil, degrees, floor, inf, log, nan, sqrt

import pytest
import torch

from pullpush.errors import UserError
from pullpush.maths.angles import as_cosine
from pullpush.maths.miners import REGISTRY
from pullpush.maths.noise import uniform
from pullpush.maths.pairs import Pairs
from pullpush.maths.rectangle import Rectangle
from pullpush.maths.similarity import SIMILARITIES
from tests.support.rectangles import KINDS, make

CASES = {
    "multi_similarity": [{}, {"epsilon": 0.5}],
    "hardest": [{}],
    "margin_violators": [{}, {"margin": 0.0}, {"margin": 1.0}],
    "pair_margin": [{}, {"positive_below": 0.3, "negative_above": -0.3}],
    "easy_hard": [
        *({"positive": p, "negative": n} for p in ("easy", "hard") for n in ("easy", "hard", "semihard", "all")),
        *({"positive": "semihard", "negative": n} for n in ("easy", "hard")),
        *({"positive": "all", "negative": n} for n in ("easy", "hard", "all")),
        {"positive_range": (-0.5, 0.5), "negative_range": (-0.6, 0.2)},
        {"positive": "hard", "negative": "hard", "positive_range": (0.0, 0.9), "negative_range": (-0.9, 0.0)},
    ],
    "angular": [{}, {"degrees": 35.0}],
    "distance_weighted": [{}, {"closest": 1.0, "farthest": 1.9, "seed": 7}],
    "hard_percent": [{}, {"fraction": 0.2}, {"fraction": 1.0}, {"per": "anchor"}],
    "uniform_bins": [
        {},
        {"bins": 3, "positives_per_bin": 1, "negatives_per_bin": 2, "seed": 3},
        {"bins": 2, "positives_per_bin": 1, "negatives_per_bin": 1, "per": "anchor"},
    ],
}


def columns(mask):
    return [j for j, keep in enumerate(mask) if keep]


def row_by_row(rule):
    """An oracle of (row of similarities, positives, negatives) -> (kept positives, kept negatives)."""

    def oracle(similarity, positive, negative, /, **options):
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


def easy_hard(s, p, n, *, positive="easy", negative="semihard", positive_range=(-9, 9), negative_range=(-9, 9)):
    near = [j for j in p if positive_range[0] <= s[j] <= positive_range[1]]
    far = [k for k in n if negative_range[0] <= s[k] <= negative_range[1]]

    def at(cells, choose):
        return [j for j in cells if s[j] == choose(s[c] for c in cells)]

    easy = {"p": max, "n": min}
    hard = {"p": min, "n": max}
    chosen_p = at(near, easy["p"] if positive == "easy" else hard["p"])
    chosen_n = at(far, easy["n"] if negative == "easy" else hard["n"])
    if positive == "semihard":
        chosen_p = at([j for j in near if all(s[j] > s[k] for k in chosen_n)], hard["p"])
    if negative == "semihard":
        chosen_n = at([k for k in far if all(s[k] < s[j] for j in chosen_p)], hard["n"])
    if "all" in (positive, negative):
        return p if positive == "all" else chosen_p, n if negative == "all" else chosen_n
    return (chosen_p, chosen_n) if chosen_p and chosen_n else ([], [])


def angular(similarity, positive, negative, *, reference_similarity, degrees=20.0):
    """By the points themselves: three unit vectors with these cosines, in three dimensions."""
    found = []
    for s, p, n in zip(similarity, map(columns, positive), map(columns, negative), strict=True):
        large = [(j, k) for j in p for k in n if angle(s[j], s[k], reference_similarity[j][k]) > degrees]
        found.append(({j for j, _ in large}, {k for _, k in large}))
    return found


def angle(anchor_positive, anchor_negative, positive_negative):
    corners = torch.linalg.cholesky(
        torch.tensor(
            [
                [1, anchor_positive, anchor_negative],
                [anchor_positive, 1, positive_negative],
                [anchor_negative, positive_negative, 1],
            ],
            dtype=torch.float64,
        )
        + 1e-12 * torch.eye(3)
    )
    a, p, n = corners
    return degrees(atan2((a - p).norm().item(), 2 * (n - (a + p) / 2).norm().item()))


def draw(x, seed):
    """The hash of `uniform`, on Python's integers."""
    bits = int.from_bytes(struct.pack("<f", x), "little")
    for word in (seed % 2**32, seed >> 32):
        bits ^= word
        for _ in range(2):
            bits = (bits >> 16 ^ bits) * 0x45D9F3B % 2**32
        bits = bits >> 16 ^ bits
    return (bits + 0.5) / 2**32


def distance_weighted(s, p, n, *, dim, closest=0.5, farthest=1.4, seed=0):
    keys = {}
    for k in n:
        d = sqrt(max(0.0, 2 - 2 * s[k]))
        if d < farthest:
            d = max(d, closest)
            keys[k] = (2 - dim) * log(d) - (dim - 3) / 2 * log(1 - d * d / 4) - log(-log(draw(s[k], seed)))
    best = sorted(keys, key=keys.get, reverse=True)
    return p, [k for k in best if p and keys[k] >= keys[best[min(len(p), len(best)) - 1]]]


def over(per, similarity, masks):
    """The pairs of each side of each scope, as (similarity, row, column)."""
    cells = [
        [
            [(s, i, j) for j, (s, keep) in enumerate(zip(row, m, strict=True)) if keep]
            for i, (row, m) in enumerate(zip(similarity, mask, strict=True))
        ]
        for mask in masks
    ]
    return cells if per == "anchor" else [[[c for row in rows for c in row]] for rows in cells]


def by_row(kept, rows):
    return [tuple({j for _, i, j in side if i == row} for side in kept) for row in range(rows)]


def hard_percent(similarity, positive, negative, *, fraction=0.5, per="batch"):
    kept = []
    for sign, scopes in zip((1, -1), over(per, similarity, (positive, negative)), strict=True):
        kept.append([])
        for cells in scopes:
            if cells:
                last = sorted(sign * s for s, _, _ in cells)[ceil(fraction * len(cells)) - 1]
                kept[-1] += [c for c in cells if sign * c[0] <= last]
    return by_row(kept, len(similarity))


def uniform_bins(
    similarity, positive, negative, *, bins=100, positives_per_bin=10, negatives_per_bin=10, per="batch", seed=0
):
    kept = []
    sides = zip((positives_per_bin, negatives_per_bin), over(per, similarity, (positive, negative)), strict=True)
    for most, scopes in sides:
        kept.append([])
        for cells in scopes:
            low, high = min((s for s, _, _ in cells), default=0), max((s for s, _, _ in cells), default=0)
            places = [min(bins - 1, floor((s - low) / ((high - low) or 1.0) * bins)) for s, _, _ in cells]
            for b in range(bins):
                own = [c for c, place in zip(cells, places, strict=True) if place == b]
                if own:
                    last = sorted(draw(s, seed) for s, _, _ in own)[min(most, len(own)) - 1]
                    kept[-1] += [c for c in own if draw(c[0], seed) <= last]
    return by_row(kept, len(similarity))


ROWWISE = (multi_similarity, hardest, margin_violators, pair_margin, easy_hard, distance_weighted)
ORACLES = {f.__name__: row_by_row(f) for f in ROWWISE} | {f.__name__: f for f in (angular, hard_percent, uniform_bins)}
ALL = [
    pytest.param(name, o, id="-".join([name, *(f"{k}={v}" for k, v in o.items())]))
    for name in CASES
    for o in CASES[name]
]
each_case = pytest.mark.parametrize(("name", "options"), ALL)
each_kind = pytest.mark.parametrize("kind", KINDS)


def rectangle(kind, seed=0, anchors=8):
    return make(kind, seed, anchors, "cosine", 0)


def wants_references(name):
    return REGISTRY[name]().traits.wants_references


def mine(name, r, options):
    among = r.reference_similarity if wants_references(name) else None
    return REGISTRY[name](**options)(Rectangle(r.similarity, r.pairs, among, "cosine", 5))


def kept(pairs):
    return [(set(columns(p)), set(columns(n))) for p, n in zip(*(m.tolist() for m in pairs), strict=True)]


def test_each_miner_is_tested():
    assert set(CASES) == set(REGISTRY)


@pytest.mark.parametrize("name", REGISTRY)
def test_docstring_has_formula_options_and_source(name):
    text = inspect.getdoc(REGISTRY[name])
    assert "$$" in text
    assert "Source:" in text
    for p in inspect.signature(REGISTRY[name]().function).parameters:
        assert f"{p}:" in text


@each_case
@each_kind
def test_keeps_what_the_oracle_keeps(name, options, kind):
    for seed in range(3):
        r = rectangle(kind, seed, 8 + 4 * seed)
        more = {"reference_similarity": r.reference_similarity.tolist()} if wants_references(name) else {}
        more |= {"dim": 5} if name == "distance_weighted" else {}
        wanted = ORACLES[name](r.similarity.tolist(), *(m.tolist() for m in r.pairs), **options, **more)
        assert kept(mine(name, r, options)) == wanted


@each_case
@each_kind
def test_only_removes_pairs_and_passes_no_gradient(name, options, kind):
    r = rectangle(kind)
    found = mine(name, replace(r, similarity=r.similarity.clone().requires_grad_()), options)
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
    if REGISTRY[name](**options).whole:
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
    chosen = REGISTRY[name](**options)
    handed = Rectangle(r.similarity, r.pairs, r.reference_similarity, "cosine", 5)
    compiled = torch.compile(lambda rectangle: chosen(rectangle), backend="eager", fullgraph=True)
    for new, old in zip(compiled(handed), chosen(handed), strict=True):
        assert torch.equal(new, old)


def test_hardest_keeps_all_of_equal_similarity():
    r = rectangle("square")
    found = REGISTRY["hardest"]()(Rectangle(torch.zeros_like(r.similarity), r.pairs))
    both = (r.pairs.positive.any(1) & r.pairs.negative.any(1))[:, None]
    assert torch.equal(found.positive, r.pairs.positive & both)
    assert torch.equal(found.negative, r.pairs.negative & both)


def test_infinite_margins_keep_everything_or_nothing():
    r = rectangle("square")
    pairs = Pairs(*(m & (r.pairs.positive.any(1) & r.pairs.negative.any(1))[:, None] for m in r.pairs))
    for margin, wanted in ((inf, pairs), (-inf, Pairs(*(m & False for m in pairs)))):
        found = REGISTRY["margin_violators"]()(Rectangle(r.similarity, pairs), margin=margin)
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_semihard_on_both_sides_is_refused():
    r = rectangle("square")
    for options in (
        {"positive": "semihard"},
        {"positive": "all"},
        {"positive": "semihard", "negative": "all"},
        {"positive": "harder", "negative": "easy"},
    ):
        with pytest.raises(UserError):
            REGISTRY["easy_hard"](**options)(Rectangle(r.similarity, r.pairs))


def sphere(n, dim, seed=0):
    x = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x / x.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("name", ["cosine", "dot", "negative_euclidean", "negative_squared_euclidean"])
def test_cosines_of_unit_vectors_from_each_similarity(name):
    x, y = sphere(5, 4), sphere(6, 4, seed=1)
    torch.testing.assert_close(as_cosine(SIMILARITIES[name](x, y), name), x @ y.mT)


def test_no_cosine_from_a_similarity_without_angles():
    with pytest.raises(UserError, match="snr"):
        as_cosine(torch.zeros(1, 1), "snr")


def test_draws_are_even_independent_of_the_next_value_and_of_the_seed():
    u = uniform(sphere(400, 16) @ sphere(400, 16, seed=1).mT, seed=0).flatten()
    assert (torch.histc(u, 20, 0, 1) / len(u) - 0.05).abs().max() < 0.003
    other = uniform(sphere(400, 16) @ sphere(400, 16, seed=1).mT, seed=1).flatten()
    neighbours = torch.linspace(0.1, 0.2, len(u), dtype=torch.float64)
    near = uniform(neighbours, seed=0)
    for pair in (torch.stack([u, other]), torch.stack([u[1:], u[:-1]]), torch.stack([near[1:], near[:-1]])):
        assert abs(torch.corrcoef(pair)[0, 1]) < 0.01


def test_distance_weighted_negatives_are_as_likely_at_all_distances():
    """Of points spread evenly on the sphere, most lie near the distance 1.41; the drawn ones do not."""
    x = sphere(4000, 5)
    anchors = sphere(500, 5, seed=1)
    s = anchors @ x.mT
    positive = torch.zeros(s.shape, dtype=torch.bool)
    positive[:, :20] = True
    rectangle = Rectangle(s, Pairs(positive, ~positive), similarity_name="cosine", dim=5)
    found = REGISTRY["distance_weighted"]()(rectangle)
    assert torch.equal(found.negative.sum(1), torch.full((500,), 20))
    distances = (2 - 2 * s[found.negative]).sqrt()
    shares = torch.histc(distances, 9, 0.5, 1.4) / len(distances)
    assert (shares - 1 / 9).abs().max() < 0.02
    another = REGISTRY["distance_weighted"](seed=1)(rectangle)
    assert (found.negative & another.negative).sum() < 0.1 * found.negative.sum()
