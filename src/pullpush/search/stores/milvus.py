"""Vectors in a Milvus collection, for more than one machine. The item table and the thumbnails stay in the index
folder.

Every row carries the version it was `born` in, and searches ask for `born <= version`: what is staged does not show
before the index is published, and what a crash left behind is deleted by the next writer. Rows of removed items are
deleted once the new version is published.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from grpc import RpcError
from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import MilvusException

from pullpush.errors import UserError
from pullpush.search.stores.base import FILTERS, Change, Store, Where, check_shared
from pullpush.search.stores.faiss import choose

__all__ = ["MilvusStore"]

URL = re.compile(r"^milvus://(?P<host>[^/:@\s]+):(?P<port>\d+)/(?P<collection>[A-Za-z_]\w{0,254})$")
TOKEN = "PULLPUSH_MILVUS_TOKEN"
"""The environment variable with the server's token (`user:password`); never part of a URL, which is written into the
index."""

PATIENCE = 120.0
"""Seconds that a call may take."""
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
                f"{url!r} is no Milvus address; it looks like {self.addresses[0]} (a token goes into {TOKEN})"
            )
        self.url, self.name, self.mark = url, match["collection"], f"pullpush {owner}" if owner else ""
        address = f"http://{match['host']}:{match['port']}"
        try:
            client = MilvusClient(uri=address, token=os.environ.get(TOKEN, ""), timeout=10)
        except MilvusException as error:
            raise UserError(f"no Milvus server answers at {url}; start it or correct the address") from error
        self.client: Any = _Patient(client, url)

    def stage(self, folder: Path, version: int, change: Change, previous: Path | None) -> dict[str, Any]:
        (count, dim), known = change.vectors.shape, self._known()
        if known is None and previous is None:
            self._create(dim, count)
        else:
            check_shared("collection", self.url, known, self.mark, dim)
        self.client.delete(self.name, filter=f"born >= {version}")  # staged by a writer that did not live to publish it
        texts = change.columns[list(FILTERS)].to_numpy()
        for start in range(0, count, _BATCH):
            rows = [
                {
                    "id": int(change.ids[row]),
                    "born": version,
                    "vector": change.vectors[row],
                    **{name: _shortened(value) for name, value in zip(FILTERS, texts[row], strict=True)},
                }
                for row in range(start, min(start + _BATCH, count))
            ]
            self.client.insert(self.name, rows)
        self.client.flush(self.name)
        view = MilvusVectors(self.client, self.name, version)
        rows_there = view.count("Strong")  # waits until the rows can be searched
        facts = {"kind": "milvus", "rows": rows_there, "dim": dim, "recall@10": None}
        (folder / "store.json").write_text(json.dumps(facts), encoding="utf-8")
        return facts

    def settle(self, version: int, change: Change) -> None:
        for start in range(0, len(change.removed), _BATCH):
            ids = change.removed[start : start + _BATCH].tolist()
            self.client.delete(self.name, filter=f"id in {ids}")
        if len(change.removed):
            MilvusVectors(self.client, self.name, version).count("Strong")

    def open(self, folder: Path, version: int) -> "MilvusVectors":
        check_shared("collection", self.url, self._known(), self.mark)
        return MilvusVectors(self.client, self.name, version)

    def _known(self) -> tuple[str, int] | None:
        """The mark and the dimensions of the collection; None where there is none."""
        if not self.client.has_collection(self.name):
            return None
        about = self.client.describe_collection(self.name)
        dim = next(field["params"]["dim"] for field in about["fields"] if field["name"] == "vector")
        return about["description"], int(dim)

    def _create(self, dim: int, rows: int) -> None:
        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=False, description=self.mark)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("born", DataType.INT64)
        for name in FILTERS:
            schema.add_field(name, DataType.VARCHAR, max_length=_LONGEST)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
        # By the rows of the first build, at the same sizes as the embedded store.
        kind, options = {
            "flat": ("FLAT", {}),
            "hnsw": ("HNSW", {"M": 16, "efConstruction": 128}),
            "ivfpq": ("IVF_SQ8", {"nlist": min(65536, int(4 * rows**0.5))}),
        }[choose(rows)]
        index = self.client.prepare_index_params()
        index.add_index("vector", index_type=kind, metric_type="IP", params=options)
        self.client.create_collection(self.name, schema=schema, index_params=index)


class _Patient:
    """A client whose calls end: without a limit they wait for ever for a server that is stuck or gone."""

    def __init__(self, client: MilvusClient, url: str) -> None:
        self._client, self._url = client, url

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)
        if name in ("create_schema", "prepare_index_params"):  # asks no server
            return call

        def limited(*args: Any, **options: Any) -> Any:
            try:
                return call(*args, timeout=PATIENCE, **options)
            except (MilvusException, RpcError) as error:
                raise UserError(
                    f"the Milvus server of {self._url} failed at {name}, or did not answer within {PATIENCE:g} seconds "
                    f"({' '.join(str(error).split())}): see its log, then run the command again"
                ) from error

        return limited


class MilvusVectors:
    """A published version of a collection. Reads are bounded-stale: what another machine wrote shows within seconds."""

    def __init__(self, client: Any, name: str, version: int) -> None:
        self.client, self.name, self.version = client, name, version

    def __len__(self) -> int:
        return self.count("Bounded")

    def count(self, consistency: str) -> int:
        """The rows, at one of Milvus's levels of consistency."""
        born = f"born <= {self.version}"
        rows = self.client.query(self.name, filter=born, output_fields=["count(*)"], consistency_level=consistency)
        return int(rows[0]["count(*)"])

    def search(self, queries: np.ndarray, k: int, where: Where | None = None) -> tuple[np.ndarray, np.ndarray]:
        scores = np.full((len(queries), k), -np.inf, np.float32)
        ids = np.full((len(queries), k), -1, np.int64)
        if not len(queries):
            return scores, ids
        quoted = {name: json.dumps(_shortened(value), ensure_ascii=False) for name, value in (where or {}).items()}
        answers = self.client.search(
            self.name,
            data=list(np.ascontiguousarray(queries, np.float32)),
            limit=k,
            filter=" and ".join([f"born <= {self.version}", *(f"{name} == {quoted[name]}" for name in quoted)]),
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
            part = wanted[start : start + _BATCH]
            rows = self.client.get(self.name, ids=part, output_fields=["id", "born", "vector"])
            vectors |= {row["id"]: row["vector"] for row in rows if row["born"] <= self.version}
        return np.array([vectors[i] for i in wanted], np.float32).reshape(len(wanted), -1)


def _shortened(value: str) -> str:
    """What fits into a column, whose length Milvus counts in bytes."""
    return value[: _LONGEST // 4]
