"""The criterion: one thin module around the pure functions, and the sources of its columns."""

from pullpush.criterion.criterion import Criterion
from pullpush.criterion.memory import CrossBatchMemory
from pullpush.criterion.proxies import Proxies

__all__ = ["Criterion", "CrossBatchMemory", "Proxies"]
