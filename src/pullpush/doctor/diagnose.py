"""From measures, or from plain arrays, to findings."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pullpush.doctor.declaration import SEVERITIES, Finding, Findings
from pullpush.doctor.findings import FINDINGS
from pullpush.doctor.measures import Measures, measure_cells, measure_duplicates, measure_sides
from pullpush.doctor.objective import Objective
from pullpush.errors import UserError
from pullpush.maths import losses
from pullpush.maths.choice import Loss, chosen
from pullpush.maths.pairs import make_pairs
from pullpush.maths.rectangle import Rectangle, value
from pullpush.maths.similarity import SIMILARITIES
from pullpush.names import look_up

__all__ = ["diagnose", "examine", "explained_by", "ranked"]

# Rows of plain arrays that are compared with one another.
ROWS = 1024


def examine(measures: Mapping[str, float], objective: Objective) -> Findings:
    """All findings, as `ranked` gives them."""
    known = Measures(measures)
    return ranked(finding for declared in FINDINGS.values() if (finding := declared(known, objective)))


def ranked(findings: Iterable[Finding]) -> Findings:
    """Worst first, without those that another one explains."""
    by_name = {finding.finding: finding for finding in findings}
    left = [finding for name, finding in by_name.items() if not explained_by(name, by_name)]
    return Findings(sorted(left, key=lambda finding: SEVERITIES.index(finding.severity)))


def explained_by(name: str, others: Collection[str]) -> str:
    """Which of the others, where any, explains a finding, so that it need not be named."""
    return next((other for other in others if other in FINDINGS and name in FINDINGS[other].hides), "")


def diagnose(
    embeddings: Any,
    labels: Any,
    ids: Any = None,
    *,
    references: Any = None,
    reference_labels: Any = None,
    loss: str | Loss = "",
    similarity: str | None = None,
    seed: int = 0,
    **options: Any,
) -> Findings:
    """What is wrong with embeddings, worst first; an empty list where nothing is.

        for finding in pullpush.diagnose(images, labels, references=texts, reference_labels=labels, loss="n_pair"):
            print(finding)

    Args:
        embeddings: [n, dim], numpy or torch.
        labels: int [n]; equal labels are positives.
        ids: int [n], which item an embedding is of; by default each is its own.
        references: [m, dim] of another modality, with `reference_labels` [m]; the embeddings are then called image,
            the references text.
        loss: that they are trained with, by name or as `losses.n_pair(temperature=1)`, for findings about its value and
            its options.
        similarity: by default the one of the loss's paper.
        seed: of the draw of 1,024 rows where there are more, for what compares each row with each.
        options: of the loss, such as temperature=1.

    Raises:
        UserError: shapes that do not fit, an unknown loss, similarity or option, options without a loss, labels of
            references that are not there.
    """
    if options and not loss:
        raise UserError(f"{', '.join(options)}: an option of which loss? name it, as loss='nt_xent'")
    x, y = _matrix(embeddings, "embeddings"), None
    own = _column(labels, len(x), "labels")
    numbers = torch.arange(len(x)) if ids is None else _column(ids, len(x), "ids")
    other, other_numbers = own, numbers
    if references is not None:
        y = _matrix(references, "references")
        other = _column(reference_labels, len(y), "reference_labels")
        if y.shape[1] != x.shape[1]:
            raise UserError(f"references have {y.shape[1]} dimensions and the embeddings {x.shape[1]}: give as many")
        other_numbers = min(0, int(numbers.min())) - 1 - torch.arange(len(y))  # none is an id of the other side
    elif reference_labels is not None:
        raise UserError("reference_labels are of references: give them too, or leave the labels out")
    trained = chosen("loss", loss, losses.REGISTRY, options) if loss else None
    what = Objective(trained, similarity or "")
    similar = look_up("similarity", what.similarity, SIMILARITIES)
    measures = measure_sides({"embeddings": x} if y is None else {"image": x, "text": y})
    rows = _drawn(len(x), seed)
    columns = rows if y is None else (rows if len(y) == len(x) else _drawn(len(y), seed))
    a, b = x[rows], (x if y is None else y)[columns]
    if not (a.isfinite().all() and b.isfinite().all()):
        return examine(measures, what)
    pairs = make_pairs(own[rows], numbers[rows], other[columns], other_numbers[columns])
    s = similar(a, b)
    measures |= measure_cells(s, pairs, what, itself=y is None)
    measures |= measure_duplicates([(a, own[rows], numbers[rows]), (b, other[columns], other_numbers[columns])])
    if trained is not None and not (trained.traits.proxies or trained.traits.wants_references):
        measures["loss"] = float(value(trained(Rectangle(s, pairs))))
    return examine(measures, what)


def _drawn(n: int, seed: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:ROWS].sort().values


def _matrix(values: Any, name: str) -> Tensor:
    x = _tensor(values, name)
    if x.ndim != 2 or not len(x):
        raise UserError(f"{name} must be [n, dim] with at least one row, got {list(x.shape)}")
    return x.float()


def _tensor(values: Any, name: str) -> Tensor:
    try:  # a copy, as torch takes no view of an array that runs backwards
        return torch.as_tensor(values if isinstance(values, Tensor) else np.array(values)).detach().cpu()
    except (TypeError, ValueError):
        raise UserError(f"{name} must be numbers, not {type(values).__name__} of others") from None


def _column(values: Any, length: int, name: str) -> Tensor:
    if values is None:
        raise UserError(f"{name} are missing: give one for each of the {length} rows")
    x = _tensor(values, name)
    if x.shape != (length,) or x.is_floating_point():
        raise UserError(f"{name} must be {length} whole numbers, got {list(x.shape)} of {x.dtype}")
    return x.long()
