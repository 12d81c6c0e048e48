"""pullpush compare"""

from json import dumps
from pathlib import Path

from pullpush.escape import printable

__all__ = ["compare"]


def compare(runs: list[str], *, out: str = "compare.html", json: bool = False) -> None:
    """Sets runs side by side and says which finds more, and whether the difference is more than chance. Writes a page
    with metrics, queries won and lost, and the options that differ.

    Only the test items that they have in common count, with paired intervals.

    Args:
        runs: two run folders or more; differences are to the first.
        out: the page to write.
        json: print JSON instead of a sentence; the page is written as well.

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
