"""Vectors in a Milvus collection, for more than one machine. The item table and the thumbnails stay in the index
folder.

Every row carries the version it was `born` in, and searches ask for `born <= version`: what is staged does not show
before the index is published, and what a crash left behind is deleted by the next writer. Rows of removed items are
deleted once the new version is published.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import MilvusException

from pullpush.errors import UserError
from pullpush.search.stores.base import FILTERS, Change, Store, Where
from pullpush.search.stores.faiss import choose

__all__ = ["MilvusStore"]

URL = re.compile(r"^milvus://(?P<host>[^/:@\s]+):(?P<port>\d+)/(?P<collection>[A-Za-z_]\w{0,254})$")
TOKEN = "PULLPUSH_MILVUS_TOKEN"
"""The environment variable with the server's token (`user:password`); never part of a URL, which is written into the
index."""

_BATCH = 5_000
_LONGEST = 1024


class MilvusStore(Store):
    """A collection, which belongs to the index `owner`."""

    addresses = ("milvus://host:19530/collection",)
    remote = True
    packages = ("pymilvus",)

    def __init__(self, url: str, owner: str = "") -> None:
        match = URL.match(url)
        if not match:
            raise UserError(
                f"{url!r} is no Milvus address; it looks like milvus://host:19530/collection (a token goes into "
                f"{TOKEN})"
            )
        self.url, self.name, self.owner = url, match["collection"], owner
        self.client = _connect(f"http://{match['host']}:{match['port']}", url)

    def stage(self, folder: Path, version: int, change: Change, previous: Path | None) -> dict[str, Any]:
        if not self.client.has_collection(self.name):
            if previous is not None:
                raise UserError(f"the collection of {self.url} is gone; build the index anew with rebuild")
            self._create(change.vectors.shape[1], len(change.ids))
        self._check(change.vectors.shape[1])
        self.client.delete(self.name, filter=f"born >= {version}")  # staged by a writer that did not live to publish it
        for start in range(0, len(change.ids), _BATCH):
            part = slice(start, start + _BATCH)
            columns = change.columns.iloc[part]
            rows = [
                {
                    "id": int(i),
                    "born": version,
                    "vector": v,
                    **{name: value[: _LONGEST // 4] for name, value in zip(FILTERS, texts, strict=True)},
                }
                for i, v, texts in zip(
                    change.ids[part], change.vectors[part], columns[list(FILTERS)].to_numpy(), strict=True
                )
            ]
            self.client.insert(self.name, rows)
        self.client.flush(self.name)
        count = self._count(f"born <= {version}", "Strong")  # waits until the rows can be searched
        facts = {"kind": "milvus", "rows": count, "dim": int(change.vectors.shape[1]), "recall@10": None}
        (folder / "store.json").write_text(json.dumps(facts), encoding="utf-8")
        return facts

    def settle(self, version: int, change: Change) -> None:
        for start in range(0, len(change.removed), _BATCH):
            ids = ",".join(str(int(i)) for i in change.removed[start : start + _BATCH])
            self.client.delete(self.name, filter=f"id in [{ids}]")
        if len(change.removed):
            self._count("", "Strong")

    def open(self, folder: Path, version: int) -> MilvusVectors:
        self._check()
        return MilvusVectors(self.client, self.name, version)

    def _create(self, dim: int, rows: int) -> None:
        schema = self.client.create_schema(
            auto_id=False, enable_dynamic_field=False, description=f"pullpush {self.owner}"
        )
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("born", DataType.INT64)
        for name in FILTERS:
            schema.add_field(name, DataType.VARCHAR, max_length=_LONGEST)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
        index = self.client.prepare_index_params()
        kind, options = _index(rows)
        index.add_index("vector", index_type=kind, metric_type="IP", params=options)
        self.client.create_collection(self.name, schema=schema, index_params=index)

    def _check(self, dim: int = 0) -> None:
        if not self.client.has_collection(self.name):
            raise UserError(f"there is no collection {self.name!r} at {self.url}; build the index anew with rebuild")
        known = self.client.describe_collection(self.name)
        if self.owner and known["description"] != f"pullpush {self.owner}":
            raise UserError(
                f"the collection of {self.url} belongs to another index and is kept; name another collection"
            )
        width = next(field["params"]["dim"] for field in known["fields"] if field["name"] == "vector")
        if dim and width != dim:
            raise UserError(
                f"the collection of {self.url} holds vectors of {width} dimensions, not {dim}; name another collection"
            )

    def _count(self, where: str, consistency: str) -> int:
        rows = self.client.query(self.name, filter=where, output_fields=["count(*)"], consistency_level=consistency)
        return int(rows[0]["count(*)"])


class MilvusVectors:
    """A published version of a collection. Reads are bounded-stale: what another machine wrote shows within seconds."""

    def __init__(self, client: Any, name: str, version: int) -> None:
        self.client, self.name, self.version = client, name, version

    def __len__(self) -> int:
        where = f"born <= {self.version}"
        return int(
            self.client.query(self.name, filter=where, output_fields=["count(*)"], consistency_level="Bounded")[0][
                "count(*)"
            ]
        )

    def search(self, queries: np.ndarray, k: int, where: Where | None = None) -> tuple[np.ndarray, np.ndarray]:
        scores = np.full((len(queries), k), -np.inf, np.float32)
        ids = np.full((len(queries), k), -1, np.int64)
        if not len(queries):
            return scores, ids
        conditions = [
            f"born <= {self.version}",
            *(f"{name} == {_quoted(value)}" for name, value in (where or {}).items()),
        ]
        answers = self.client.search(
            self.name,
            data=list(np.ascontiguousarray(queries, np.float32)),
            limit=k,
            filter=" and ".join(conditions),
            output_fields=["id"],
            search_params={"metric_type": "IP", "params": {"ef": max(128, 2 * k), "nprobe": 64}},
            consistency_level="Bounded",
        )
        for row, hits in enumerate(answers):
            scores[row, : len(hits)] = [hit["distance"] for hit in hits]
            ids[row, : len(hits)] = [hit["id"] for hit in hits]
        return scores, ids

    def get(self, ids: np.ndarray) -> np.ndarray:
        wanted = [int(i) for i in ids]
        vectors: dict[int, list[float]] = {}
        for start in range(0, len(wanted), _BATCH):
            rows = self.client.get(
                self.name, ids=wanted[start : start + _BATCH], output_fields=["id", "born", "vector"]
            )
            vectors |= {row["id"]: row["vector"] for row in rows if row["born"] <= self.version}
        return np.array([vectors[i] for i in wanted], np.float32).reshape(len(wanted), -1)


def _connect(address: str, url: str) -> Any:
    try:
        return MilvusClient(uri=address, token=os.environ.get(TOKEN, ""), timeout=10)
    except MilvusException as error:
        raise UserError(f"no Milvus server answers at {url}; start it or correct the address") from error


def _index(rows: int) -> tuple[str, dict[str, int]]:
    """Milvus's index for the rows of the first build, by the same sizes as the embedded store."""
    if choose(rows) == "flat":
        return "FLAT", {}
    if choose(rows) == "hnsw":
        return "HNSW", {"M": 16, "efConstruction": 128}
    return "IVF_SQ8", {"nlist": min(65536, int(4 * rows**0.5))}


def _quoted(value: str) -> str:
    return json.dumps(value[: _LONGEST // 4], ensure_ascii=False)
