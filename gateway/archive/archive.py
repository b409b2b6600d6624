"""An archive as it stands: what it says of itself, its manifest, and files put into it.

An archive belongs to one installation and one hash key. Both are noted when it is begun, in the
archive and, for the installation, in Redis as well: behind another archive nothing may be trimmed,
and with another key one person would be two. Raises ArchiveFault where they do not fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from gateway.archive import parquet
from gateway.archive.place import ArchivePlace, FileGone, Manifest, ManifestMoved
from gateway.archive.questions import Questions, connect
from gateway.archive.tables import COLUMNS, ORDERS, SUMS
from gateway.core.archive.hashing import mark_of
from gateway.core.archive.manifest import (
    SCHEMA,
    ArchivedFile,
    ArchiveFault,
    EntryId,
    entry_texts,
    file_name,
    read_manifest,
    summed,
    sums_texts,
    write_manifest,
)
from gateway.core.archive.merging import in_place_of, span_of
from gateway.failpoints import failpoint
from gateway.files import system_sentence
from gateway.store.archive.archiving import ArchiveBegun


class ArchiveIdentity(msgspec.Struct, frozen=True):
    """What an archive says of itself: whose it is, and with which key it hashes."""

    installation: str
    key: str
    schema: int = SCHEMA


class Archive:
    """`key` is that of the hashes; whoever only reads needs none, but says in `begun` what Redis
    knows of it: what has left Redis is nowhere else, so an archive that lacks some of it, a folder
    that is not mounted above all, answers nothing."""

    begun = ArchiveBegun()

    def __init__(self, place: ArchivePlace, url: str, key: bytes = b"") -> None:
        self.place = place
        self.url = url
        self.key = key
        self._database: duckdb.DuckDBPyConnection | None = None
        self._sound: set[str] = set()  # files that were seen to lie there as they were written
        self._whose: str | None = None  # as it was read last

    def why(self, error: Exception) -> str:
        """What to tell of an error; of a disk that is full, which folder is on it."""
        if isinstance(error, OSError):
            return system_sentence(error, str(self.place.folder()))
        return str(error) or type(error).__name__

    def installation(self) -> str | None:
        """Whose it is; None: it was not begun."""
        about = self.place.about()
        return None if about is None else self._read(about).installation

    def begin(self, installation: str) -> None:
        """Begins it, or makes sure that it is this installation's and this key's."""
        mine = ArchiveIdentity(installation, mark_of(self.key))
        stands = self._read(self.place.found(msgspec.json.encode(mine)))
        if stands.installation != installation:
            raise ArchiveFault(self._foreign())
        if stands.key != mine.key:
            raise ArchiveFault(
                f"The archive at {self.url} was begun with another hash key: set the variable of "
                "archive.hash_key_env to that one again. Without it one person would count as two."
            )

    def make_sure_of_key(self, mark: str) -> None:
        """That hashes made with the key of this mark are found here. Raises ArchiveFault."""
        about = self.place.about()
        if about is not None and self._read(about).key != mark:
            raise ArchiveFault(
                f"The archive at {self.url} was begun with another hash key than that of "
                "archive.hash_key_env, so nobody is found in it: set that one again."
            )

    def _read(self, about: bytes) -> ArchiveIdentity:
        try:
            found = msgspec.json.decode(about, type=ArchiveIdentity)
        except msgspec.DecodeError as error:
            raise ArchiveFault(f"archive.json at {self.url} cannot be read: {error}.") from None
        if found.schema > SCHEMA:
            raise ArchiveFault(
                f"The archive at {self.url} is of schema {found.schema}, and this Kaskad knows "
                f"{SCHEMA}: use the version that wrote it."
            )
        return found

    def files(self) -> list[ArchivedFile]:
        """What the manifest names. Raises ArchiveFault, also where it is not what was `begun`."""
        files = read_manifest(self.place.manifest().text)
        if sum(file.rows for file in files) < self.begun.rows:
            raise ArchiveFault(self._lacking())
        if self.begun.installation and self._whose != self.begun.installation:
            self._whose = self.installation()
            if self._whose != self.begun.installation:
                raise ArchiveFault(self._lacking() if self._whose is None else self._foreign())
        return files

    def _foreign(self) -> str:
        return (
            f"The archive at {self.url} is of another installation: give this one a folder or "
            "prefix of its own (archive.url)."
        )

    def _lacking(self) -> str:
        if self.installation() is None:
            return (
                f"There is no archive at {self.url}, and there was one: put it back, or point "
                "archive.url at where it is."
            )
        return (
            f"The manifest at {self.url} names less than was archived: put back the newest one, or "
            "point archive.url at where the archive is."
        )

    def questions(self) -> Questions:
        """To ask of it as it is now."""
        if self._database is None:
            self._database = connect(self.place.folder())
        return Questions(self._database, self.place, self.files())

    def make_sure(self, files: Iterable[ArchivedFile]) -> None:
        """That files lie there as they were written. Raises ArchiveFault."""
        for file in files:
            if file.file not in self._sound:
                if self.place.sha256(file) != file.sha256:
                    raise ArchiveFault(
                        f"{file.file} at {self.url}, of {file.when}, is not as it was written, so "
                        "it is not used "
                        "and nothing is taken out of Redis behind it: restore it from a copy. "
                        "`kaskad archive verify` tells what else differs."
                    )
                self._sound.add(file.file)

    def verify(self) -> Iterator[tuple[ArchivedFile, str]]:
        """Reads every file again; for each what is wrong with it, or nothing."""
        for file in self.files():
            wrong = self._wrong(file)
            self.place.leave(file)
            yield file, wrong

    def _wrong(self, file: ArchivedFile) -> str:
        try:
            found = parquet.read_back(self.place.local(file), SUMS.get(file.table, ()))
        except (ArchiveFault, OSError, *parquet.FAULTS) as fault:
            return str(fault)
        if found.sha256 != file.sha256:
            return "it is not what was written: its hash differs"
        said = (file.bytes, file.rows, file.first_id, file.last_id, file.sums)
        is_so = (*found[1:5], sums_texts(found.sums))
        return "" if said == is_so else f"it holds {is_so}, and the manifest says {said}"

    def put(
        self,
        rows: Mapping[tuple[str, str], Sequence[Sequence[Any]]],
        after: Mapping[int, EntryId],
        through: Mapping[int, EntryId],
        before: Manifest,
    ) -> list[ArchivedFile]:
        """Archives rows, by table and day, all at one moment: a file each, written, read back as it
        lies there, then named by the manifest, which must be what it was. They are of what each
        shard's stream has after one entry, up to another. Raises ManifestMoved."""
        spool = self.place.spool()
        made: list[ArchivedFile] = []
        for number, ((table, day), each) in enumerate(sorted(rows.items())):
            path = spool / f"{number}.parquet"
            parquet.write(path, COLUMNS[table], sorted(each, key=itemgetter(0)))
            failpoint("archive_written")
            between = entry_texts({shard: after.get(shard, (0, 0)) for shard in through})
            made.append(self._kept(path, table, day, (between, entry_texts(through)), len(each)))
        self.exchange(before, [*read_manifest(before.text), *made], made)
        return made

    def merge(self, group: Sequence[ArchivedFile], now_ms: int, before: Manifest) -> None:
        """Puts one file with all their rows in the place of several of one table and day: written,
        read back and added up, then named by the manifest, which must be what it was. Raises
        ManifestMoved."""
        self.make_sure(group)
        table, day, count = group[0].table, group[0].day, sum(file.rows for file in group)
        path = self.place.spool() / "merged.parquet"
        with self.questions().in_order(group, ORDERS.get(table, "id")) as batches:
            parquet.write_batches(path, COLUMNS[table], batches, count)
        failpoint("archive_merged")
        made = self._kept(path, table, day, span_of(group), count)
        if made.sums != summed(file.sums for file in group):
            raise ArchiveFault(f"{made.file} at {self.url} adds up to other sums than its parts.")
        files = in_place_of(group, made, read_manifest(before.text), now_ms)
        self.exchange(before, files, [made])

    def _kept(
        self,
        path: Path,
        table: str,
        day: str,
        span: tuple[Mapping[str, str], Mapping[str, str]],
        count: int,
    ) -> ArchivedFile:
        """What the manifest is to say of a finished file, which was published and read back.
        Raises ManifestMoved."""
        found = parquet.read_back(path, SUMS[table])
        if found.rows != count:
            raise ArchiveFault(f"{path} has {found.rows} rows, and {count} were written.")
        file = ArchivedFile(
            file=file_name(table, day, found.sha256),
            sha256=found.sha256,
            bytes=found.bytes,
            rows=found.rows,
            first_id=found.first_id,
            last_id=found.last_id,
            sums=sums_texts(found.sums),
            after=dict(span[0]),
            through=dict(span[1]),
        )
        self.place.publish(path, file.file)
        failpoint("archive_published")
        try:
            lies = self.place.sha256(file)
        except FileGone:  # for somebody who overtook this run, and swept, it was nobody's
            raise ManifestMoved from None
        if lies != file.sha256:
            raise ArchiveFault(f"{file.file} does not lie at {self.url} as it was written.")
        self._sound.add(file.file)
        return file

    def exchange(
        self, before: Manifest, files: Iterable[ArchivedFile], made: Iterable[ArchivedFile]
    ) -> None:
        """Raises ManifestMoved."""
        names = [file.file for file in made]
        self.place.exchange_manifest(write_manifest(files), before, names)
        failpoint("archive_named")
