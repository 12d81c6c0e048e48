"""pullpush compare"""

from json import dumps
from pathlib import Path

from pullpush.escape import printable

__all__ = ["compare"]


def compare(runs: list[str], *, out: str = "compare.html", json: bool = False) -> None:
    """Runs side by side, on the test items that they have in common: metrics with paired intervals, queries won and
    lost, options that differ.

    Args:
        runs: two run folders or more; differences are to the first.
        out: the page.
        json: print JSON too.

    Examples:
        pullpush compare runs/circle runs/triplet
        pullpush compare runs/old runs/new runs/newer --out newer.html
        pullpush compare runs/circle runs/triplet --json
    """
    from pullpush.studies.compare import compare as compared
    from pullpush.studies.compare_page import draw_comparison, sentence

    comparison = compared(*runs)
    page = draw_comparison(comparison, Path(out))
    if json:
        print(dumps(comparison.json(), indent=2))
        return
    print(printable(sentence(comparison)))
    print(f"page: {page}")
