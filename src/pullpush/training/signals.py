"""Ctrl-C and SIGTERM: the step that runs is finished and saved first."""

import signal
from types import FrameType

__all__ = ["StopRequest", "Stopped"]


class Stopped(Exception):
    """A run was asked to stop and has saved its state.

    Args:
        message: what happened and how to go on.
        number: of the signal.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


class StopRequest:
    """While active, remembers the first such signal in `number`; a second one ends the program at once."""

    number: int | None = None

    def __enter__(self) -> "StopRequest":
        self._before = {}
        for which in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[which] = signal.signal(which, self._note)
            except ValueError:  # not the main thread, where Python takes no signals
                break
        return self

    def __exit__(self, *args: object) -> None:
        for which, handler in self._before.items():
            signal.signal(which, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        signal.signal(number, self._before[signal.Signals(number)])
