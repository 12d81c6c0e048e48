"""Triplet losses, over lists of triplets."""

from math import acos, cos, exp, inf, log, log1p, radians, tan

__all__ = [
    "angular",
    "margin",
    "ranked_list",
    "threshold_consistent_margin",
    "triplet",
    "triplet_swap",
    "tuplet_margin",
]

CASES = {
    "triplet": [
        {"margin": 1.0, "average": "all"},
        {"margin": None},
        *({"kind": kind, "margin": margin} for kind in ("hard", "semihard", "easy_positive") for margin in (0.5, None)),
        {"kind": "hard", "average": "all"},
        {"kind": "semihard", "average": "all"},
    ],
    "triplet_swap": [{"margin": 0.3, "average": "violating"}],
    "angular": [{"degrees": 50.0}],
    "tuplet_margin": [{"margin": 0.3, "scale": 10.0}],
    "margin": [{"alpha": 0.5, "beta": 0.9, "nu": 0.3}],
    "ranked_list": [
        {"alpha": 2.0, "margin": 0.8, "balance": 0.3, "positive_sharpness": 2.0, "negative_sharpness": 3.0}
    ],
    "threshold_consistent_margin": [
        {"positive_margin": 0.6, "negative_margin": 0.1, "positive_weight": 2.0, "negative_weight": 0.5}
    ],
}


def columns(mask):
    return [j for j, keep in enumerate(mask) if keep]


def softplus(x):
    return max(x, 0.0) + log1p(exp(-abs(x)))


def triplet(similarity, positive, negative, *, margin=0.2, kind="all", average="violating"):
    """Schroff et al. 2015, eq. 3; Hermans et al. 2017, eq. 5 and 6."""
    total, count = 0.0, 0
    for s, p, n in zip(similarity, map(columns, positive), map(columns, negative), strict=True):
        for a, b in chosen(s, p, n, kind):
            if margin is None:
                total, count = total + softplus(b - a), count + 1
            else:
                violates = b + margin > a
                total += margin + b - a if violates else 0.0
                count += violates or average == "all"
    return total / count if count else 0.0


def chosen(s, p, n, kind):
    """Similarities (to the positive, to the negative) of an anchor's triplets."""
    if not p or not n:
        return []
    if kind == "hard":
        return [(min(s[j] for j in p), max(s[j] for j in n))]
    if kind == "easy_positive":
        return [(max(s[j] for j in p), max(s[j] for j in n))]
    if kind == "semihard":
        best = [(s[j], max((s[k] for k in n if s[k] < s[j]), default=-inf)) for j in p]
        return [(a, b) for a, b in best if b > -inf]
    return [(s[j], s[k]) for j in p for k in n]


def triplet_swap(
    similarity,
    positive,
    negative,
    *,
    reference_similarity,
    margin=1.0,
    average="all",
):
    """Balntas et al. 2016, sec. 3."""
    total, count = 0.0, 0
    for s, p, n in zip(similarity, map(columns, positive), map(columns, negative), strict=True):
        for j in p:
            for k in n:
                gap = max(s[k], reference_similarity[j][k]) + margin - s[j]
                total += max(gap, 0.0)
                count += gap > 0 or average == "all"
    return total / count if count else 0.0


def angular(similarity, positive, negative, *, reference_similarity, degrees=40.0):
    """Wang et al. 2017, eq. 8, over unit vectors."""
    t = tan(radians(degrees)) ** 2
    losses = []
    for s, p, n in zip(similarity, map(columns, positive), map(columns, negative), strict=True):
        for j in p:
            f = [4 * t * (s[k] + reference_similarity[j][k]) - 2 * (1 + t) * s[j] for k in n]
            losses.append(log(1 + sum(map(exp, f))))
    return sum(losses) / len(losses) if losses else 0.0


def tuplet_margin(similarity, positive, negative, *, margin=0.1, scale=64.0):
    """Yu and Tao 2019, with the logarithm's sum shifted by its largest term."""
    losses = []
    for s, p, n in zip(similarity, map(columns, positive), map(columns, negative), strict=True):
        for j in p:
            slack = cos(acos(max(-1.0, min(1.0, s[j]))) - margin)
            f = [0.0] + [scale * (max(-1.0, min(1.0, s[k])) - slack) for k in n]
            top = max(f)
            losses.append(top + log(sum(exp(x - top) for x in f)))
    return sum(losses) / len(losses) if losses else 0.0


def margin(similarity, positive, negative, *, alpha=0.2, beta=1.2, nu=0.0):
    """Wu et al. 2017, sec. 4.2."""
    pairs = []
    for s, p, n in zip(similarity, map(columns, positive), map(columns, negative), strict=True):
        pairs += [alpha + (-s[j] - beta) for j in p]
        pairs += [alpha - (-s[k] - beta) for k in n]
    active = [x for x in pairs if x > 0]
    return sum(active) / len(active) + nu * beta if active else 0.0


def ranked_list(
    similarity,
    positive,
    negative,
    *,
    alpha=1.2,
    margin=0.4,
    balance=0.5,
    positive_sharpness=0.0,
    negative_sharpness=10.0,
    weights_at=None,
):
    """Wang et al. 2019, sec. 3."""
    losses = []
    for s, at, p, n in zip(
        similarity, weights_at or similarity, map(columns, positive), map(columns, negative), strict=True
    ):
        sides = []
        for cells, sharpness, violation in (
            (p, positive_sharpness, lambda x: -x - (alpha - margin)),
            (n, negative_sharpness, lambda x: alpha + x),
        ):
            cells = [j for j in cells if violation(at[j]) > 0]
            weights = [exp(sharpness * violation(at[j])) for j in cells]
            weighted = sum(w * violation(s[j]) for w, j in zip(weights, cells, strict=True))
            sides.append(weighted / sum(weights) if cells else 0.0)
        losses.append((1 - balance) * sides[0] + balance * sides[1])
    return sum(losses) / len(similarity)


def threshold_consistent_margin(
    similarity,
    positive,
    negative,
    *,
    positive_margin=0.9,
    negative_margin=0.5,
    positive_weight=1.0,
    negative_weight=1.0,
):
    """Zhang et al. 2024, sec. 4."""
    far, close = [], []
    for s, p, n in zip(similarity, map(columns, positive), map(columns, negative), strict=True):
        far += [positive_margin - s[j] for j in p if s[j] <= positive_margin]
        close += [s[k] - negative_margin for k in n if s[k] >= negative_margin]
    value = positive_weight * sum(far) / len(far) if far else 0.0
    return value + (negative_weight * sum(close) / len(close) if close else 0.0)
