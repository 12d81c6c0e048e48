"""Triplet losses, over lists of triplets."""

from math import exp, inf, log1p

__all__ = ["triplet"]

CASES = {
    "triplet": [
        {"margin": 1.0, "average": "all"},
        {"margin": None},
        *({"kind": kind, "margin": margin} for kind in ("hard", "semihard", "easy_positive") for margin in (0.5, None)),
        {"kind": "hard", "average": "all"},
        {"kind": "semihard", "average": "all"},
    ]
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
