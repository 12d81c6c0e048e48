"""pullpush diagnose"""

from json import dumps

from pullpush.cli.parse import call

__all__ = ["diagnose"]


def diagnose(argv: list[str]) -> int:
    """What is wrong with a run."""
    call(
        _diagnose, argv, "pullpush diagnose",
        "  pullpush diagnose runs/demo\n"
        "  pullpush diagnose runs/demo --json        a list of finding, severity, evidence, advice\n"
        "  pullpush diagnose runs/demo --page false  the text alone",
    )  # fmt: skip
    return 0


def _diagnose(run: str, json: bool = False, page: bool = True) -> None:
    """What is wrong with a run, with the evidence and the cure, from what its folder holds.

    Args:
        run: a run folder; it may be unfinished.
        json: print JSON instead of text.
        page: write RUN/diagnosis.html too.
    """
    from pullpush.reports import diagnose_run, diagnosis_page

    findings = diagnose_run(run)
    written = diagnosis_page(run, findings) if page else None
    if json:
        print(dumps([vars(finding) for finding in findings], indent=2))
        return
    if not findings:
        print(f"{run}: nothing is wrong, as far as the doctor can see")
    for finding in findings:
        print(f"{finding}\n")
    if written:
        print(f"page: {written}")
