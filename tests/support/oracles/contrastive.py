"""Hadsell et al. 2006 eq. 4; Wang et al. 2020 (XBM) sec. 3.2; Yuan et al. 2019."""

__all__ = ["contrastive", "snr_contrastive"]

CASES = {
    "contrastive": [
        {"average": "pairs"},
        {"average": "anchors"},
        {"positive_margin": 0.0, "negative_margin": -1.0, "squared": True, "average": "pairs"},
        {"positive_margin": 0.3, "negative_margin": -0.2, "squared": True},
    ],
    "snr_contrastive": [{"positive_margin": -0.5, "negative_margin": -1.5, "average": "pairs"}],
}


def contrastive(
    similarity, positive, negative, *, positive_margin=1.0, negative_margin=0.5, squared=False, average="nonzero"
):
    pulls, pushes = [], []
    for i in range(len(similarity)):
        for j in range(len(similarity[i])):
            if positive[i][j]:
                pulls.append(max(0.0, positive_margin - similarity[i][j]))
            if negative[i][j]:
                pushes.append(max(0.0, similarity[i][j] - negative_margin))
    active = [sum(x > 0 for x in side) for side in (pulls, pushes)]
    if squared:
        pulls, pushes = [x * x for x in pulls], [x * x for x in pushes]
    if average == "anchors":
        return (sum(pulls) + sum(pushes)) / len(similarity)
    counts = active if average == "nonzero" else [len(pulls), len(pushes)]
    return sum(sum(side) / n for side, n in zip((pulls, pushes), counts, strict=True) if n)


def snr_contrastive(similarity, positive, negative, *, positive_margin=0.0, negative_margin=-1.0, average="nonzero"):
    # The similarity is minus the ratio d: pull [d - a]+, push [b - d]+ with a = -positive_margin, b = -negative_margin.
    pulls, pushes = [], []
    for s, p, n in zip(similarity, positive, negative, strict=True):
        pulls += [max(0.0, -x - -positive_margin) for x, keep in zip(s, p, strict=True) if keep]
        pushes += [max(0.0, -negative_margin - -x) for x, keep in zip(s, n, strict=True) if keep]
    if average == "anchors":
        return (sum(pulls) + sum(pushes)) / len(similarity)
    if average == "nonzero":
        pulls, pushes = [x for x in pulls if x > 0], [x for x in pushes if x > 0]
    return sum(sum(side) / len(side) for side in (pulls, pushes) if side)
