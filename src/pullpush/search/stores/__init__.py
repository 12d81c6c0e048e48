"""Where the vectors of an index live: one file a store, named as its URLs begin. `base.py` says what a store promises;
the tests run one suite against each."""

import ast
import importlib
import os
from functools import cache
from pathlib import Path

from pullpush.errors import UserError
from pullpush.extras import need
from pullpush.search.stores.base import Change, Store, Vectors

__all__ = ["DEFAULT", "STORE", "Change", "Store", "Vectors", "declared", "names", "open_store", "trusted"]

DEFAULT = "faiss"
STORE = "PULLPUSH_STORE"
"""The environment variable with the address of a store on a server."""


@cache
def names() -> tuple[str, ...]:
    """The stores that there are: the names of their files, which are what their URLs begin with."""
    files = Path(__file__).parent.glob("*.py")
    return tuple(sorted(path.stem for path in files if path.stem not in ("__init__", "base")))


def declared(url: str) -> type[Store]:
    """The class of the store that a URL, or its name alone, names: read without importing its packages.

    Raises:
        UserError: there is no such store.
    """
    name = url.partition(":")[0]
    if name not in names():
        known = [address for each in names() for address in declared(each).addresses]
        raise UserError(f"unknown store {url!r}; it can be {', '.join(known)}")
    return _declared(name)


@cache  # a version is opened often, and by several threads: Python 3.11's parser fails where two are in it
def _declared(name: str) -> type[Store]:
    source = ast.parse((Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8"))
    classes = (node for node in source.body if isinstance(node, ast.ClassDef))
    of_store = next(node for node in classes if any(ast.unparse(base) == "Store" for base in node.bases))
    lines = [line for line in of_store.body if isinstance(line, ast.Assign)]
    return type(of_store.name, (Store,), {ast.unparse(line.targets[0]): ast.literal_eval(line.value) for line in lines})


def open_store(url: str = DEFAULT, owner: str = "") -> Store:
    """Opens the store of a URL.

    Args:
        url: one of the addresses that the classes of the stores give.
        owner: the index that a shared store belongs to; a collection of another index is refused.

    Raises:
        UserError: the store is unknown, a package of it is missing, or nothing answers at its address.
    """
    name, kind = url.partition(":")[0], declared(url)
    if kind.packages:
        need(name, kind.packages)
    opened: Store = vars(importlib.import_module(f"{__name__}.{name}"))[kind.__name__](url, owner)
    return opened


def trusted(recorded: str, url: str | None = None) -> str:
    """The store to open for an index that records `recorded`.

    The address of a server is what the user gave, here or in the environment, never what the index says: an index may
    come from a stranger, and the server that is connected to gets the user's token.

    Args:
        recorded: the URL in the index.
        url: the URL that the user gave; by default that of the environment variable PULLPUSH_STORE.

    Raises:
        UserError: the user named no server, or one of another kind.
    """
    kind = declared(recorded)
    if not kind.remote:
        return recorded
    chosen, name = url or os.environ.get(STORE, ""), recorded.partition(":")[0]
    if not chosen:
        raise UserError(
            f"the vectors of this index lie on a server, which only you can name: --store {kind.addresses[0]}, "
            f"store=... in Python, or the environment variable {STORE}. The index itself says {recorded!r}"
        )
    if chosen.partition(":")[0] != name:
        raise UserError(f"the vectors of this index lie on a {name} server, not {chosen}; name that server")
    return chosen
