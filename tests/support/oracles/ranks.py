"""Losses on ranks and histograms."""

from math import exp, floor, log

__all__ = ["fast_ap", "histogram", "pnp", "recall_at_k", "smooth_ap"]

CASES = {
    "smooth_ap": [{"temperature": 0.2}],
    "recall_at_k": [{"temperature": 0.1, "ks": (1, 3), "k_temperature": 0.5}],
    "pnp": [{"temperature": 0.1, "variant": v} for v in ("O", "Iu", "Ib", "Ds", "Dq")]
    + [{"variant": "Dq", "power": 3.0}],
    "fast_ap": [{"bins": 5, "farthest": 20.0}],
    "histogram": [{"bins": 7}],
}


def columns(mask):
    return [j for j, keep in enumerate(mask) if keep]


def sigmoid(x):
    return 1 / (1 + exp(-x)) if x > -700 else 0.0


def rows(similarity, positive, negative):
    return zip(similarity, map(columns, positive), map(columns, negative), strict=True)


def before(s, j, others, temperature):
    """How many of the others stand before column j."""
    return sum(sigmoid((s[k] - s[j]) / temperature) for k in others if k != j)


def mean(losses):
    return sum(losses) / len(losses) if losses else 0.0


def smooth_ap(similarity, positive, negative, *, temperature=0.01):
    """Brown et al. 2020, sec. 4."""
    losses = []
    for s, p, n in rows(similarity, positive, negative):
        if p:
            places = [1 + before(s, j, p, temperature) for j in p]
            ranks = [1 + before(s, j, p + n, temperature) for j in p]
            losses.append(1 - mean([a / b for a, b in zip(places, ranks, strict=True)]))
    return mean(losses)


def recall_at_k(similarity, positive, negative, *, ks=(1, 2, 4, 8, 16), temperature=0.01, k_temperature=1.0):
    """Patel et al. 2022, sec. 3."""
    losses = []
    for s, p, n in rows(similarity, positive, negative):
        if p:
            ranks = [1 + before(s, j, p + n, temperature) for j in p]
            found = [min(k, sum(sigmoid((k - r) / k_temperature) for r in ranks)) / min(k, len(p)) for k in ks]
            losses.append(1 - mean(found))
    return mean(losses)


def pnp(similarity, positive, negative, *, variant="O", temperature=0.01, steepness=2.0, power=1.0):
    """Li et al. 2022, sec. 3."""
    f = {
        "O": lambda r: r,
        "Iu": lambda r: (1 + r) * log(1 + r),
        "Ib": lambda r: (steepness * r - log(1 + steepness * r)) / steepness**2,
        "Ds": lambda r: log(1 + r),
        "Dq": lambda r: 1 - 1 / (1 + r) ** power,
    }[variant]
    return mean(
        [mean([f(before(s, j, n, temperature)) for j in p]) for s, p, n in rows(similarity, positive, negative) if p]
    )


def nodes(values, first, last, bins):
    """A histogram over bins + 1 nodes, each value shared by the two beside it."""
    width = (last - first) / bins
    heights = [0.0] * (bins + 1)
    for x in values:
        place = max(0.0, min(float(bins), (x - first) / width))
        low = min(floor(place), bins - 1)
        heights[low] += low + 1 - place
        heights[low + 1] += place - low
    return heights


def fast_ap(similarity, positive, negative, *, bins=10, farthest=4.0):
    """Cakir et al. 2019, sec. 3."""
    losses = []
    for s, p, n in rows(similarity, positive, negative):
        if p:
            h = nodes([-s[j] for j in p], 0.0, farthest, bins)
            every = nodes([-s[j] for j in p + n], 0.0, farthest, bins)
            terms = [sum(h[: b + 1]) * h[b] / sum(every[: b + 1]) for b in range(bins + 1) if h[b] > 0]
            losses.append(1 - sum(terms) / len(p))
    return mean(losses)


def histogram(similarity, positive, negative, *, bins=100):
    """Ustinova and Lempitsky 2016, sec. 3."""
    pull = [s[j] for s, p, _ in rows(similarity, positive, negative) for j in p]
    push = [s[k] for s, _, n in rows(similarity, positive, negative) for k in n]
    if not pull or not push:
        return 0.0
    h, g = nodes(pull, -1.0, 1.0, bins), nodes(push, -1.0, 1.0, bins)
    return sum(g[b] * sum(h[: b + 1]) for b in range(bins + 1)) / len(pull) / len(push)
