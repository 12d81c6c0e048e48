"""Kim 2020, eq. 4; Qian 2019; Zhai and Wu 2019; Deng 2019 and 2020; Wang 2018; Liu 2017 (all et al.)."""

from math import acos, cos, exp, floor, log, pi, sin, sqrt

__all__ = [
    "arcface",
    "cosface",
    "normalized_softmax",
    "proxy_anchor",
    "soft_triple",
    "sphereface",
    "sub_center_arcface",
]

CASES = {
    "normalized_softmax": [{"temperature": 0.5}],
    "cosface": [{"margin": 0.2, "scale": 10.0}],
    "arcface": [{"margin": 0.2, "scale": 10.0}],
    "sub_center_arcface": [{"margin": 1.0, "scale": 10.0, "centers": 1}, {"scale": 5.0, "centers": 2}],
    "sphereface": [{"margin": 2, "scale": 10.0}, {"margin": 1, "scale": 10.0}, {"margin": 3, "scale": 5.0}],
    "proxy_anchor": [{"margin": 0.3, "scale": 5.0}],
    "soft_triple": [
        {"centers": 2},
        {"centers": 1, "margin": 0.3},
        {"centers": 3, "tau": 0.0, "scale": 5.0, "gamma": 1.0},
    ],
}


def softmax_loss(own, others):
    """-log(e^own / (e^own + sum e^others))."""
    top = max([own, *others])
    return top - own + log(sum(exp(x - top) for x in [own, *others]))


def average_over_positives(similarity, positive, negative, own, scale):
    losses = []
    for i in range(len(similarity)):
        others = [scale * similarity[i][j] for j in range(len(similarity[i])) if negative[i][j]]
        for j in range(len(similarity[i])):
            if positive[i][j]:
                losses.append(softmax_loss(scale * own(similarity[i][j]), others))
    return sum(losses) / len(losses) if losses else 0.0


def classes_of(rows, centers, merge):
    return [[merge(row[c : c + centers]) for c in range(0, len(row), centers)] for row in rows]


def normalized_softmax(similarity, positive, negative, *, temperature=0.05):
    return average_over_positives(similarity, positive, negative, lambda s: s, 1 / temperature)


def cosface(similarity, positive, negative, *, margin=0.35, scale=64.0):
    return average_over_positives(similarity, positive, negative, lambda s: s - margin, scale)


def angular(margin):
    def own(s):
        theta = acos(max(-1.0, min(1.0, s)))
        return cos(theta + margin) if theta < pi - margin else cos(theta) - margin * sin(margin)

    return own


def arcface(similarity, positive, negative, *, margin=0.5, scale=64.0):
    return average_over_positives(similarity, positive, negative, angular(margin), scale)


def sub_center_arcface(similarity, positive, negative, *, margin=0.5, scale=64.0, centers=3):
    nearest = classes_of(similarity, centers, max)
    sides = [classes_of(mask, centers, any) for mask in (positive, negative)]
    return average_over_positives(nearest, *sides, angular(margin), scale)


def sphereface(similarity, positive, negative, *, margin=4, scale=30.0):
    def own(s):
        theta = acos(max(-1.0, min(1.0, s)))
        k = min(margin - 1, floor(theta * margin / pi))
        return (-1) ** k * cos(margin * theta) - 2 * k

    return average_over_positives(similarity, positive, negative, own, scale)


def proxy_anchor(similarity, positive, negative, *, margin=0.1, scale=32.0):
    if not any(map(any, positive)) and not any(map(any, negative)):
        return 0.0
    pulls, pushes = [], []
    for p in range(len(similarity[0])):
        own = [-scale * (similarity[x][p] - margin) for x in range(len(similarity)) if positive[x][p]]
        others = [scale * (similarity[x][p] + margin) for x in range(len(similarity)) if negative[x][p]]
        if own:
            pulls.append(softmax_loss(0.0, own))
        pushes.append(softmax_loss(0.0, others))
    return (sum(pulls) / len(pulls) if pulls else 0.0) + sum(pushes) / len(pushes)


def soft_triple(
    similarity,
    positive,
    negative,
    *,
    reference_similarity,
    scale=20.0,
    gamma=0.1,
    margin=0.01,
    tau=0.2,
    centers=10,
):
    def mixture(cells):
        weights = [exp(x / gamma) for x in cells]
        return sum(w * x for w, x in zip(weights, cells, strict=True)) / sum(weights)

    if not any(map(any, positive)) and not any(map(any, negative)):
        return 0.0
    mixed = classes_of(similarity, centers, mixture)
    sides = [classes_of(mask, centers, any) for mask in (positive, negative)]
    value = average_over_positives(mixed, *sides, lambda s: s - margin, scale)
    spread, classes = 0.0, len(reference_similarity) // centers
    for c in range(classes):
        for k in range(c * centers, (c + 1) * centers):
            for other in range(k + 1, (c + 1) * centers):
                spread += sqrt(max(0.0, 2 - 2 * reference_similarity[k][other]))
    return value + (tau * spread / (classes * centers * (centers - 1)) if centers > 1 else 0.0)
