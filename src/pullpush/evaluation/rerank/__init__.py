"""Re-ranking: query expansion, database-side augmentation and k-reciprocal sets, a method a file."""

from pullpush.evaluation.rerank.apply import Reranked, rerank
from pullpush.evaluation.rerank.options import Rerank, rerank_of

__all__ = ["Rerank", "Reranked", "rerank", "rerank_of"]
