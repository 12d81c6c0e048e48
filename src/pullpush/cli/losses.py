"""pullpush losses"""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from pullpush.bounds import describe
from pullpush.cli.parse import verb
from pullpush.names import look_up
from pullpush.signatures import Signature, room, summary

__all__ = ["losses"]


@verb()
def losses(*, name: str | None = None) -> None:
    """All losses, miners and regularisers with their options, or one of the losses in full.

    Args:
        name: a loss.

    Examples:
        pullpush losses
        pullpush losses --name circle
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
        shown = Table(title=title, title_justify="left")
        for column in ("name", "what it does", "options"):
            shown.add_column(column, no_wrap=column == "name")
        for entry in entries.values():
            options = ", ".join(f"{option}={about.default}" for option, about in entry.own().items())
            shown.add_row(entry.name, summary(entry.doc), options)
        console.print(shown)


def _show(name: str, losses: Mapping[str, Signature], console: Console) -> None:
    """One loss in full."""
    from rich.markdown import Markdown

    loss = look_up("loss", name, losses, "see pullpush losses")
    console.print(f"[bold]{name}[/]\n")
    console.print(Markdown(loss.doc))
    for option, about in loss.own().items():
        console.print(f"--loss.{option}: {describe(about.annotation)}; default {about.default}", markup=False)
