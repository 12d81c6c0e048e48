"""pullpush report"""

from pathlib import Path

from pullpush.bounds import Window
from pullpush.cli.parse import verb
from pullpush.errors import UserError

__all__ = ["draw_report", "report"]


@verb()
def report(run: str, *, window: Window = 50) -> None:
    """Draws plots and report.html of a run from what its folder holds.

    Args:
        run: a run folder.
        window: steps in the moving average of the curves.

    Examples:
        pullpush report runs/demo
        pullpush report runs/demo --window 20
    """
    draw_report(run, window)


def draw_report(run: str | Path, window: int = 50) -> None:
    """Draws a run's report and prints where it is.

    Raises:
        UserError: files of the run are damaged; the report shows the rest.
    """
    from pullpush.reports.layout import draw

    page, damaged = draw(run, window=window)
    print(f"report: {page}")
    if damaged:
        raise UserError(f"the report shows what could be read of {str(run)!r}: {'; '.join(damaged)}")
