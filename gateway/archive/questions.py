"""What is asked of the archive's files, in DuckDB.

Only files that the manifest names are read, each as `ArchivePlace.local` gives it. DuckDB gets
little memory, no network and no other files; amounts stay DECIMAL, and nothing is divided.
"""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from gateway.archive.place import ArchivePlace
from gateway.core.archive.manifest import ArchivedFile
from gateway.core.ids import moment_of
from gateway.core.money.days import day_of

MEMORY = "512MB"
THREADS = 2
ROWS_A_PAGE = 20_000
ROWS_A_BATCH = 100_000
FAULTS = (duckdb.Error,)  # what asking raises, beside OSError

_IN_ORDER = "SELECT * FROM read_parquet($files, hive_partitioning = false) ORDER BY {order}"
_LATEST = """
SELECT id, max(revision), arg_max(record, revision)
FROM read_parquet($files) SEMI JOIN wanted USING (id) GROUP BY id
"""


class LatestRow(NamedTuple):
    """A message's latest row: its number, and the record in it."""

    revision: int
    record: bytes


class Questions:
    """`files` is what the manifest names; one object is for one reading of it. `database` is one
    that `connect` gave for the place."""

    def __init__(
        self,
        database: duckdb.DuckDBPyConnection,
        place: ArchivePlace,
        files: Iterable[ArchivedFile],
    ) -> None:
        self._database = database
        self._place = place
        self._files = list(files)

    def files_of(self, table: str, days: Iterable[str] | None = None) -> list[ArchivedFile]:
        """Those of a table, of some days only or of all."""
        wanted = None if days is None else frozenset(days)
        return [
            file
            for file in self._files
            if file.table == table and (wanted is None or file.day in wanted)
        ]

    def latest(self, ids_by_day: Mapping[str, Sequence[str]]) -> dict[str, LatestRow]:
        """The latest row of messages, which are given by the day they were accepted on; what is not
        archived is absent."""
        found: dict[str, LatestRow] = {}
        files = self.files_of("messages", ids_by_day)
        if files:
            ids = [id_ for each in ids_by_day.values() for id_ in each]
            wanted = pa.table({"id": pa.array(ids, pa.string())})
            for page in self.rows(_LATEST, {"files": files}, wanted=wanted):
                found |= {id_: LatestRow(revision, bytes(record)) for id_, revision, record in page}
        return found

    @contextmanager
    def in_order(self, files: Sequence[ArchivedFile], order: str) -> Iterator[pa.RecordBatchReader]:
        """All rows of files of one table in an order, as batches."""
        query = _IN_ORDER.format(order=order)
        paths = [str(self._place.local(file)) for file in files]
        with self._database.cursor() as database:
            rows = database.sql(query, params={"files": paths})
            yield rows.to_arrow_reader(ROWS_A_BATCH)

    def rows(
        self,
        query: str,
        files: Mapping[str, Sequence[ArchivedFile]],
        parameters: Mapping[str, Any] | None = None,
        **tables: pa.Table,
    ) -> Iterator[list[tuple[Any, ...]]]:
        """What a query answers, in pages; files stand in it under the names they are given by,
        which are left out where there are none."""
        paths = {name: list(map(self._place.local, each)) for name, each in files.items() if each}
        with self._database.cursor() as database:
            for name, table in tables.items():
                database.register(name, table)
            values = {name: [str(path) for path in each] for name, each in paths.items()}
            answer = database.execute(query, values | dict(parameters or {}))
            while page := answer.fetchmany(ROWS_A_PAGE):
                yield page


def by_day(ids: Iterable[str]) -> dict[str, list[str]]:
    """Messages by the day they were accepted on, each once."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for id_ in dict.fromkeys(ids):
        found[day_name(id_)].append(id_)
    return dict(found)


def day_name(message_id: str) -> str:
    """The UTC day a message was accepted on, by its id."""
    return day_of(moment_of(message_id) or 0).isoformat()


def connect(folder: Path) -> duckdb.DuckDBPyConnection:
    """A database in memory that may read what is in this folder alone. It takes some 20 ms."""
    database = duckdb.connect(":memory:")
    database.execute(f"SET memory_limit = '{MEMORY}'")
    database.execute(f"SET threads = {THREADS}")
    database.execute("SET TimeZone = 'UTC'")
    database.execute("SET autoinstall_known_extensions = false")
    database.execute("SET autoload_known_extensions = false")
    # Where a large answer is put in order; a folder that is made when it is needed.
    spill = Path(tempfile.gettempdir()) / f"kaskad-archive-{os.getpid()}"
    database.execute(f"SET temp_directory = {_quoted(spill)}")
    database.execute(f"SET allowed_directories = [{_quoted(folder)}]")
    database.execute("SET enable_external_access = false")
    return database


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
