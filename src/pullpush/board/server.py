"""`board`: the page behind a server of its own; `live`: the same beside a run of this process."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pullpush.board.app import make_app
from pullpush.errors import UserError
from pullpush.server.connections import Connections
from pullpush.server.log import prepare
from pullpush.server.middleware import LOOPBACK, Rules
from pullpush.server.server import address_of, listen, server_of, token_of

__all__ = ["Board", "board", "live"]


class Board:
    """The page of a folder of runs, at an address.

    Args:
        root: the folder; the folder of one run stands for the one that it is in.
        host: the address to listen at.
        port: the port; 0 takes a free one.
        token: what clients must send; needed where other machines reach the server.

    Attributes:
        address: what a browser is given.

    Raises:
        UserError: there is no such folder, the port is taken, or a token is needed.
    """

    def __init__(self, root: str | Path, host: str = "127.0.0.1", port: int = 8000, token: str | None = None) -> None:
        root = Path(root)
        if (root / "config.yaml").is_file():
            root = root.resolve().parent
        if not root.is_dir():
            raise UserError(f"there is no folder '{root}': give the one that holds the runs: pullpush board runs/")
        local = host in LOOPBACK
        rules = Rules((*LOOPBACK, host) if local else None, token_of(token, "" if local else host))
        connections = Connections()
        self._app = make_app(root, rules, connections)
        self._listener = listen(host, port)
        self._server = server_of(self._app, connections)
        self.address = address_of(host, self._listener)

    def run(self) -> None:
        """Serves until it is told to stop (Ctrl-C, SIGTERM)."""
        self._server.run(sockets=[self._listener])

    def stop(self) -> None:
        """Ends `run` in another thread."""
        self._server.should_exit = True

    def searches(self, address: str) -> None:
        """From now on the page leads to a search there."""
        self._app.app.state.search = address  # type: ignore[attr-defined]  # the application is FastAPI's


def board(
    root: str | Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serves the page of a folder of runs until it is told to stop; it only reads.

    Args:
        root, host, port, token: as of `Board`.
        ready: called with the address once the port is open.

    Raises:
        UserError: as of `Board`.
    """
    prepare()
    made = Board(root, host, port, token)
    if ready is not None:
        ready(made.address)
    made.run()


@contextmanager
def live(root: str | Path, port: int = 8000) -> Iterator[Board]:
    """Within it, a thread serves the page of the runs in `root`, which is made where it is missing, on this machine.

    A port that is taken is no reason to stop: then it is a free one.
    """
    Path(root).mkdir(parents=True, exist_ok=True)
    try:
        made = Board(root, port=port)
    except UserError:
        made = Board(root, port=0)
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.stop()
        thread.join(timeout=5)
