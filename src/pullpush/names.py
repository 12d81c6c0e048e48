"""The nearest right name, for messages."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["did_you_mean"]


def did_you_mean(choice: object, known: Iterable[str], otherwise: str, show: str = "{}", cutoff: float = 0.6) -> str:
    """`did you mean NEAREST?`, or `otherwise` where none of the known names is near.

    Args:
        choice: what was given.
        known: what could have been meant.
        otherwise: said where nothing is near.
        show: how a name is written: `{!r}`, `--{}`.
        cutoff: how near it must be, from 0 to 1.
    """
    near = get_close_matches(str(choice), list(known), 1, cutoff)
    return f"did you mean {show.format(near[0])}?" if near else otherwise
