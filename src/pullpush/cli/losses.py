"""pullpush losses"""

from collections.abc import Mapping

from rich.console import Console

from pullpush.bounds import describe
from pullpush.cli.terminal import table
from pullpush.names import look_up
from pullpush.signatures import Signature, room, summary

__all__ = ["losses"]


def losses(*, name: str | None = None) -> None:
    """Lists all losses, miners and regularisers with their options, or shows one loss in full with its formula.

    Args:
        name: the loss to show in full.

    Examples:
        pullpush losses
        pullpush losses --name circle       its formula, its options and its paper
    """
    rooms = {
        "losses": room("pullpush.maths.losses"),
        "miners": room("pullpush.maths.miners"),
        "regularisers": room("pullpush.maths.regularizers"),
    }
    console = Console(highlight=False)
    if name:
        _show(name, rooms["losses"], console)
        return
    for title, entries in rooms.items():
        rows = (
            {
                "name": entry.name,
                "what it does": summary(entry.doc),
                "options": ", ".join(f"{option}={about.default}" for option, about in entry.own().items()),
            }
            for entry in entries.values()
        )
        console.print(table(title, rows))


def _show(name: str, losses: Mapping[str, Signature], console: Console) -> None:
    """One loss in full."""
    from rich.markdown import Markdown

    loss = look_up("loss", name, losses, "see pullpush losses")
    console.print(f"[bold]{name}[/]\n")
    console.print(Markdown(loss.doc))
    for option, about in loss.own().items():
        console.print(f"--loss.{option}: {describe(about.annotation)}; default {about.default}", markup=False)
