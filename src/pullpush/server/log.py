"""The log of a server: no message, however often its cause can be brought about, fills the disk."""

import logging
import threading
import time

__all__ = ["LogLimit", "prepare"]

SECONDS = 10.0
"""A window, in which each place of the code may write so many lines:"""
WARNINGS, LINES = 20, 2_000


class LogLimit(logging.Filter):
    """Lets a place in the code write `WARNINGS` lines (`LINES` below the level of warnings) in a window of `SECONDS`;
    the first line of a later window says how many were left out."""

    def __init__(self, warnings: int = WARNINGS, lines: int = LINES, seconds: float = SECONDS) -> None:
        super().__init__()
        self.warnings, self.lines, self.seconds = warnings, lines, seconds
        self._windows: dict[tuple[str, int], list[float]] = {}  # place: begin, lines
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        most = self.warnings if record.levelno >= logging.WARNING else self.lines
        now = time.monotonic()
        with self._lock:
            window = self._windows.setdefault((record.pathname, record.lineno), [now, 0])
            left_out = 0
            if now - window[0] >= self.seconds:
                left_out = int(max(0, window[1] - most))
                window[:] = [now, 0]
            window[1] += 1
            if window[1] > most:
                return False
        if left_out:
            record.msg, record.args = f"{record.getMessage()} ({left_out:,} more like it were left out)", ()
        return True


def prepare() -> None:
    """Writes the log to the standard error, unless it goes elsewhere already, and limits it."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.captureWarnings(True)
    for handler in logging.getLogger().handlers:
        if not any(isinstance(each, LogLimit) for each in handler.filters):
            handler.addFilter(LogLimit())
    logging.getLogger("pullpush.serve").setLevel(logging.INFO)
