"""Oh Song et al. 2016, eq. 4; Hermans et al. 2017, L_LG."""

from math import exp, log

__all__ = ["generalized_lifted_structure", "lifted_structure"]

CASES = {"lifted_structure": [{"margin": 0.5}, {"margin": 5.0}], "generalized_lifted_structure": [{"margin": 0.1}]}


def lifted_structure(similarity, positive, negative, *, margin=1.0):
    rows, columns = range(len(similarity)), range(len(similarity[0]))
    total, pairs = 0.0, 0
    for i in rows:
        for j in columns:
            if not positive[i][j]:
                continue
            pairs += 1
            around_i = sum(exp(margin + similarity[i][k]) for k in columns if negative[i][k])
            around_j = sum(exp(margin + similarity[r][j]) for r in rows if negative[r][j])
            if around_i + around_j > 0:
                total += max(0.0, log(around_i + around_j) - similarity[i][j]) ** 2
    return total / (2 * pairs) if pairs else 0.0


def generalized_lifted_structure(similarity, positive, negative, *, margin=1.0):
    losses = []
    for s, p, n in zip(similarity, positive, negative, strict=True):
        if any(p) and any(n):
            far = sum(exp(-x) for x, keep in zip(s, p, strict=True) if keep)
            near = sum(exp(margin + x) for x, keep in zip(s, n, strict=True) if keep)
            losses.append(max(0.0, log(far) + log(near)))
    return sum(losses) / len(similarity)
