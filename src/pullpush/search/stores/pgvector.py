"""Vectors in a table of PostgreSQL with its extension pgvector. The item table and the thumbnails stay in the index
folder.

As in Milvus, every row carries the version it was `born` in, and searches ask for `born <= version`.
"""

import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from pullpush.errors import UserError
from pullpush.search.stores.base import FILTERS, Change, Store, Where, check_shared

__all__ = ["PgvectorStore"]

URL = re.compile(r"pgvector://(?:([^/:@\s]+)(?::(\d+))?)?/([\w-]+)/([A-Za-z_]\w{0,55})", re.ASCII)
GRAPH_FROM, WIDEST = 50_000, 2_000
"""Rows from which there is a graph (HNSW), and the most dimensions that it takes. Without it all rows are compared."""
RECALL, PROBES, EFFORTS = 0.95, 100, (64, 128, 256, 512, 1_000)
"""`hnsw.ef_search` is raised until recall@10 is RECALL for PROBES items, each without itself, and for the texts."""

Row = tuple[Any, ...]


class PgvectorStore(Store):
    """A table, which belongs to the index `owner`. User, password and encryption are libpq's (`PGUSER`, `PGPASSWORD`,
    `~/.pgpass`, `PGSSLMODE`), never part of a URL, which is written into the index."""

    addresses = ("pgvector://host:5432/database/table",)
    remote = True
    packages = ("psycopg",)

    def __init__(self, url: str, owner: str = "") -> None:
        match = URL.fullmatch(url)
        if not match:
            raise UserError(
                f"{url!r} is no pgvector address; it looks like {self.addresses[0]} (user and password go into PGUSER "
                "and PGPASSWORD)"
            )
        host, port, database, name = match.groups()
        self.mark = f"pullpush {owner}" if owner else ""
        self.table = _Table(url, name, {"host": host, "port": port, "dbname": database})

    def stage(self, folder: Path, version: int, change: Change, previous: Path | None) -> dict[str, Any]:
        table, (count, dim) = self.table, change.vectors.shape
        known = self._known()
        if known is None and previous is None:
            self._create(dim)
        else:
            check_shared("table", table.url, known, self.mark, dim)
        filters = change.columns[list(FILTERS)].to_numpy()
        with table.connected() as connection, connection.transaction(), connection.cursor() as cursor:
            cursor.execute(table.sql("DELETE FROM {table} WHERE born >= %s"), [version])  # of a writer that died
            with cursor.copy(table.sql("COPY {table} FROM STDIN")) as copy:
                for row in range(count):
                    texts = [_text(value) for value in filters[row]]
                    copy.write_row([int(change.ids[row]), version, *texts, _vector(change.vectors[row])])
        if table.run("SELECT count(*) FROM {table}")[0][0] >= GRAPH_FROM and dim <= WIDEST:
            graph = Identifier(f"{table.name}_graph")
            table.run("CREATE INDEX IF NOT EXISTS {graph} ON {table} USING hnsw (vector vector_ip_ops)", graph=graph)
        table.run("ANALYZE {table}")
        view = PgvectorVectors(table, version)
        facts = {"kind": "pgvector", "rows": len(view), "dim": dim, **view.tune(change)}
        (folder / "store.json").write_text(json.dumps(facts), encoding="utf-8")
        return facts

    def settle(self, version: int, change: Change) -> None:
        self.table.run("DELETE FROM {table} WHERE id = ANY(%s)", [change.removed.tolist()])

    def open(self, folder: Path, version: int) -> "PgvectorVectors":
        check_shared("table", self.table.url, self._known(), self.mark)
        facts = json.loads((folder / "store.json").read_text(encoding="utf-8"))
        return PgvectorVectors(self.table, version, int(facts["effort"]))

    def _known(self) -> tuple[str, int] | None:
        """The mark and the dimensions of the table; None where there is none."""
        rows = self.table.run(
            "SELECT obj_description(attrelid, 'pg_class'), atttypmod FROM pg_attribute "
            "WHERE attrelid = to_regclass(%s) AND attname = 'vector'",
            [Identifier(self.table.name).as_string()],
        )
        return (rows[0][0] or "", int(rows[0][1])) if rows else None

    def _create(self, dim: int) -> None:
        table = self.table
        try:
            table.run("CREATE EXTENSION IF NOT EXISTS vector")
        except psycopg.Error as error:
            raise UserError(
                f"the database of {table.url} has no extension vector ({error}); install pgvector there, then its "
                "owner says CREATE EXTENSION vector"
            ) from error
        version = table.run("SELECT extversion FROM pg_extension WHERE extname = 'vector'")[0][0]
        if tuple(map(int, version.split(".")[:2])) < (0, 8):
            raise UserError(f"the server of {table.url} has pgvector {version}; install 0.8 or later there")
        filters = "".join(f", {name} text NOT NULL" for name in FILTERS)
        columns = f"id bigint PRIMARY KEY, born bigint NOT NULL{filters}, vector vector({dim}) NOT NULL"
        table.run(f"CREATE TABLE {{table}} ({columns})")
        table.run("COMMENT ON TABLE {table} IS {mark}", mark=Literal(self.mark))


class PgvectorVectors:
    """A published version of a table. `effort`: `hnsw.ef_search`."""

    def __init__(self, table: "_Table", version: int, effort: int = EFFORTS[0]) -> None:
        self.table, self.version, self.effort = table, version, effort
        asked = "SELECT 1 FROM pg_indexes WHERE tablename = %s AND indexname = %s"
        self.graph = bool(table.run(asked, [table.name, f"{table.name}_graph"]))

    def __len__(self) -> int:
        return int(self.table.run("SELECT count(*) FROM {table} WHERE born <= %s", [self.version])[0][0])

    def search(self, queries: np.ndarray, k: int, where: Where | None = None) -> tuple[np.ndarray, np.ndarray]:
        scores = np.full((len(queries), k), -np.inf, np.float32)
        ids = np.full((len(queries), k), -1, np.int64)
        for place, query in enumerate(queries):
            rows = self._nearest(query, k, where)
            if len(rows) < k and self.graph:  # it gives up where a filter leaves little
                rows = self._nearest(query, k, where, "enable_indexscan")
            ids[place, : len(rows)] = [row[0] for row in rows]
            scores[place, : len(rows)] = [row[1] for row in rows]
        return scores, ids

    def get(self, ids: np.ndarray) -> np.ndarray:
        wanted = [int(i) for i in ids]
        asked = "SELECT id, vector::real[] FROM {table} WHERE id = ANY(%s) AND born <= %s"
        vectors: dict[int, list[float]] = dict(self.table.run(asked, [wanted, self.version]))
        return np.array([vectors[i] for i in wanted], np.float32).reshape(len(wanted), -1)

    def tune(self, change: Change) -> dict[str, Any]:
        """Raises the effort until the recall is enough, as facts; without a graph there is nothing to raise."""
        if not self.graph:
            return {"effort": self.effort, "recall@10": None, "measured": {}}
        items = self.table.run("SELECT id, vector::real[] FROM {table} ORDER BY id DESC LIMIT %s", [PROBES])
        texts = [(-1, query) for query in (change.texts() if change.texts is not None else ())]
        asked = {"items": items, **({"texts": texts} if texts else {})}
        recall: dict[str, float] = {}
        for self.effort in EFFORTS:
            recall = {name: self._recall(queries) for name, queries in asked.items()}
            if min(recall.values()) >= RECALL:
                break
        measured = {name: {"queries": len(asked[name]), "recall@10": round(recall[name], 4)} for name in asked}
        return {"effort": self.effort, "recall@10": round(min(recall.values()), 4), "measured": measured}

    def _recall(self, queries: Sequence[Row]) -> float:
        """recall@10 of the graph against comparing all, of (id, vector) without the item of that id."""
        shares = []
        for own, query in queries:
            graph, everything = (
                {row[0] for row in self._nearest(np.asarray(query), 11, None, off)} - {own}
                for off in ("enable_seqscan", "enable_indexscan")
            )
            shares.append(len(graph & everything) / max(len(everything), 1))
        return float(np.mean(shares))

    def _nearest(self, query: np.ndarray, k: int, where: Where | None, off: str = "") -> list[Row]:
        """(id, inner product), closest first. `off`: a way of PostgreSQL that is not to be taken."""
        conditions = [SQL("born <= %s"), *(SQL("{} = %s").format(Identifier(name)) for name in where or {})]
        asked = self.table.sql(
            "SELECT id, -(vector <#> %s::vector) FROM {table} WHERE {conditions} "
            "ORDER BY vector <#> %s::vector LIMIT %s",
            conditions=SQL(" AND ").join(conditions),
        )
        vector = _vector(query)
        values = [vector, self.version, *map(_text, (where or {}).values()), vector, k]
        settings = f"SET LOCAL hnsw.ef_search = {self.effort}; SET LOCAL hnsw.iterative_scan = strict_order"
        with self.table.connected() as connection, connection.transaction():
            if self.graph:
                connection.execute(f"{settings}; SET LOCAL {off} = off" if off else settings)
            return connection.execute(asked, values).fetchall()


class _Table:
    """A table, and a connection to its server, which threads use in turn and which is opened again where it was
    closed."""

    def __init__(self, url: str, name: str, place: dict[str, str | None]) -> None:
        self.url, self.name = url, name
        self._place = make_conninfo(**{key: value for key, value in place.items() if value})
        self._lock = threading.RLock()
        self._connection: psycopg.Connection[Row] | None = None
        self.run("SELECT 1")

    def sql(self, asked: str, **parts: Composable) -> Composed:
        """A statement; `{table}` in it is the table's name, quoted."""
        return SQL(asked).format(table=Identifier(self.name), **parts)

    def run(self, asked: str, values: Sequence[Any] = (), **parts: Composable) -> list[Row]:
        """The rows that a statement gives."""
        with self.connected() as connection:
            cursor = connection.execute(self.sql(asked, **parts), values)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def connected(self) -> Iterator[psycopg.Connection[Row]]:
        """The connection, for this thread alone.

        Raises:
            UserError: no server answers, or it does not let the user in.
        """
        with self._lock:
            try:
                if self._connection is not None:
                    self._connection.execute("")
            except psycopg.OperationalError:  # the server has ended it meanwhile
                self._connection = None
            try:
                opened = self._connection or psycopg.connect(self._place, autocommit=True, connect_timeout=10)
            except psycopg.OperationalError as error:
                why = str(error).splitlines()[0]
                raise UserError(
                    f"no PostgreSQL server lets us in at {self.url} ({why}); start it, correct the address, or set "
                    "PGUSER and PGPASSWORD"
                ) from error
            self._connection = opened
            yield opened


def _vector(values: np.ndarray) -> str:
    return str(np.asarray(values, np.float32).tolist())


def _text(value: str) -> str:
    """PostgreSQL holds all but the letter 0 and what is no UTF-8, as of file names."""
    return value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
