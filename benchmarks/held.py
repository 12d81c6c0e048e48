"""Embeddings in the place of a store."""

import numpy as np

from pullpush.evaluation import knn


class Held:
    """Embeddings by row, as a store has them."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors

    def __len__(self) -> int:
        return len(self.vectors)

    def get(self, ids: np.ndarray) -> np.ndarray:
        return self.vectors[ids]

    def search(self, queries: np.ndarray, k: int, where: object = None) -> tuple[np.ndarray, np.ndarray]:
        found = knn.search(queries, self.vectors, k)
        return found.similarities, found.indices
