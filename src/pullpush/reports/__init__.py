"""Figures and the self-contained pages of a run, drawn from what the run folder holds."""

from pullpush.extras import need

need("report")

from pullpush.reports.diagnosis import diagnose_run, diagnosis_page
from pullpush.reports.layout import report

__all__ = ["diagnose_run", "diagnosis_page", "report"]
