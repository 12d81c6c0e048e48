"""Evaluation: exact neighbours, retrieval metrics, the protocols of the benchmarks."""

from pullpush.extras import need

need("train")

from pullpush.evaluation.calibration import fit_decision, reliability
from pullpush.evaluation.chosen import Chosen, choose_rerank
from pullpush.evaluation.compression import Compressed, compressed
from pullpush.evaluation.cross_modal import CrossModal, evaluate_image_text
from pullpush.evaluation.embed import Embedded, embed
from pullpush.evaluation.evaluate import Evaluation, evaluate
from pullpush.evaluation.knn import Neighbours, search
from pullpush.evaluation.open_set import Identification, identification
from pullpush.evaluation.protocols import PROTOCOLS, Protocol, evaluate_items, protocol_for
from pullpush.evaluation.rerank import Rerank
from pullpush.evaluation.verification import Verification, verify
from pullpush.evaluation.votes import knn_accuracy

__all__ = [
    "PROTOCOLS",
    "Chosen",
    "Compressed",
    "CrossModal",
    "Embedded",
    "Evaluation",
    "Identification",
    "Neighbours",
    "Protocol",
    "Rerank",
    "Verification",
    "choose_rerank",
    "compressed",
    "embed",
    "evaluate",
    "evaluate_image_text",
    "evaluate_items",
    "fit_decision",
    "identification",
    "knn_accuracy",
    "protocol_for",
    "reliability",
    "search",
    "verify",
]
