"""Zhai et al. 2023, sec. 3.2."""

from math import exp, log, log1p

__all__ = ["siglip"]

LOG_10 = log(10)
CASES = {"siglip": [{"log_scale": 1.0, "bias": -0.5}]}


def siglip(similarity, positive, negative, *, log_scale=LOG_10, bias=-10.0):
    total = 0.0
    for i in range(len(similarity)):
        for j in range(len(similarity[i])):
            if positive[i][j] or negative[i][j]:
                z = 1 if positive[i][j] else -1
                total += log1p(exp(-z * (exp(log_scale) * similarity[i][j] + bias)))
    return total / len(similarity)
