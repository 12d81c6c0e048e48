"""Losses beside PyTorch Metric Learning, eager, forward and backward, on the embeddings of one batch.

Both sides get their own defaults: the formulas are the same (the tests tell where not), the constants hardly matter for
the time. D = 128, 4 samples a class unless the name says otherwise.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import compare, result, seconds
from pullpush.criterion import Criterion, Proxies
from pullpush.maths.losses import REGISTRY

DIM = 128

# The class of PML and its options; proxies are added where a class needs them.
PEERS: dict[str, tuple[str, dict[str, Any]]] = {
    "angular": ("AngularLoss", {}),
    "arcface": ("ArcFaceLoss", {}),
    "circle": ("CircleLoss", {}),
    "contrastive": ("ContrastiveLoss", {}),
    "cosface": ("CosFaceLoss", {}),
    "fast_ap": ("FastAPLoss", {}),
    "generalized_lifted_structure": ("GeneralizedLiftedStructureLoss", {}),
    "histogram": ("HistogramLoss", {"n_bins": 100}),
    "intra_pair_variance": ("IntraPairVarianceLoss", {}),
    "lifted_structure": ("LiftedStructureLoss", {}),
    "margin": ("MarginLoss", {"learn_beta": True}),
    "multi_similarity": ("MultiSimilarityLoss", {}),
    "n_pair": ("NPairsLoss", {}),
    "nca": ("NCALoss", {}),
    "normalized_softmax": ("NormalizedSoftmaxLoss", {}),
    "nt_xent": ("NTXentLoss", {}),
    "pnp": ("PNPLoss", {}),
    "proxy_anchor": ("ProxyAnchorLoss", {}),
    "proxy_nca_pp": ("ProxyNCALoss", {}),
    "ranked_list": ("RankedListLoss", {"margin": 0.4, "Tn": 10}),
    "smooth_ap": ("SmoothAPLoss", {}),
    "snr_contrastive": ("SignalToNoiseRatioContrastiveLoss", {}),
    "soft_triple": ("SoftTripleLoss", {}),
    "sphereface": ("SphereFaceLoss", {}),
    "sub_center_arcface": ("SubCenterArcFaceLoss", {}),
    "sup_con": ("SupConLoss", {}),
    "threshold_consistent_margin": ("ThresholdConsistentMarginLoss", {}),
    "triplet": ("TripletMarginLoss", {}),
    "triplet_swap": ("TripletMarginLoss", {"swap": True}),
    "tuplet_margin": ("TupletMarginLoss", {}),
}
REPEATS = 9


def batch(n: int, per_class: int) -> tuple[Tensor, Tensor]:
    """Embeddings [n, DIM] of length 1 with some structure, and labels in the order of a class-balanced sampler."""
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(n // per_class).repeat_interleave(per_class)
    centres = torch.randn(n // per_class, DIM, generator=g)
    x = centres[labels] + torch.randn(n, DIM, generator=g)
    return torch.nn.functional.normalize(x), labels


def step(loss: Callable[..., Tensor], x: Tensor, labels: Tensor) -> Callable[[], None]:
    leaf = x.clone().requires_grad_()

    def run() -> None:
        leaf.grad = None
        loss(leaf, labels).backward()

    return run


def ours(name: str, classes: int, **options: Any) -> Criterion:
    if REGISTRY[name]().traits.proxies:
        centers = {"soft_triple": 10, "sub_center_arcface": 3}.get(name, 1)
        options["proxies"] = Proxies(classes, DIM, per_class=centers)
    return Criterion(name, **options)


def peer(name: str, classes: int) -> Any:
    from pytorch_metric_learning import losses

    made, options = PEERS[name]
    if REGISTRY[name]().traits.proxies:
        options = {**options, "num_classes": classes, "embedding_size": DIM}
    return getattr(losses, made)(**options)


def against_peer(name: str, n: int, per_class: int) -> tuple[float, float]:
    """Seconds of a step, ours and theirs."""
    x, labels = batch(n, per_class)
    classes = n // per_class
    mine, theirs = step(ours(name, classes), x, labels), step(peer(name, classes), x, labels)
    mine()
    first = seconds(theirs)
    if first > 2:  # some of theirs take 25 s a step: once is enough
        return min(seconds(mine) for _ in range(5)), first
    return compare(mine, theirs, repeats=REPEATS if first < 0.3 else 3)


def n_pair_tuples(n: int) -> tuple[float, float]:
    """The paper's tuples, an anchor and a reference of each class: what the peer takes of every batch, while ours takes
    all pairs unless it is handed references."""
    x, labels = batch(n, 2)
    criterion, theirs = Criterion("n_pair"), step(peer("n_pair", n // 2), x, labels)
    leaf = x.clone().requires_grad_()

    def mine() -> None:
        leaf.grad = None
        criterion(leaf[0::2], labels[0::2], references=leaf[1::2], reference_labels=labels[1::2]).backward()

    return compare(mine, theirs, repeats=REPEATS)


def rows() -> Iterator[dict[str, Any]]:
    both = {}
    for name in PEERS:
        both[name] = against_peer(name, 512, 4)
        yield result(f"loss/{name}/512/pml", *both[name], "s")
    mean = math.exp(sum(math.log(theirs / mine) for mine, theirs in both.values()) / len(both))
    yield {"name": "loss/geometric-mean/512/pml", "ours": 1.0, "other": mean, "unit": "x", "ratio": mean}
    yield result("loss/n_pair/512-tuples/pml", *n_pair_tuples(512), "s")
    yield result("loss/triplet/1024/pml", *against_peer("triplet", 1024, 4), "s")
    yield result("loss/triplet/512x16/pml", *against_peer("triplet", 512, 16), "s")


def run() -> list[dict[str, Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(rows())
