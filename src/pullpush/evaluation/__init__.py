"""Evaluation: exact neighbours, retrieval metrics, the protocols of the benchmarks."""

from pullpush.evaluation.cross_modal import CrossModal, evaluate_image_text
from pullpush.evaluation.embed import Embedded, embed
from pullpush.evaluation.evaluate import Evaluation, evaluate
from pullpush.evaluation.neighbours import Neighbours, search

__all__ = [
    "CrossModal",
    "Embedded",
    "Evaluation",
    "Neighbours",
    "embed",
    "evaluate",
    "evaluate_image_text",
    "search",
]
