"""Where the vectors of an index live. `base.py` says what a store promises; the tests run one suite against each."""

from __future__ import annotations

from pullpush.errors import UserError
from pullpush.search.stores.base import Change, Store, Vectors

__all__ = ["Change", "Store", "Vectors", "open_store"]


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
