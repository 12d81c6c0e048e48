"""Yi et al. 2014: a cell costs ln(exp(-scale (s - boundary) M) + 1), M = 1 or -C, weighed by 1 / number of its kind."""

from math import exp, log1p

__all__ = ["binomial_deviance"]

CASES = {"binomial_deviance": [{"scale": 4.0, "boundary": 0.1, "negative_cost": 1.0}]}


def binomial_deviance(similarity, positive, negative, *, scale=2.0, boundary=0.5, negative_cost=25.0):
    value = 0.0
    for mask, sign in ((positive, 1.0), (negative, -negative_cost)):
        cells = [
            s for row, kept in zip(similarity, mask, strict=True) for s, keep in zip(row, kept, strict=True) if keep
        ]
        costs = [-scale * (s - boundary) * sign for s in cells]
        value += sum(c if c > 700 else log1p(exp(c)) for c in costs) / max(1, len(costs))
    return value
