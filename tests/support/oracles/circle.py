"""Sun et al. 2020, eq. 5 and 6; the paper's gradient takes the weights as constants."""

from math import exp, log, log1p

__all__ = ["circle"]

CASES = {
    "circle": [{"margin": 0.25, "scale": 256.0}, {"per": "batch"}, {"per": "batch", "margin": 0.25, "scale": 20.0}]
}


def circle(similarity, positive, negative, *, margin=0.4, scale=80.0, per="anchor", weights_at=None):
    weights_at = similarity if weights_at is None else weights_at
    groups = []
    for i in range(len(similarity)):
        pulls, pushes = [], []
        for j in range(len(similarity[i])):
            s, w = similarity[i][j], weights_at[i][j]
            if positive[i][j]:
                pulls.append(-scale * max(0.0, 1 + margin - w) * (s - (1 - margin)))
            if negative[i][j]:
                pushes.append(scale * max(0.0, w + margin) * (s - margin))
        groups.append((pulls, pushes))
    if per == "batch":
        groups = [tuple([x for group in groups for x in group[side]] for side in (0, 1))]
    losses = []
    for pulls, pushes in groups:
        if pulls and pushes:
            top = max(pulls) + max(pushes)
            rest = log(sum(exp(x - max(pulls)) for x in pulls)) + log(sum(exp(x - max(pushes)) for x in pushes))
            x = top + rest
            losses.append(x + log1p(exp(-x)) if x > 0 else log1p(exp(x)))
    return sum(losses) / len(losses) if losses else 0.0
