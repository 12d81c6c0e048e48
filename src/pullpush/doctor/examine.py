"""From measures, or from plain arrays, to findings."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from pullpush.doctor import course, embeddings, objective, start
from pullpush.doctor.finding import SEVERITIES, Finding, Measures, Objective
from pullpush.doctor.measure import measure_cells, measure_duplicates, measure_sides
from pullpush.errors import UserError
from pullpush.maths import losses
from pullpush.maths.choice import chosen
from pullpush.maths.pairs import make_pairs
from pullpush.maths.rectangle import Rectangle, value
from pullpush.maths.similarity import SIMILARITIES

__all__ = ["FINDINGS", "diagnose", "examine"]

#: A function a finding, by its name.
FINDINGS: dict[str, Callable[[Measures, Objective], Finding | None]] = {
    name: vars(module)[name] for module in (embeddings, objective, course, start) for name in module.__all__
}
# Rows of plain arrays that are compared with one another.
ROWS = 1024


def examine(measures: Mapping[str, float], objective: Objective) -> list[Finding]:
    """All findings, worst first. A finding that explains another takes its place."""
    known = Measures(measures)
    found = {f.finding: f for function in FINDINGS.values() if (f := function(known, objective))}
    if "collapse" in found:
        found.pop("loss_at_chance", None)
    if "temperature_too_low" in found:
        found.pop("near_collapse", None)
    if "loss_at_floor" in found:
        found.pop("temperature_too_high", None)
    return sorted(found.values(), key=lambda f: SEVERITIES.index(f.severity))


def diagnose(
    embeddings: Any,
    labels: Any,
    ids: Any = None,
    *,
    references: Any = None,
    reference_labels: Any = None,
    loss: str = "",
    similarity: str | None = None,
    seed: int = 0,
    **options: Any,
) -> list[Finding]:
    """What is wrong with embeddings, worst first; an empty list where nothing is.

        for finding in pullpush.diagnose(images, labels, references=texts, reference_labels=labels, loss="n_pair"):
            print(finding)

    Args:
        embeddings: [n, dim], numpy or torch.
        labels: int [n]; equal labels are positives.
        ids: int [n], which item an embedding is of; by default each is its own.
        references: [m, dim] of another modality, with `reference_labels` [m]; the embeddings are then called image,
            the references text.
        loss: name of the loss they are trained with, for findings about its value and its options.
        similarity: by default the one of the loss's paper.
        seed: of the draw of 1,024 rows where there are more, for what compares each row with each.
        options: of the loss, such as temperature=1.

    Raises:
        UserError: shapes that do not fit, an unknown loss or option.
    """
    x, y = _matrix(embeddings, "embeddings"), None
    own = _column(labels, len(x), "labels")
    numbers = torch.arange(len(x)) if ids is None else _column(ids, len(x), "ids")
    other, other_numbers = own, numbers
    if references is not None:
        y = _matrix(references, "references")
        other = _column(reference_labels, len(y), "reference_labels")
        other_numbers = -1 - torch.arange(len(y))
    what, trained = Objective(loss=loss, similarity=similarity or "cosine", options=options), None
    if loss:
        trained = chosen("loss", loss, losses.REGISTRY, options)
        what = Objective(loss, similarity or trained.traits.similarity, trained.options)
    found = measure_sides({"embeddings": x} if y is None else {"image": x, "text": y})
    rows = _drawn(len(x), seed)
    columns = rows if y is None else (rows if len(y) == len(x) else _drawn(len(y), seed))
    a, b = x[rows], (x if y is None else y)[columns]
    if not (a.isfinite().all() and b.isfinite().all()):
        return examine(found, what)
    pairs = make_pairs(own[rows], numbers[rows], other[columns], other_numbers[columns])
    s = SIMILARITIES[what.similarity](a, b)
    found |= measure_cells(s, pairs, what, itself=y is None)
    found |= measure_duplicates([(a, own[rows], numbers[rows]), (b, other[columns], other_numbers[columns])])
    if trained is not None and not (trained.traits.proxies or trained.traits.wants_references):
        found["loss"] = float(value(trained(Rectangle(s, pairs))))
    return examine(found, what)


def _drawn(n: int, seed: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:ROWS].sort().values


def _matrix(values: Any, name: str) -> Tensor:
    x = torch.as_tensor(values)
    if x.ndim != 2 or not len(x):
        raise UserError(f"{name} must be [n, dim] with at least one row, got {list(x.shape)}")
    return x.detach().cpu().float()


def _column(values: Any, length: int, name: str) -> Tensor:
    if values is None:
        raise UserError(f"{name} are missing: give one for each of the {length} rows")
    x = torch.as_tensor(values).detach().cpu()
    if x.shape != (length,) or x.is_floating_point():
        raise UserError(f"{name} must be {length} whole numbers, got {list(x.shape)} of {x.dtype}")
    return x.long()
