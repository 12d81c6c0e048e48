"""pullpush: deep metric learning, from the loss to the search engine.

pullpush.train(data="emoji", steps=200, out="runs/mine")
pullpush.load("runs/mine").embed(["cat.png"])
criterion = pullpush.Criterion(pullpush.losses.circle(margin=0.4), memory=pullpush.CrossBatchMemory(8192, dim=128))
"""

import importlib
from typing import TYPE_CHECKING, Any

from pullpush.errors import UserError
from pullpush.extras import need

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pullpush import losses as losses
    from pullpush import miners as miners
    from pullpush import regularizers as regularizers
    from pullpush import relations as relations
    from pullpush import search as search
    from pullpush import similarities as similarities
    from pullpush.criterion import Criterion as Criterion
    from pullpush.criterion import CrossBatchMemory as CrossBatchMemory
    from pullpush.criterion import Proxies as Proxies
    from pullpush.data.images import ImageDataset as ImageDataset
    from pullpush.data.items import Items as Items
    from pullpush.data.sampler import ClassBalancedSampler as ClassBalancedSampler
    from pullpush.data.sampler import ShuffledSampler as ShuffledSampler
    from pullpush.data.sources import open_items as open_items
    from pullpush.data.splits import split_by_class as split_by_class
    from pullpush.doctor import diagnose as diagnose
    from pullpush.encoders import ImageEncoder as ImageEncoder
    from pullpush.encoders import TextEncoder as TextEncoder
    from pullpush.encoders import load as load
    from pullpush.evaluation import embed as embed
    from pullpush.evaluation import evaluate as evaluate
    from pullpush.reports import report as report
    from pullpush.training import train as train

# Where names live. Loaded at first use, since torch, timm and faiss take seconds. A room says itself which extra
# it needs, but for data, whose samplers need none.
_HOMES = {
    "": ("losses", "miners", "regularizers", "relations", "search", "similarities"),
    "pullpush.criterion": ("Criterion", "CrossBatchMemory", "Proxies"),
    "pullpush.data.images": ("ImageDataset",),
    "pullpush.data.items": ("Items",),
    "pullpush.data.sampler": ("ClassBalancedSampler", "ShuffledSampler"),
    "pullpush.data.sources": ("open_items",),
    "pullpush.data.splits": ("split_by_class",),
    "pullpush.doctor": ("diagnose",),
    "pullpush.encoders": ("ImageEncoder", "TextEncoder", "load"),
    "pullpush.evaluation": ("embed", "evaluate"),
    "pullpush.reports": ("report",),
    "pullpush.training": ("train",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}
_WITH_PANDAS = ("pullpush.data.images", "pullpush.data.items", "pullpush.data.sources", "pullpush.data.splits")

__all__ = ["UserError", "__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'pullpush' has no attribute {name!r}")
    if not _HOME[name]:
        return importlib.import_module(f"pullpush.{name}")
    if _HOME[name] in _WITH_PANDAS:
        need("train")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
