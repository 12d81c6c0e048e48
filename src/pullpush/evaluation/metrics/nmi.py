"""Normalised mutual information of k-means clusters and classes."""

import warnings

import numpy as np

from pullpush.evaluation.knn import Floats, Ints
from pullpush.evaluation.metrics.base import metric
from pullpush.progress import work

__all__ = ["nmi"]

BUDGET = 100_000_000
"""Items x classes up to which all items are clustered."""

ROUNDS = 20


@metric("nmi", "NMI", of_clusters=True)
def nmi(embeddings: Floats, labels: Ints, seed: int = 0, budget: int = BUDGET) -> tuple[float, int]:
    """Normalised mutual information of the classes and a k-means clustering into as many clusters.

        NMI = 2 I(classes; clusters) / (H(classes) + H(clusters))

    k-means++ start (Arthur and Vassilvitskii 2007), then 20 rounds of Lloyd by FAISS, both seeded. k-means costs
    items x classes a round: where that is above `budget` (Stanford Online Products: 6.8e8), whole classes are drawn
    until it holds, which scores slightly higher than all classes would.

    Returns:
        NMI, and the number of items that were clustered.
    """
    import faiss  # with sklearn: seconds, when it is needed
    from sklearn.cluster import kmeans_plusplus
    from sklearn.metrics import normalized_mutual_info_score

    classes, members = np.unique(labels, return_inverse=True)
    if len(labels) * len(classes) > budget:
        share = (budget / (len(labels) * len(classes))) ** 0.5
        chosen = np.random.default_rng(seed).permutation(len(classes)) < max(2, int(share * len(classes)))
        embeddings, members = embeddings[chosen[members]], members[chosen[members]]
    count = len(np.unique(members))
    with work("clustering", ROUNDS, "rounds") as current:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # fewer distinct points than classes is a score, not a warning
            centres, _ = kmeans_plusplus(embeddings, count, random_state=seed, n_local_trials=1)
        for _ in range(ROUNDS):  # one at a time, to be counted
            kmeans = faiss.Kmeans(
                embeddings.shape[1],
                count,
                niter=1,
                seed=seed,
                min_points_per_centroid=1,
                max_points_per_centroid=len(embeddings),
            )
            kmeans.train(embeddings, init_centroids=centres)
            centres = kmeans.centroids
            current.advance()
    _, assigned = kmeans.index.search(embeddings, 1)
    return float(normalized_mutual_info_score(members, assigned[:, 0])), len(embeddings)
