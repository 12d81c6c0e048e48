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
    """Serves a page of all runs in a folder, while they train and afterwards: curves, what they find, what is wrong,
    reports. It only reads.

    Marked runs are drawn side by side; pullpush compare says whether they differ.

    Args:
        runs: the folder with the runs, or the folder of one run.
        host: the address to listen at; 0.0.0.0 lets other machines in, which needs a token.
        port: the port; 0 takes a free one.
        token: a password of 8 or more letters and digits that browsers and clients must send; needed where other
            machines are let in. Safer in the environment variable PULLPUSH_TOKEN than on the command line, which
            other users of this machine can see.
        browser: open the page in the browser.

    Examples:
        pullpush board                         the runs in runs/, at http://127.0.0.1:8000
        pullpush board runs/ --port 8080 --browser
    """
    from pullpush.board import board as run

    run(runs, host, port, token, ready=lambda at: shown(at, browser))


def demo(
    *, out: str = "runs/demo", port: Port = 8000, browser: bool = True, steps: Count | None = None, serve: bool = True
) -> None:
    """Trains a model on built-in images with a live page in the browser, then opens a page to search images of
    classes that it never saw. Takes five to ten minutes.

    A demo that was stopped goes on; one that is done is shown, and its search served.

    Args:
        out: the folder to write the run to.
        port: the port of the live page; the search page gets the next one.
        browser: open the pages in the browser.
        steps: how long to train; by default as long as the default recipe does.
        serve: build an index at the end and serve its search page until Ctrl-C.

    Examples:
        pullpush demo                   five to ten minutes on two cores
        pullpush demo --steps 60        two to four minutes, and a weaker model
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
    """Indexes the test images, and serves the search until it is told to stop."""
    from pullpush.runs.reader import RunFolder
    from pullpush.search import build_index
    from pullpush.server import serve

    index = folder.parent.parent / "indexes" / folder.name
    items = RunFolder(folder).split("test")
    print(build_index(str(folder), items, index, progress=True))  # of one that is there, what is missing

    def ready(address: str) -> None:
        page.searches(address)
        print(f"search: {address}  (Ctrl-C ends it)", flush=True)

    serve(index, port=port + 1 if port else 0, ready=ready)
