"""Moved: see `pullpush.runs.reader`."""

from pullpush.runs.reader import Absent, Missing
from pullpush.runs.reader import RunFolder as Run

__all__ = ["Absent", "Missing", "Run"]
