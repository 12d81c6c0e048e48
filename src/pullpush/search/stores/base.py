"""What the engine asks of a store, and nothing more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pullpush.errors import UserError

if TYPE_CHECKING:  # help reads this file, and computes nothing
    import numpy as np
    import pandas as pd

__all__ = ["FILTERS", "Change", "Store", "Vectors", "Where", "check_shared", "recall_in_words"]

Where = Mapping[str, str]
FILTERS = ("label", "category", "domain", "split")
"""The columns that a search can be narrowed by. All are strings; `label` is the name of the class."""


@dataclass
class Change:
    """From one version to the next: what comes and what goes.

    Attributes:
        ids: int64 `[n]`, new: an id is never given twice.
        vectors: float32 `[n, dim]`, of length 1.
        columns: a frame of `n` rows with `FILTERS`.
        removed: int64, ids of the version before.
        texts: gives the embeddings of texts such as people search with, float32 `[m, dim]`: asked for where search is
            approximate, which must be good for them too.
    """

    ids: np.ndarray
    vectors: np.ndarray
    columns: pd.DataFrame
    removed: np.ndarray
    texts: Callable[[], np.ndarray] | None = None


def recall_in_words(facts: Mapping[str, Any]) -> str:
    """`recall@10 0.961 of exact search (held-out items 0.984, texts 0.961)`; empty where search is exact or nothing was
    measured."""
    recall, measured = facts.get("recall@10"), facts.get("measured") or {}
    if recall is None or facts.get("kind") == "flat":
        return ""
    kinds = ", ".join(f"{name} {part['recall@10']:.3f}" for name, part in measured.items())
    return f"recall@10 {recall:.3f} of exact search ({kinds or 'nothing to measure it by'})"


def check_shared(what: str, url: str, known: tuple[str, int] | None, mark: str, dim: int = 0) -> None:
    """Checks a place on a server.

    Args:
        what: its kind, such as "collection".
        url: of the store.
        known: its mark and dimensions, None where there is none.
        mark: of this index, empty for any.
        dim: dimensions that it must have, 0 for any.

    Raises:
        UserError: it is not there, belongs to another index, or has other dimensions.
    """
    if known is None:
        raise UserError(f"there is no {what} for {url}; build the index anew with rebuild")
    if mark and known[0] != mark:
        raise UserError(f"the {what} of {url} belongs to another index and is kept; name another {what}")
    if dim and known[1] != dim:
        raise UserError(f"the {what} of {url} holds vectors of {known[1]} dimensions, not {dim}; name another {what}")


class Vectors(Protocol):
    """One published version, for reading; safe to use from several threads."""

    def __len__(self) -> int: ...

    def search(self, queries: np.ndarray, k: int, where: Where | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The nearest by inner product: scores float32 `[q, k]` descending, ids int64 `[q, k]`.

        `where`: only items whose columns have these values. Where there are fewer than `k`, the rest is -inf and -1.
        """
        ...

    def get(self, ids: np.ndarray) -> np.ndarray:
        """The vectors of `ids`, float32 `[n, dim]`. Raises `KeyError` for an id that is not there."""
        ...


class Store(ABC):
    """Writes versions in two steps, so that the index can be published in between by renaming.

    A store is one file of this folder, named as its URLs begin, with one class of this kind. Its attributes are
    literals: help, messages and checks read them without importing the file's packages.

    Attributes:
        addresses: what its URLs look like.
        remote: whether the vectors lie on a server, which is then never taken from an index.
        packages: the modules that it needs beside those of search; the extra that brings them has the store's name.
    """

    addresses: ClassVar[tuple[str, ...]]
    remote: ClassVar[bool] = False
    packages: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def __init__(self, url: str, owner: str = "") -> None: ...

    @abstractmethod
    def stage(self, folder: Path, version: int, change: Change, previous: Path | None) -> dict[str, Any]:
        """Prepares `version` beside the published one; readers notice nothing.

        A version that was staged and never published (a crash) must not show in a later one.

        Args:
            folder: the new version's own folder.
            version: its number, from 1.
            change: what comes and what goes.
            previous: the folder of the version before; None where there is none.

        Returns:
            Facts for the record: `kind`, `rows`, `dim`, `recall@10` and `measured` (None and empty where nothing was).
        """

    @abstractmethod
    def settle(self, version: int, change: Change) -> None:
        """After `version` is published: gives back what only the one before needed. May be repeated, may be missed."""

    @abstractmethod
    def open(self, folder: Path, version: int) -> Vectors:
        """The published `version`."""
