"""Findings in the embeddings themselves."""

from typing import Any

from pullpush.doctor.advice import Cure, advise, lower_rate
from pullpush.doctor.finding import Finding, Measures, Objective
from pullpush.doctor.measure import SIDES

__all__ = [
    "collapse",
    "dead_dimensions",
    "dominating_dimension",
    "false_negatives",
    "modality_gap",
    "near_collapse",
    "not_finite",
    "not_normalised",
]

# Mean cosine of unrelated items: all directions within some 8 degrees, and within some 25.
COLLAPSED, NEAR = 0.99, 0.9
# Effective rank of a set of more than FEW embeddings that lie on a line, and nearly so.
ONE_LINE, FEW_LINES = 1.5, 3.0
FEW = 8
# Items that have no meaningful spread: below this number nothing is said of dimensions.
ENOUGH = 32
DOMINATING = 0.5
# Share of the steps in which embeddings may draw together.
SETTLED = 0.2
NORM_ERROR = 0.05
DUPLICATES = 0.02


def collapse(m: Measures, o: Objective) -> Finding | None:
    """All embeddings are one point, or lie on one line: the softmax has no slope left, the loss stays at ln N."""
    for side in SIDES:
        cos, rank = m[f"{side}/mean_cosine"], m[f"{side}/effective_rank"]
        few = min(m[f"{side}/items"], m[f"{side}/dim"]) <= FEW or m[f"{side}/dominating_share"] > DOMINATING
        if cos > COLLAPSED or (rank < ONE_LINE and not few):
            return Finding("collapse", "critical", _evidence(m, side), _way_out(m, o))
    return None


def near_collapse(m: Measures, o: Objective) -> Finding | None:
    """The embeddings draw together: their mean cosine is high and rose since the first look, or few directions are
    left."""
    if m["step"] < SETTLED * o.steps:
        return None  # many losses pull before they push
    for side in SIDES:
        cos, rank, first = m[f"{side}/mean_cosine"], m[f"{side}/effective_rank"], m[f"first_{side}/mean_cosine"]
        few = min(m[f"{side}/items"], m[f"{side}/dim"]) <= FEW or m[f"{side}/dominating_share"] > DOMINATING
        drawn = NEAR < cos <= COLLAPSED and not cos < first + 0.02
        if drawn or (ONE_LINE <= rank < FEW_LINES and cos <= COLLAPSED and not few):
            return Finding("near_collapse", "warning", _evidence(m, side), _way_out(m, o))
    return None


def modality_gap(m: Measures, o: Objective) -> Finding | None:
    """Matching pairs of two modalities are farther apart than unrelated items of one: each modality has a region of
    its own."""
    # Untrained towers have it too.
    early = m["step"] < 0.5 * o.steps
    if m["modality_gap"] > 0.5 and m["positive"] < m["closest_cosine"] and not early:
        evidence = {"gap": m["modality_gap"], "matching_cosine": m["positive"], "same_side_cosine": m["closest_cosine"]}
        return Finding(
            "modality_gap",
            "note",
            evidence,
            advise(
                o,
                Cure("train longer: {}", {"steps": 2 * o.steps} if o.steps else {}),
                Cure("start from a higher temperature: {}", {"loss.temperature": 2 * (o.option("temperature") or 0.1)}),
                note="Search one modality by the other, not both in one index.",
            ),
        )
    return None


def dead_dimensions(m: Measures, o: Objective) -> Finding | None:
    """Dimensions that are the same for all items carry nothing."""
    for side in SIDES:
        dead, dim = m[f"{side}/dead_dimensions"], m[f"{side}/dim"]
        if 0 < dead < dim and m[f"{side}/items"] >= ENOUGH and not _is_collapsed(m, side):
            cures = [
                Cure("{} loses nothing", {"encoder.dim": max(8, int(dim - dead))}),
                Cure("to fill all, end the head with a linear layer: {}", {"encoder.head": "linear"}),
                Cure("lower the learning rate: {}", lower_rate(o)),
            ]
            evidence = {"dead": dead, "dimensions": dim}
            return Finding("dead_dimensions", "warning", evidence, advise(o, *cures))
    return None


def dominating_dimension(m: Measures, o: Objective) -> Finding | None:
    """One dimension carries most of the variance: the similarity is decided by it."""
    for side in SIDES:
        share, dim = m[f"{side}/dominating_share"], m[f"{side}/dim"]
        enough = m[f"{side}/items"] >= ENOUGH and dim >= FEW
        if share > DOMINATING and enough and not m[f"{side}/mean_cosine"] > COLLAPSED:
            decay = {"optimizer.weight_decay": max(0.01, 10 * o.run.get("optimizer.weight_decay", 0.0))}
            cures = [
                Cure("lower the learning rate: {}", lower_rate(o)),
                Cure("add weight decay: {}", decay),
                Cure("standardise features of unequal scale first"),
            ]
            evidence = {"share": share, "dimensions": dim}
            return Finding("dominating_dimension", "warning", evidence, advise(o, *cures))
    return None


def not_finite(m: Measures, o: Objective) -> Finding | None:
    """Embeddings with NaN or infinity."""
    for side in SIDES:
        bad = m[f"{side}/not_finite"]
        if bad > 0:
            return Finding("not_finite", "critical", {"rows": bad}, _finite_again(o))
    return None


def not_finite_step(step: int, tensor: str | None, o: Objective) -> Finding:
    """The loss or its gradient was no number at a step; `tensor` names the first one that was not."""
    evidence: dict[str, float | str] = {"step": float(step)}
    evidence |= {"first_tensor": tensor} if tensor else {}
    return Finding("not_finite", "critical", evidence, _finite_again(o))


def not_normalised(m: Measures, o: Objective) -> Finding | None:
    """The loss compares lengths too, and its options are meant for unit vectors."""
    error = max((m[f"{side}/norm_error"] for side in SIDES if f"{side}/norm_error" in m), default=0.0)
    if o.loss and o.similarity != "cosine" and error > NORM_ERROR:
        cures = [Cure("{}", {"similarity": "cosine"}), Cure("divide each embedding by its length")]
        note = f"The options of {o.loss} are for vectors of length 1."
        return Finding("not_normalised", "warning", {"largest_norm_error": error}, advise(o, *cures, note=note))
    return None


def false_negatives(m: Measures, o: Objective) -> Finding | None:
    """The same image, or the same words, under two labels: the loss pushes apart what is equal."""
    sure = m["duplicates"] - m.get("duplicates_error", 0.0)
    if sure > DUPLICATES and not any(_is_collapsed(m, side) for side in SIDES):
        classes = int(o.run.get("batch.classes", 0)) // 2
        cures = [
            Cure("give equal items one label, or remove one of them"),
            Cure("meet fewer of them in a batch: {}", {"batch.classes": classes} if classes > 1 else {}),
        ]
        note = f"`pullpush data {o.run.get('data.source', 'FOLDER')}` lists what is equal."
        return Finding("false_negatives", "warning", {"share_of_items": m["duplicates"]}, advise(o, *cures, note=note))
    return None


def _is_collapsed(m: Measures, side: str) -> bool:
    return m[f"{side}/mean_cosine"] > COLLAPSED or m[f"{side}/effective_rank"] < ONE_LINE


def _evidence(m: Measures, side: str) -> dict[str, float]:
    named = {name: m[f"{side}/{name}"] for name in ("mean_cosine", "effective_rank") if f"{side}/{name}" in m}
    return named | {name: m[name] for name in ("loss", "chance", "largest_update_ratio") if name in m}


def _way_out(m: Measures, o: Objective) -> str:
    options: dict[str, Any] = {}
    # Embeddings alone do not tell the temperature: then it is the one of the configuration.
    if o.softmax and m.get("temperature", o.option("temperature") or 0.0) >= 0.3:
        options["loss.temperature"] = 0.07
    if o.lr is not None and (o.lr > 2e-3 or not options):
        options |= lower_rate(o, most=5e-4)
    if o.loss == "triplet" and o.option("kind") == "hard":
        options["loss.kind"] = "semihard"
    return advise(o, Cure("start anew with {}", options) if options else Cure("start anew with a lower learning rate"))


def _finite_again(o: Objective) -> str:
    clip = o.run.get("optimizer.clip", 0.0)
    cures = [
        Cure("lower the learning rate: {}", lower_rate(o)),
        Cure("clip the gradient: {}", {"optimizer.clip": 1.0 if not clip or clip > 1 else clip / 10}),
    ]
    source = o.run.get("data.source", "FOLDER")
    return advise(o, *cures, note=f"Where an input is named, look at the data: `pullpush data {source}`.")
