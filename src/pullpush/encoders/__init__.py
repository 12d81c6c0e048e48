"""Encoders: images and strings to embeddings, and the model bundle on disk."""

from pullpush.extras import need

need("train")

from pullpush.encoders.bundle import save
from pullpush.encoders.compression import Compression
from pullpush.encoders.decision import Decision
from pullpush.encoders.explain import Match
from pullpush.encoders.image import ImageEncoder
from pullpush.encoders.model import Model
from pullpush.encoders.pretrained import load
from pullpush.encoders.rerank import Rerank
from pullpush.encoders.text import TextEncoder
from pullpush.encoders.towers import TwoTowers
from pullpush.encoders.views import View, Views

__all__ = [
    "Compression",
    "Decision",
    "ImageEncoder",
    "Match",
    "Model",
    "Rerank",
    "TextEncoder",
    "TwoTowers",
    "View",
    "Views",
    "load",
    "save",
]
