"""Triplet and rank losses, regularisers and miners beside PyTorch Metric Learning 2.9.0, where both follow the paper.

Where they do not, and why:

| here | PML |
| --- | --- |
| `smooth_ap`, `pnp` | an anchor is among its own positives; compared with our pairs set so |
| `smooth_ap` | mixes up classes and samples: right only where there are as many of both, as in this test |
| `margin` | each pair counts as often as it is in a triplet; here once |
| `ranked_list` | the gradient goes through the weights too, which get 1e-5 each; only values are compared, nearly |
| `triplet(kind=...)` | kinds are miners |
| `distance_weighted`, `uniform_bins` | drawn from the global random state, with replacement: not compared |
| `angular` (loss) | does not normalise the negatives; compared on unit vectors |
"""

import pytest
import torch

from pullpush.criterion import Criterion
from pullpush.maths.losses import REGISTRY
from pullpush.maths.miners import REGISTRY as MINERS
from pullpush.maths.pairs import Pairs, make_pairs
from pullpush.maths.rectangle import Rectangle, value
from pullpush.maths.regularizers import REGISTRY as REGULARIZERS

pml = pytest.importorskip("pytorch_metric_learning")
from pytorch_metric_learning import distances, losses, miners, reducers, regularizers  # noqa: E402

LABELS = torch.arange(12) // 3
SQUARED = {"distance": distances.LpDistance(power=2)}
PLAIN = {"distance": distances.LpDistance()}
COSINE = {"distance": distances.CosineSimilarity()}
MEAN = {"reducer": reducers.MeanReducer()}


def points(seed=0, n=12):
    x = torch.randn(n, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(x, dim=1).requires_grad_()


def of_unit_vectors(loss, x):
    """Value, and gradient along the sphere: PML's distances normalise, ours need not."""
    (gradient,) = torch.autograd.grad(loss, x)
    return loss.detach(), gradient - (gradient * x).sum(1, keepdim=True) * x.detach()


SAME = [
    ("triplet", {}, lambda: losses.TripletMarginLoss(margin=0.2, **SQUARED)),
    ("triplet", {"average": "all"}, lambda: losses.TripletMarginLoss(margin=0.2, **SQUARED, **MEAN)),
    ("triplet", {"margin": None}, lambda: losses.TripletMarginLoss(margin=0, smooth_loss=True, **SQUARED)),
    ("triplet", {"margin": 0.1, "similarity": "cosine"}, lambda: losses.TripletMarginLoss(margin=0.1, **COSINE)),
    ("triplet_swap", {}, lambda: losses.TripletMarginLoss(margin=1, swap=True, **PLAIN, **MEAN)),
    ("angular", {}, lambda: losses.AngularLoss(alpha=40)),
    ("tuplet_margin", {"margin": 0.1}, lambda: losses.TupletMarginLoss(margin=18 / torch.pi, scale=64)),
    ("fast_ap", {}, lambda: losses.FastAPLoss(num_bins=10)),
    ("histogram", {}, lambda: losses.HistogramLoss(n_bins=100)),
    ("threshold_consistent_margin", {}, losses.ThresholdConsistentMarginLoss),
]


@pytest.mark.parametrize(("name", "options", "theirs"), SAME, ids=lambda x: x if isinstance(x, str) else "")
def test_same_value_and_gradient(name, options, theirs):
    for seed in range(3):
        x = points(seed)
        ours = of_unit_vectors(Criterion(name, **options)(x, LABELS), x)
        torch.testing.assert_close(ours, of_unit_vectors(theirs()(x, LABELS), x), rtol=1e-5, atol=1e-6)


KINDS = [
    ("hard", {"pos_strategy": "hard", "neg_strategy": "hard"}),
    ("easy_positive", {"pos_strategy": "easy", "neg_strategy": "hard"}),
]


@pytest.mark.parametrize(("kind", "strategies"), KINDS)
def test_kinds_of_triplets_are_theirs_after_a_miner(kind, strategies):
    x = points()
    mined = miners.BatchEasyHardMiner(**strategies, **SQUARED)(x, LABELS)
    theirs = losses.TripletMarginLoss(margin=0.2, **SQUARED)(x, LABELS, mined)
    torch.testing.assert_close(
        of_unit_vectors(Criterion("triplet", kind=kind)(x, LABELS), x), of_unit_vectors(theirs, x)
    )


def test_ranked_list_has_nearly_the_same_value():
    x = points()
    ours = Criterion("ranked_list")(x, LABELS)
    assert ours.item() == pytest.approx(losses.RankedListLoss(margin=0.4, Tn=10, alpha=1.2)(x, LABELS).item(), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        ("smooth_ap", {}, losses.SmoothAPLoss),
        ("smooth_ap", {"temperature": 0.1}, lambda: losses.SmoothAPLoss(temperature=0.1)),
        *(
            ("pnp", {"variant": v, "temperature": 0.1}, lambda v=v: losses.PNPLoss(variant=v, anneal=0.1))
            for v in ("O", "Iu", "Ib", "Ds", "Dq")
        ),
    ],
)
def test_ranks_with_the_anchor_among_its_positives(name, options, theirs):
    x, labels = points(n=9), LABELS[:9]
    same = labels[:, None] == labels[None, :]
    ours = value(REGISTRY[name](**options)(Rectangle(x @ x.mT, Pairs(same, ~same))))
    found, wanted = of_unit_vectors(ours, x), of_unit_vectors(theirs()(x, labels), x)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6, check_dtype=False)


def test_vicreg():
    x, y = points(0), points(1)
    images = torch.arange(12)
    ours = value(REGULARIZERS["vicreg"]()(x, y, make_pairs(images, images, images, images + 12)))
    theirs = losses.VICRegLoss()(x, ref_emb=y)
    torch.testing.assert_close(torch.autograd.grad(ours, [x, y]), torch.autograd.grad(theirs, [x, y]))
    torch.testing.assert_close(ours, theirs)


def test_embedding_norm():
    x = points() * 3
    ours = value(REGULARIZERS["embedding_norm"]()(x, x, Pairs(*torch.zeros(2, 12, 12, dtype=torch.bool))))
    torch.testing.assert_close(ours, regularizers.LpRegularizer(p=2, power=2)(x))


def masks(found):
    """Of PML's lists: (anchors, positives, anchors, negatives) or triplets."""
    a1, p, a2, n = found if len(found) == 4 else (found[0], found[1], found[0], found[2])
    pairs = Pairs(*torch.zeros(2, 12, 12, dtype=torch.bool))
    pairs.positive[a1, p] = True
    pairs.negative[a2, n] = True
    return pairs


STRATEGIES = ("easy", "semihard", "hard", "all")
SAME_PAIRS = [
    ("multi_similarity", {}, lambda: miners.MultiSimilarityMiner(epsilon=0.1)),
    ("hardest", {}, lambda: miners.BatchHardMiner(**COSINE)),
    ("margin_violators", {"margin": 0.2}, lambda: miners.TripletMarginMiner(margin=0.2, **COSINE)),
    (
        "pair_margin",
        {"positive_below": 0.3, "negative_above": -0.1},
        lambda: miners.PairMarginMiner(pos_margin=0.3, neg_margin=-0.1, **COSINE),
    ),
    ("angular", {}, lambda: miners.AngularMiner(angle=20)),
    ("hard_percent", {"fraction": 0.3}, lambda: miners.HDCMiner(filter_percentage=0.3, **COSINE)),
    (
        "easy_hard",
        {"positive_range": (-0.4, 0.6), "negative_range": (-0.6, 0.3)},
        lambda: miners.BatchEasyHardMiner(allowed_pos_range=(-0.4, 0.6), allowed_neg_range=(-0.6, 0.3), **COSINE),
    ),
    *(
        (
            "easy_hard",
            {"positive": p, "negative": n},
            lambda p=p, n=n: miners.BatchEasyHardMiner(pos_strategy=p, neg_strategy=n, **COSINE),
        )
        for p in STRATEGIES
        for n in STRATEGIES
        if "semihard" not in (p, n) or not (p == n or "all" in (p, n))
    ),
]


@pytest.mark.parametrize(("name", "options", "theirs"), SAME_PAIRS, ids=lambda x: x if isinstance(x, str) else "")
def test_same_pairs(name, options, theirs):
    for seed in range(3):
        x = points(seed).detach()
        s, ids = x @ x.mT, torch.arange(12)
        ours = MINERS[name](**options)(Rectangle(s, make_pairs(LABELS, ids, LABELS, ids), s, "cosine", x.shape[1]))
        wanted = masks(theirs()(x, LABELS))
        if name == "hard_percent":  # it keeps both (i, j) and (j, i), which are as hard; a list is cut between them
            wanted = Pairs(*(m | m.mT for m in wanted))
        for mask, other in zip(ours, wanted, strict=True):
            assert torch.equal(mask, other)
