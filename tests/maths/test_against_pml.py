"""Values and gradients beside PyTorch Metric Learning 2.9.0, wherever both follow the paper.

Where they do not, and why (a difference is tested too, where it can be put in numbers):

| loss | PML | here |
| --- | --- | --- |
| `contrastive` | distances, margins 0 and 1 | the same formula in units of the similarity, margins 1 and 0.5 of the cosine |
| `nt_xent` | temperature 0.07 | 0.1, the paper's |
| `n_pair` | temperature 1 on normalised embeddings: a floor far above 0; one random pair a class | 0.1; every pair |
| all on distances | normalise the embeddings first, plain distance | the similarity decides |
| `sup_con`, `circle` | anchors whose loss is 0 are left out of the average | anchors without the pairs are |
| `sup_con` | 0 where the batch has no negative at all | the formula's value |
| `proxy_nca` | the own proxy is in the denominator, which is ProxyNCA++ with temperature 1 | it is not, as in the paper |
| `soft_triple` | without the paper's second part | `tau` |
| `sphereface` | scaled by the embedding's length | a fixed scale |
| `arcface`, `sub_center_arcface` | margin in degrees | in radians |
| `normalized_softmax` | dot product with normalised proxies | the cosine |
| masks of `ref_emb` | drops every cell (i, i) when labels are the same tensor | ids decide |
"""  # noqa: E501

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from pullpush.criterion import Criterion, Proxies
from pullpush.maths.pairs import Pairs

pml = pytest.importorskip("pytorch_metric_learning")
from pytorch_metric_learning import distances, losses, reducers  # noqa: E402

CLASSES, DIM = 4, 6
PLAIN = {"distance": distances.LpDistance(normalize_embeddings=False)}
DOT = {"distance": distances.DotProductSimilarity(normalize_embeddings=False)}
COSINE = {"distance": distances.CosineSimilarity()}
PROXIES = {"num_classes": CLASSES, "embedding_size": DIM}
DEGREES = math.degrees(1)

# name, options, PML's loss
SAME: list[tuple[str, dict[str, Any], Callable[[], Any]]] = [
    ("contrastive", {}, lambda: losses.ContrastiveLoss(pos_margin=1, neg_margin=0.5, **COSINE)),
    (
        "contrastive",
        {"average": "pairs"},
        lambda: losses.ContrastiveLoss(pos_margin=1, neg_margin=0.5, reducer=reducers.MeanReducer(), **COSINE),
    ),
    (
        "contrastive",
        {"positive_margin": -0.2, "negative_margin": -3.0, "similarity": "negative_euclidean"},
        lambda: losses.ContrastiveLoss(pos_margin=0.2, neg_margin=3, **PLAIN),
    ),
    (
        "snr_contrastive",
        {},
        lambda: losses.SignalToNoiseRatioContrastiveLoss(distance=distances.SNRDistance(normalize_embeddings=False)),
    ),
    ("nt_xent", {"temperature": 0.07}, losses.NTXentLoss),
    ("sup_con", {}, losses.SupConLoss),
    ("circle", {}, losses.CircleLoss),
    ("circle", {"margin": 0.25, "scale": 256.0}, lambda: losses.CircleLoss(m=0.25, gamma=256)),
    ("multi_similarity", {}, losses.MultiSimilarityLoss),
    ("lifted_structure", {}, lambda: losses.LiftedStructureLoss(**PLAIN)),
    ("generalized_lifted_structure", {}, lambda: losses.GeneralizedLiftedStructureLoss(**PLAIN)),
    ("intra_pair_variance", {}, losses.IntraPairVarianceLoss),
    ("nca", {}, lambda: losses.NCALoss(distance=distances.LpDistance(normalize_embeddings=False, power=2))),
    (
        "normalized_softmax",
        {},
        lambda: losses.NormalizedSoftmaxLoss(distance=distances.CosineSimilarity(), **PROXIES),
    ),
    ("proxy_nca_pp", {"temperature": 1.0}, lambda: losses.ProxyNCALoss(**PROXIES)),
    ("proxy_anchor", {}, lambda: losses.ProxyAnchorLoss(**PROXIES)),
    ("soft_triple", {"tau": 0.0}, lambda: losses.SoftTripleLoss(**PROXIES)),
    ("soft_triple", {"tau": 0.0, "centers": 2}, lambda: losses.SoftTripleLoss(centers_per_class=2, **PROXIES)),
    ("arcface", {}, lambda: losses.ArcFaceLoss(margin=0.5 * DEGREES, **PROXIES)),
    ("cosface", {}, lambda: losses.CosFaceLoss(**PROXIES)),
    ("sub_center_arcface", {}, lambda: losses.SubCenterArcFaceLoss(margin=0.5 * DEGREES, **PROXIES)),
    ("sphereface", {"scale": 1.0}, lambda: losses.SphereFaceLoss(**PROXIES)),
]


def batch(normalized: bool = False):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(3 * CLASSES, DIM, generator=g, dtype=torch.float64)
    return torch.nn.functional.normalize(x) if normalized else x, torch.arange(3 * CLASSES) % CLASSES


def ours(name, options, x, labels):
    """Value, gradient in the embeddings, gradient in the proxies if there are any."""
    criterion = Criterion(name, **options).double()
    x = x.clone().requires_grad_()
    loss = criterion(x, labels)
    return loss, *torch.autograd.grad(loss, [x, *criterion.parameters()])


def theirs(loss, x, labels, proxies=None):
    x = x.clone().requires_grad_()
    parameters = list(loss.parameters())
    turned = bool(parameters) and parameters[0].shape[0] == DIM
    if proxies is not None:
        parameters[0].data = proxies.weight.detach().double().T.clone() if turned else proxies.weight.detach().double()
    value = loss(x, labels)
    of_x, *of_proxies = torch.autograd.grad(value, [x, *parameters])
    return value, of_x, *(g.T if turned else g for g in of_proxies)


@pytest.mark.parametrize(("name", "options", "build"), SAME, ids=[f"{n}-{o}" for n, o, _ in SAME])
def test_same(name, options, build):
    x, labels = batch(normalized=name == "sphereface")
    peer = build()
    proxies = None
    if any(True for _ in peer.parameters()):
        per_class = next(peer.parameters()).numel() // (CLASSES * DIM)
        proxies = Proxies(CLASSES, DIM, per_class=per_class)
        options = {**options, "proxies": proxies}
    found = ours(name, options, x, labels)
    wanted = theirs(peer, x, labels, proxies)
    if name == "sphereface":  # PML lets the embedding's length through: along the sphere the gradients are equal
        tangent = wanted[1] - (wanted[1] * x).sum(1, keepdim=True) * x
        wanted = (wanted[0], tangent, wanted[2])
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-7)


# Their pairs can be chosen; `nca`, `fast_ap` weigh anchors instead, the losses on ranks take no choice.
MINED = [case for case in SAME if isinstance(case[2](), losses.generic_pair_loss.GenericPairLoss)]


@pytest.mark.parametrize(("name", "options", "build"), MINED, ids=[f"{n}-{o}" for n, o, _ in MINED])
def test_same_average_after_mining(name, options, build):
    """A third of the anchors keep no pair: who they are divided by tells."""
    x, labels = batch()
    n = len(x)
    same = labels[:, None] == labels[None, :]
    g = torch.Generator().manual_seed(1)
    keep = (torch.rand(n, n, generator=g) < 0.4) | same
    keep = keep | keep.mT
    keep[::3] = keep[:, ::3] = False
    kept = Pairs(same & keep & ~torch.eye(n, dtype=torch.bool), ~same & keep)
    chosen = (*kept.positive.nonzero(as_tuple=True), *kept.negative.nonzero(as_tuple=True))
    found = ours(name, {**options, "miner": lambda rectangle: kept}, x, labels)
    inside = x.clone().requires_grad_()
    value = build()(inside, labels, chosen)
    torch.testing.assert_close(found, (value, *torch.autograd.grad(value, inside)), rtol=1e-6, atol=1e-7)


def test_n_pair_on_one_pair_a_class():
    x, labels = batch()
    anchors, positives = torch.arange(CLASSES), CLASSES + torch.arange(CLASSES)
    wanted = losses.NPairsLoss(**DOT)(x, labels, (anchors, positives, anchors[:0], anchors[:0]))
    criterion = Criterion("n_pair", temperature=1.0)
    found = criterion(x[anchors], labels[anchors], references=x[positives], reference_labels=labels[positives])
    torch.testing.assert_close(found, wanted)


def test_n_pair_can_fall_below_the_floor_of_its_form_without_a_temperature():
    """128 classes as far apart as vectors of length 1 can be, every positive on its anchor."""
    n = 128
    simplex = torch.eye(n, dtype=torch.float64) - 1 / n
    x, labels = torch.nn.functional.normalize(simplex), torch.arange(n)
    floor = math.log(1 + (n - 1) * math.exp(-n / (n - 1)))

    def found(**options):
        return Criterion("n_pair", **options)(x, labels, references=x, reference_labels=labels).item()

    both, twice = torch.cat([x, x]), torch.cat([labels, labels])
    pairs = (labels, labels + n, labels[:0], labels[:0])
    assert losses.NPairsLoss()(both, twice, pairs).item() == pytest.approx(floor)
    assert found(temperature=1.0) == pytest.approx(floor)
    assert found() < 0.01


def test_matched_pairs_of_two_modalities_stay():
    """PML drops (i, i) of `ref_emb` when it is given the same labels tensor; ids decide here."""
    image, labels = batch()
    text = image.flip(1)
    criterion = Criterion("nt_xent", temperature=0.07)
    found = criterion(image, labels, references=text, reference_labels=labels)
    assert losses.NTXentLoss()(image, labels, ref_emb=text, ref_labels=labels) != pytest.approx(found.item())
    kept = losses.NTXentLoss()(image, labels, ref_emb=text, ref_labels=labels.clone())
    torch.testing.assert_close(found, kept)


def test_proxy_nca_leaves_the_own_proxy_out_of_the_denominator():
    x, labels = batch()
    proxies = Proxies(CLASSES, DIM)
    peer = theirs(losses.ProxyNCALoss(**PROXIES), x, labels, proxies)[0]
    found = ours("proxy_nca", {"proxies": proxies}, x, labels)[0]
    assert found < peer
