"""The criterion: one thin module around the pure functions, and the sources of its columns."""

from pullpush.criterion.criterion import Criterion
from pullpush.criterion.gradient_cache import cached_step, chunked
from pullpush.criterion.memory import CrossBatchMemory
from pullpush.criterion.proxies import Proxies
from pullpush.criterion.regularizer import Regularizer
from pullpush.criterion.sum import Sum

__all__ = ["Criterion", "CrossBatchMemory", "Proxies", "Regularizer", "Sum", "cached_step", "chunked"]
