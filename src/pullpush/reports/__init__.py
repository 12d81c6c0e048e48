"""Figures and the self-contained page of a run, drawn from what the run folder holds."""

from pullpush.reports.page import report

__all__ = ["report"]
