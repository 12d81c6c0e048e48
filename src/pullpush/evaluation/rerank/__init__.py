"""Re-ranking: query expansion, database-side augmentation and k-reciprocal sets, a method a file."""

from pullpush.encoders.rerank import Rerank, rerank_of
from pullpush.evaluation.rerank.apply import rerank

__all__ = ["Rerank", "rerank", "rerank_of"]
