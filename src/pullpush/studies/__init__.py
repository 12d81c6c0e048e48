"""Studies: many runs that differ in a few options, their tables, figures and pages."""

from pullpush.extras import need

need("study")

from pullpush.studies.compare import Comparison, compare
from pullpush.studies.compare_page import draw_comparison
from pullpush.studies.margin import draw_margin, margin_runs
from pullpush.studies.plan import StudyRun
from pullpush.studies.runner import run_study

__all__ = ["Comparison", "StudyRun", "compare", "draw_comparison", "draw_margin", "margin_runs", "run_study"]
