"""The doctor: what is wrong with a training run, with the evidence and the cure."""

from pullpush.doctor.embeddings import not_finite_step
from pullpush.doctor.examine import FINDINGS, diagnose, examine
from pullpush.doctor.finding import SEVERITIES, Finding, Measures, Objective, shown, words
from pullpush.doctor.history import PREFIX, History, objective_of, replay
from pullpush.doctor.meanings import MEANINGS
from pullpush.doctor.measure import (
    measure_cells,
    measure_course,
    measure_duplicates,
    measure_queries,
    measure_result,
    measure_sides,
)

__all__ = [
    "FINDINGS",
    "MEANINGS",
    "PREFIX",
    "SEVERITIES",
    "Finding",
    "History",
    "Measures",
    "Objective",
    "diagnose",
    "examine",
    "measure_cells",
    "measure_course",
    "measure_duplicates",
    "measure_queries",
    "measure_result",
    "measure_sides",
    "not_finite_step",
    "objective_of",
    "replay",
    "shown",
    "words",
]
