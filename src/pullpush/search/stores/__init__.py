"""Where the vectors of an index live. `base.py` says what a store promises; the tests run one suite against each."""

from __future__ import annotations

import os

from pullpush.errors import UserError
from pullpush.search.stores.base import Change, Store, Vectors

__all__ = ["STORE", "Change", "Store", "Vectors", "open_store", "trusted"]

STORE = "PULLPUSH_STORE"
"""The environment variable with the address of a network store."""
NETWORK = "milvus:"


def trusted(recorded: str, given: str | None = None) -> str:
    """The store to open for an index that records `recorded`.

    A network store's address is what the user gave, here or in the environment, never what the index says: an index may
    come from a stranger, and the server that is connected to gets the user's token.

    Raises: `UserError` when the user named none, or one of another kind.
    """
    if not recorded.startswith(NETWORK):
        return recorded
    chosen = given or os.environ.get(STORE, "")
    if not chosen:
        raise UserError(
            "the vectors of this index lie on a server, which only you can name: "
            "--store milvus://host:19530/collection, store=... in Python, or the environment variable "
            f"{STORE}. The index itself says {recorded!r}"
        )
    if not chosen.startswith(NETWORK):
        raise UserError(f"the vectors of this index lie on a Milvus server, not {chosen}; name that server")
    return chosen


def open_store(url: str = "faiss", owner: str = "") -> Store:
    """The store of a URL: `faiss`, `faiss:flat`, `faiss:hnsw`, `faiss:ivfpq`, or `milvus://host:port/collection`.

    `owner` is the index that a shared store belongs to; a collection of another index is refused.
    """
    name, _, rest = url.partition(":")
    if name == "faiss":
        from pullpush.search.stores.faiss_store import FaissStore

        return FaissStore(rest or "auto")
    if name == "milvus":
        from pullpush.search.stores.milvus_store import MilvusStore

        return MilvusStore(url, owner)
    raise UserError(
        f"unknown store {url!r}; it can be faiss, faiss:flat, faiss:hnsw, faiss:ivfpq or milvus://host:port/collection"
    )
