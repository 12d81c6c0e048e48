"""The doctor: what is wrong with a training run, with the evidence and the cure."""

from pullpush.doctor.declaration import SEVERITIES, Curves, Finding, shown, words
from pullpush.doctor.diagnose import diagnose, examine, explained_by, ranked
from pullpush.doctor.findings import FINDINGS
from pullpush.doctor.findings.not_finite import not_finite_step
from pullpush.doctor.history import PREFIX, History, measure_course, replay
from pullpush.doctor.measures import (
    Measures,
    measure_cells,
    measure_duplicates,
    measure_queries,
    measure_result,
    measure_sides,
)
from pullpush.doctor.objective import Objective, objective_of

__all__ = [
    "FINDINGS",
    "PREFIX",
    "SEVERITIES",
    "Curves",
    "Finding",
    "History",
    "Measures",
    "Objective",
    "diagnose",
    "examine",
    "explained_by",
    "measure_cells",
    "measure_course",
    "measure_duplicates",
    "measure_queries",
    "measure_result",
    "measure_sides",
    "not_finite_step",
    "objective_of",
    "ranked",
    "replay",
    "shown",
    "words",
]
