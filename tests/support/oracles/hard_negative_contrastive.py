"""Robinson et al. 2021 with tau+ = 0: negatives drawn in proportion to exp(beta s / tau), by importance sampling."""

from math import exp, log1p

__all__ = ["hard_negative_contrastive"]

CASES = {
    "hard_negative_contrastive": [
        {"temperature": 0.2, "concentration": 2.0},
        {"temperature": 0.1, "concentration": 0.0},
    ]
}


def hard_negative_contrastive(similarity, positive, negative, *, temperature=0.5, concentration=1.0):
    losses = []
    for s, p, n in zip(similarity, positive, negative, strict=True):
        negatives = [x / temperature for x, keep in zip(s, n, strict=True) if keep]
        odds = [exp(concentration * x) for x in negatives]
        mean = sum(odds) / max(1, len(odds))
        against = sum(w / mean * exp(x) for w, x in zip(odds, negatives, strict=True))
        losses += [log1p(against / exp(x / temperature)) for x, keep in zip(s, p, strict=True) if keep]
    return sum(losses) / len(losses) if losses else 0.0
