"""pullpush report, pullpush diagnose"""

from json import dumps

from rich.console import Console
from rich.text import Text

from pullpush.bounds import Window
from pullpush.errors import UserError
from pullpush.escape import printable

__all__ = ["diagnose", "report"]

STYLES = {"critical": "bold red", "warning": "yellow", "note": "cyan"}


def report(run: str, *, window: Window = 50) -> None:
    """Draws the figures and the report of a run again, as RUN/report.html, without training.

    Args:
        run: the folder of a run.
        window: smooth the curves over so many steps.

    Examples:
        pullpush report runs/demo
        pullpush report runs/demo --window 20

    Raises:
        UserError: files of the run are damaged; the report shows the rest.
    """
    from pullpush.reports.layout import draw

    page, damaged = draw(run, window=window)
    print(f"report: {page}")
    if damaged:
        raise UserError(f"the report shows what could be read of {run!r}: {'; '.join(damaged)}")


def diagnose(run: str, *, json: bool = False, page: bool = True) -> None:
    """Says what is wrong with a run, with the evidence and the option that mends it, and writes RUN/diagnosis.html.

    Args:
        run: the folder of a run, which may be unfinished.
        json: print JSON instead of text.
        page: write RUN/diagnosis.html.

    Examples:
        pullpush diagnose runs/demo
        pullpush diagnose runs/demo --json        a list of finding, severity, evidence, advice
        pullpush diagnose runs/demo --page false  the text alone
    """
    from pullpush.reports import diagnose_run, diagnosis_page

    diagnosis = diagnose_run(run)
    written = diagnosis_page(run, diagnosis) if page else None
    if json:
        print(dumps([vars(finding) for finding in diagnosis.findings], indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    for finding in diagnosis.findings:
        console.print(Text(printable(f"{finding}\n"), style=STYLES[finding.severity]))
    print(f"{run}: {diagnosis.sentence}")
    for title, lines in (("not looked at:", diagnosis.not_seen), ("notes:", diagnosis.notes)):
        if lines:
            print(printable("\n  ".join([title, *lines])))
    if written:
        print(f"page: {written}")
