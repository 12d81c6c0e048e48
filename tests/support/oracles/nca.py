"""Goldberger et al. 2004, eq. 2; Movshovitz-Attias et al. 2017, Algorithm 1; Teh et al. 2020."""

from math import exp, log

__all__ = ["nca", "proxy_nca", "proxy_nca_pp"]

CASES = {"nca": [{"scale": 0.3}], "proxy_nca": [{"scale": 3.0}], "proxy_nca_pp": [{"temperature": 1.0}]}


def mean(values):
    return sum(values) / len(values) if values else 0.0


def shifted(row):
    """The row less its largest: the softmax is the same, and nothing overflows."""
    return [x - max(row) for x in row]


def nca(similarity, positive, negative, *, scale=1.0):
    losses = []
    for s, p, n in zip(similarity, positive, negative, strict=True):
        if any(p):
            row = shifted([scale * x for x, a, b in zip(s, p, n, strict=True) if a or b])
            kept = [a for a, b in zip(p, n, strict=True) if a or b]
            weights = [exp(x) for x in row]
            hit = sum(w for w, a in zip(weights, kept, strict=True) if a)
            missed = sum(w for w, a in zip(weights, kept, strict=True) if not a)
            # -log(hit / (hit + missed)); log hit from its own largest, where all hits would vanish
            top = max(x for x, a in zip(row, kept, strict=True) if a)
            log_hit = top + log(sum(exp(x - top) for x, a in zip(row, kept, strict=True) if a))
            losses.append(log(hit + missed) - log_hit)
    return mean(losses)


def proxy_nca(similarity, positive, negative, *, scale=1.0):
    losses = []
    for i in range(len(similarity)):
        distances = [2 - 2 * s for s in similarity[i]]
        others = [-scale * d for d, n in zip(distances, negative[i], strict=True) if n]
        for d, p in zip(distances, positive[i], strict=True):
            if p and others:
                losses.append(scale * d + max(others) + log(sum(exp(x) for x in shifted(others))))
    return mean(losses)


def proxy_nca_pp(similarity, positive, negative, *, temperature=1 / 9):
    losses = []
    for i in range(len(similarity)):
        logits = [-(2 - 2 * s) / temperature for s in similarity[i]]
        for p in range(len(logits)):
            if positive[i][p]:
                row = [logits[p]] + [x for x, n in zip(logits, negative[i], strict=True) if n]
                losses.append(max(row) - row[0] + log(sum(exp(x) for x in shifted(row))))
    return mean(losses)
