"""Chen et al. 2020, eq. 1; Yeh et al. 2022; Sohn 2016; Khosla et al. 2020, eq. 2 and 3."""

from math import exp, log

__all__ = ["decoupled_contrastive", "n_pair", "nt_xent", "sup_con"]

CASES = {
    "nt_xent": [{"temperature": 0.5}],
    "decoupled_contrastive": [{"temperature": 0.5}],
    "n_pair": [{"temperature": 1.0}, {"one_vs_one": True}, {"one_vs_one": True, "temperature": 1.0}],
    "sup_con": [{"temperature": 0.5, "positives": "in"}, {"positives": "in"}],
}


def mean(values):
    return sum(values) / len(values) if values else 0.0


def picked(row, mask):
    return [x for x, keep in zip(row, mask, strict=True) if keep]


def log1p_sum_exp(values):
    top = max([0.0, *values])
    return top + log(exp(-top) + sum(exp(x - top) for x in values))


def nt_xent(similarity, positive, negative, *, temperature=0.1):
    # -log(e^p / (e^p + sum e^n)) = log(1 + sum e^(n - p)), which keeps its digits.
    return mean(
        [
            log1p_sum_exp([(x - y) / temperature for x in picked(s, n)])
            for s, p, n in zip(similarity, positive, negative, strict=True)
            for y in picked(s, p)
        ]
    )


def n_pair(similarity, positive, negative, *, temperature=0.1, one_vs_one=False):
    losses = []
    for i in range(len(similarity)):
        for p in range(len(similarity[i])):
            if positive[i][p]:
                terms = [
                    similarity[i][n] / temperature - similarity[i][p] / temperature
                    for n in range(len(similarity[i]))
                    if negative[i][n]
                ]
                losses.append(sum(log1p_sum_exp([x]) for x in terms) if one_vs_one else log1p_sum_exp(terms))
    return mean(losses)


def decoupled_contrastive(similarity, positive, negative, *, temperature=0.1):
    return mean(
        [
            -y / temperature + log(sum(exp(x / temperature) for x in picked(s, n)))
            for s, p, n in zip(similarity, positive, negative, strict=True)
            for y in picked(s, p)
            if any(n)
        ]
    )


def sup_con(similarity, positive, negative, *, temperature=0.1, positives="out"):
    losses = []
    for s, p, n in zip(similarity, positive, negative, strict=True):
        near = picked(s, p)
        if not near:
            continue
        everything = sum(exp(x / temperature) for x in near + picked(s, n))
        shares = [exp(x / temperature) / everything for x in near]
        losses.append(-mean([log(x) for x in shares]) if positives == "out" else -log(mean(shares)))
    return mean(losses)
