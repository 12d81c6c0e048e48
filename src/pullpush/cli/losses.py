"""pullpush losses"""

from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

from pullpush.cli.parse import call

__all__ = ["losses"]


def losses(argv: list[str]) -> int:
    """All losses, miners and regularisers."""
    call(_losses, argv, "pullpush losses", "  pullpush losses\n  pullpush losses --name circle")
    return 0


def _losses(name: str | None = None) -> None:
    """All losses, miners and regularisers with their options, or one of the losses in full.

    Args:
        name: a loss.
    """
    from pullpush.criterion import catalogue

    console = Console(highlight=False)
    if name:
        entry = catalogue.describe(name)
        console.print(f"[bold]{entry.name}[/]\n")
        console.print(Markdown(entry.doc))
        return
    for title, entries in (
        ("losses", catalogue.losses()),
        ("miners", catalogue.miners()),
        ("regularisers", catalogue.regularizers()),
    ):
        shown = Table(title=title, title_justify="left")
        for column in ("name", "what it does", "options"):
            shown.add_column(column, no_wrap=column == "name")
        for entry in entries.values():
            options = ", ".join(f"{option}={about.default}" for option, about in entry.options.items())
            shown.add_row(entry.name, entry.summary, options)
        console.print(shown)
