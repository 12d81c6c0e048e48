"""Yu and Tao 2019."""

__all__ = ["intra_pair_variance"]

CASES = {"intra_pair_variance": [{"positive_slack": 0.2, "negative_slack": 0.3}]}


def intra_pair_variance(similarity, positive, negative, *, positive_slack=0.01, negative_slack=0.01):
    near = [x for s, p in zip(similarity, positive, strict=True) for x, keep in zip(s, p, strict=True) if keep]
    far = [x for s, n in zip(similarity, negative, strict=True) for x, keep in zip(s, n, strict=True) if keep]
    value = 0.0
    if near:
        goal = (1 - positive_slack) * sum(near) / len(near)
        value += sum(max(0.0, goal - x) ** 2 for x in near) / len(near)
    if far:
        goal = (1 + negative_slack) * sum(far) / len(far)
        value += sum(max(0.0, x - goal) ** 2 for x in far) / len(far)
    return value
