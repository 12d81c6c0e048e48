"""Progress of what takes long: one display for all of it, on stderr. A bar on a terminal; elsewhere a line every few
seconds, with rate and time left."""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pullpush.escape import printable

__all__ = ["Work", "counted", "duration", "plan", "say", "showing", "work"]

# Seconds before the first line of a piece of work, and between lines.
FIRST, EVERY = 1.0, 5.0
# Columns of a bar, at least.
SHORTEST = 6


@dataclass
class Work:
    """A piece of work under way: what is done, of how much (None where that is not known)."""

    what: str
    total: int | None
    unit: str
    done: int = 0
    note: str = ""
    first: int = 0
    since: float = field(default_factory=time.monotonic)

    def advance(self, count: int = 1, note: str = "") -> None:
        """`count` more are done; `note` stands beside the numbers."""
        self.done += count
        self.note = note or self.note

    @property
    def counts(self) -> str:
        """Done, rate and time left, as people read them."""
        seconds = time.monotonic() - self.since
        rate = (self.done - self.first) / max(seconds, 1e-9)
        if self.total is None:
            count = f"{self.done:,} {self.unit}, " if self.done else ""
            return f"{count}{duration(seconds)} so far"
        share = f" ({100 * self.done // self.total}%)" if self.total else ""
        speed = f", {rate:,.0f} {self.unit}/s" if rate >= 10 else f", {rate:.2g} {self.unit}/s" if rate else ""
        left = f", {duration((self.total - self.done) / rate)} left" if rate else f", {duration(seconds)} so far"
        return f"{self.done:,} of {self.total:,} {self.unit}{share}{speed}{left}"

    @property
    def numbers(self) -> str:
        """`counts` and the note."""
        return f"{self.counts}{self.note and f', {self.note}'}"


class _Lines:
    """Elsewhere than on a terminal."""

    def __init__(self, works: list[Work]) -> None:
        self._works, self._ended = works, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        shown: Work | None = None
        last = 0.0
        while not self._ended.wait(0.25):
            now, current = time.monotonic(), next(iter(self._works[-1:]), None)
            if current is None or now - current.since < FIRST or (now - last < EVERY and shown is current):
                continue
            shown, last = current, now
            print(f"{current.what}: {current.numbers}", file=sys.stderr, flush=True)

    def close(self) -> None:
        self._ended.set()
        self._thread.join()


class _Bars:
    """On a terminal: a bar for each piece of work that is under way."""

    def __init__(self, works: list[Work]) -> None:
        from rich.console import Console, Group
        from rich.live import Live
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        self.console = Console(stderr=True, highlight=False, soft_wrap=True)

        def drawn() -> Any:
            rows: list[Any] = []
            for each in works:
                row = Table.grid(padding=(0, 1))
                space = self.console.width - len(each.what) - 3
                fits = len(each.numbers) + SHORTEST <= space
                numbers = each.numbers if fits else each.counts
                room = space - len(numbers)
                bar = ProgressBar(each.total, each.done, width=max(SHORTEST, min(20, room)), pulse=each.total is None)
                row.add_row(Text(each.what, style="bold"), bar, Text(numbers, no_wrap=True, overflow="ellipsis"))
                rows += [row] if fits or not each.note else [row, Text(f"  {each.note}")]
            return Group(*rows)

        own = sys.stdout.isatty()  # what goes elsewhere must not be drawn into the bar
        self._live = Live(
            get_renderable=drawn, console=self.console, refresh_per_second=4, transient=True, redirect_stdout=own
        )
        self._live.start()

    def close(self) -> None:
        self._live.stop()


_works: list[Work] = []
_display: _Lines | _Bars | None = None
_silenced = 0


@contextmanager
def showing(wanted: bool = True) -> Iterator[None]:
    """Whatever is `work` within is shown; unless `wanted`, nothing is. Within another `showing` that one goes on."""
    global _display, _silenced
    if not wanted:
        _silenced += 1
        try:
            yield
        finally:
            _silenced -= 1
        return
    if _display is not None or _silenced:
        yield
        return
    _display = _Bars(_works) if sys.stderr.isatty() else _Lines(_works)
    try:
        yield
    finally:
        _display.close()
        _display = None


@contextmanager
def work(what: str, total: int | None = None, unit: str = "images", done: int = 0) -> Iterator[Work]:
    """A piece of work: its `advance` counts what is done. Shown within `showing`, silent elsewhere.

    Args:
        what: in a few words, such as "checking images".
        total: of the units; None where it is not known.
        unit: what is counted.
        done: before this began.
    """
    current = Work(printable(what), total, unit, done, first=done)
    if _silenced or _display is None:
        yield current
        return
    _works.append(current)
    try:
        yield current
    finally:
        _works.remove(current)


def counted(
    items: Iterable[Any],
    what: str,
    total: int | None,
    unit: str = "images",
    each: Callable[[Any], int] = len,
    done: int = 0,
) -> Iterator[Any]:
    """The items as they come, each counting as `each` says; `done` of the total were before."""
    with work(what, total, unit, done) as current:
        for item in items:
            yield item
            current.advance(each(item))


def say(sentence: str, style: str = "") -> None:
    """A line that stays, on stdout, above the bars where there are any; nothing within `showing(False)`."""
    if _silenced:
        return
    from rich.console import Console

    shown = _display.console if isinstance(_display, _Bars) and sys.stdout.isatty() else None
    console = shown or Console(highlight=False, soft_wrap=True)
    console.print(printable(sentence), style=style, markup=False)


def plan(*lines: str) -> None:
    """What is about to be done, in a few lines on stderr, as is how far it is; nothing outside of `showing`."""
    if _silenced or _display is None:
        return
    text = "\n      ".join(printable(line) for line in lines)
    if isinstance(_display, _Bars):
        _display.console.print(f"plan: {text}", markup=False)
    else:
        print(f"plan: {text}", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """48 s, 2 min 23 s, 1 h 5 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
