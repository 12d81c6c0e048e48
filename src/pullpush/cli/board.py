"""pullpush board, pullpush demo"""

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pullpush.bounds import Bound, Count

if TYPE_CHECKING:
    from pullpush.board import Board

__all__ = ["board", "demo", "shown"]

Port = Annotated[int, Bound(0, 65_535)]


def board(
    runs: str = "runs", *, host: str = "127.0.0.1", port: Port = 8000, token: str | None = None, browser: bool = False
) -> None:
    """A page of all runs in a folder, while they train and afterwards: curves, what they find, findings, reports.

    It only reads. Marked runs are drawn side by side; pullpush compare says whether they differ.

    Args:
        runs: the folder of the runs, or of one.
        host: the address to listen at; 0.0.0.0 lets other machines in.
        port: the port; 0 takes a free one.
        token: what clients must send, 8 or more letters and digits; needed where others are let in. Better given in the
            environment variable PULLPUSH_TOKEN, as the list of processes shows the command line to all.
        browser: open the page.

    Examples:
        pullpush board
        pullpush board runs/ --port 8080 --browser
    """
    from pullpush.board import board as run

    run(runs, host, port, token, ready=lambda at: shown(at, browser))


def demo(
    *, out: str = "runs/demo", port: Port = 8000, browser: bool = True, steps: Count | None = None, serve: bool = True
) -> None:
    """From nothing to a search page: trains on the built-in emoji data, which is shown while it goes, and serves the
    search of what was trained.

    A demo that was stopped goes on; one that is done is shown, and its search served.

    Args:
        out: the run folder.
        port: of the page; the search has the next one.
        browser: open the page.
        steps: of training; by default those of the recipe.
        serve: build the index and serve its search at the end, until Ctrl-C.

    Examples:
        pullpush demo                   about five minutes on two cores
        pullpush demo --steps 60        a minute, and a weaker model
    """
    from pullpush.board import live

    folder = Path(out)
    with live(folder.parent, port) as page:
        shown(f"{page.address}/#{folder.name}", browser)
        _trained(folder, steps)
        if serve:
            _searched(folder, page, port)


def shown(address: str, browser: bool = False) -> None:
    """Says where the page is, and opens it where that is wanted."""
    print(f"live: {address}", flush=True)
    if browser:
        webbrowser.open(address)


def _trained(folder: Path, steps: int | None) -> None:
    """Trains, or goes on; draws the report where it is not there yet."""
    from pullpush.cli.training import train  # here, since --live shows its page by this module

    if (folder / "report.html").exists():
        return
    resumed = (folder / "config.yaml").exists()
    words = (
        ["--resume", str(folder)] if resumed else ["--out", str(folder), *(["--steps", str(steps)] if steps else [])]
    )
    if status := train(words):  # it was stopped, and has said how to go on
        raise SystemExit(status)


def _searched(folder: Path, page: "Board", port: int) -> None:
    """Indexes the data, and serves the search until it is told to stop."""
    from pullpush.search import build_index
    from pullpush.server import serve

    index = folder.parent.parent / "indexes" / folder.name
    print(build_index(str(folder), "emoji", index, progress=True))  # of one that is there, what is missing

    def ready(address: str) -> None:
        page.searches(address)
        print(f"search: {address}  (Ctrl-C ends it)", flush=True)

    serve(index, port=port + 1 if port else 0, ready=ready)
