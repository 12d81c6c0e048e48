"""Re-ranking: query expansion, database-side augmentation and k-reciprocal sets, a method a file."""

from pullpush.evaluation.rerank.apply import rerank
from pullpush.evaluation.rerank.options import Rerank, rerank_of

__all__ = ["Rerank", "rerank", "rerank_of"]
