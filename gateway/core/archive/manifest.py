"""The manifest: which files are the archive, and how far it reaches. Pure.

One line of JSON a file. What is not named there is no part of the archive, whatever lies in its
folder; so a change of what the archive holds is one exchange of the manifest. Each line says up to
which entry of each shard's stream everything is archived once the line stands, so the manifest
alone says where to go on.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal

import msgspec

from gateway.core.money.money import PLACES, format_amount

NAME = "manifest.ndjson"
SCHEMA = 1

EntryId = tuple[int, int]  # of a stream: milliseconds and sequence

_encode = msgspec.json.Encoder().encode
_name = re.compile(r"([a-z]+)/day=([0-9]{4}-[0-9]{2}-[0-9]{2})/([A-Za-z0-9.-]+)\.parquet").fullmatch


class ArchiveFault(Exception):
    """The archive is not as it must be; the sentence says what, and what to do."""


class ArchivedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file: its place below the archive, what it holds, and how far it brought the archive.

    `first_id` and `last_id` are those of its rows in their order; `sums` are decimal strings by
    currency and what they are sums of. `after` and `through` say of each shard, by its number,
    between which entries of the stream it was made from its rows lie: the latter is among them.
    `replaces` are the files in whose place it was put at `merged_ms`."""

    file: str
    sha256: str
    bytes: int
    rows: int
    first_id: str
    last_id: str
    sums: dict[str, dict[str, str]] = {}
    after: dict[str, str] = {}
    through: dict[str, str] = {}
    replaces: tuple[str, ...] = ()
    merged_ms: int = 0
    schema: int = SCHEMA

    def has_of(self, shard: int, after: EntryId, through: EntryId) -> bool:
        """Whether it may have rows of entries after one and up to and with another."""
        name = str(shard)
        if name not in self.through:
            return False
        return entry_id(self.through[name]) > after and entry_id(self.after[name]) < through

    @property
    def span_ms(self) -> tuple[int, int]:
        """Between which moments its entries were booked or its messages closed, by Redis' clock; it
        begins with 0 where it is the first."""
        starts, ends = (map(entry_id, each.values()) for each in (self.after, self.through))
        return min(starts, default=(0, 0))[0], max(ends, default=(0, 0))[0]

    @property
    def when(self) -> str:
        """The same for people, to the minute."""
        start, end = (_minute(each) for each in self.span_ms)
        return f"{start} to {end} UTC" if self.span_ms[0] else f"up to {end} UTC"

    @property
    def table(self) -> str:
        return self.file.partition("/")[0]

    @property
    def day(self) -> str:
        return day_in(self.file)


_decode = msgspec.json.Decoder(ArchivedFile).decode


def file_name(table: str, day: str, sha256: str) -> str:
    """A file is called after what is in it, so the same rows twice are the same file."""
    return f"{table}/day={day}/{sha256[:32]}.parquet"


def is_file_name(name: str) -> bool:
    """Whether a file may be one of the archive's."""
    return _name(name) is not None


def day_in(name: str) -> str:
    found = _name(name)
    assert found is not None, f"not a file of the archive: {name!r}"
    return found[2]


def read_manifest(text: bytes) -> list[ArchivedFile]:
    """Raises ArchiveFault."""
    files = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            file = _decode(line)
        except msgspec.DecodeError as error:
            raise ArchiveFault(f"Line {number} of {NAME} cannot be read: {error}.") from None
        if file.schema > SCHEMA or not is_file_name(file.file):
            raise ArchiveFault(
                f"Line {number} of {NAME} is of schema {file.schema}, and this Kaskad reads up to "
                f"{SCHEMA}: read it with the version that wrote it."
            )
        files.append(file)
    return files


def write_manifest(files: Iterable[ArchivedFile]) -> bytes:
    return b"".join(_encode(file) + b"\n" for file in files)


def reached(files: Iterable[ArchivedFile], tables: Iterable[str]) -> dict[int, EntryId]:
    """Up to which entry of each shard's stream everything is archived, by tables made from it."""
    wanted = frozenset(tables)
    found: dict[int, EntryId] = {}
    for file in files:
        if file.table in wanted:
            for shard, entry in file.through.items():
                number, id_ = int(shard), entry_id(entry)
                found[number] = max(found.get(number, (0, 0)), id_)
    return found


def _minute(at_ms: int) -> str:
    moment = datetime.datetime.fromtimestamp(at_ms // 1_000, datetime.UTC)
    return moment.strftime("%Y-%m-%d %H:%M")


def entry_id(text: str) -> EntryId:
    milliseconds, _, sequence = text.partition("-")
    return int(milliseconds), int(sequence)


def entry_text(id_: EntryId) -> str:
    return f"{id_[0]}-{id_[1]}"


def entry_texts(entries: Mapping[int, EntryId]) -> dict[str, str]:
    """Of each shard, as a line has them."""
    return {str(shard): entry_text(id_) for shard, id_ in sorted(entries.items())}


def summed(sums: Iterable[Mapping[str, Mapping[str, str]]]) -> dict[str, dict[str, str]]:
    """Sums of several lines as one has them."""
    added: dict[str, dict[str, int]] = {}
    for each in sums:
        for currency, texts in each.items():
            of = added.setdefault(currency, {})
            for name, text in texts.items():
                of[name] = of.get(name, 0) + int(Decimal(text).scaleb(PLACES))
    return sums_texts(added)


def sums_texts(sums: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, str]]:
    """Sums in 1e-6 units as a line has them."""
    return {
        currency: {name: format_amount(amount) for name, amount in sorted(each.items())}
        for currency, each in sorted(sums.items())
    }
