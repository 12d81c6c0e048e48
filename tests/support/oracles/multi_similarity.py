"""Wang et al. 2019, eq. 15: 1/m over the m samples of the batch, whatever the mining leaves of them."""

from math import exp, log

__all__ = ["multi_similarity"]

CASES = {"multi_similarity": [{"alpha": 10.0, "beta": 40.0, "base": 1.0}]}


def multi_similarity(similarity, positive, negative, *, alpha=2.0, beta=50.0, base=0.5):
    losses = []
    for s, p, n in zip(similarity, positive, negative, strict=True):
        pull = sum(exp(-alpha * (x - base)) for x, keep in zip(s, p, strict=True) if keep)
        push = sum(exp(beta * (x - base)) for x, keep in zip(s, n, strict=True) if keep)
        losses.append(log(1 + pull) / alpha + log(1 + push) / beta)
    return sum(losses) / len(losses) if losses else 0.0
