"""pullpush report"""

from pullpush.cli.parse import call

__all__ = ["report"]


def report(argv: list[str]) -> int:
    """Draws a run's report again."""
    call(_report, argv, "pullpush report", "  pullpush report runs/demo\n  pullpush report runs/demo --window 20")
    return 0


def _report(run: str, window: int = 50) -> None:
    """Draws plots and report.html of a run from what its folder holds.

    Args:
        run: a run folder.
        window: steps in the moving average of the curves.
    """
    from pullpush.reports import report as draw

    print(f"report: {draw(run, window=window)}")
