"""How a record is written down: one byte of schema, then a msgpack map with short field names.

A map has no places, so a field is added by one line with a default, and records without it are
still read. A record that a process must not write back without a field that it does not know is
written as one of those behind it, by the kinds that have such fields; all others stay as they are.
Raise SCHEMA when what a field means changes. A record of an earlier schema is upgraded when it is
read and written in today's form with its next change. One of a later schema raises
NewerRecordError: whoever meets it leaves it as it is, so that old and new processes can share one
Redis during an upgrade.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

SCHEMA = 3
# The same form; a process that reads less leaves it alone: of a campaign's content, of a budget, of
# parts that cost without their text.
GUARDED, RESERVING, LOOSE = 4, 5, 6
NEWEST = LOOSE
# Schema 2 had no such byte: its records are msgpack arrays, which begin with one of these or more.
# A deflated entry begins with 0x78 (`gateway.store.compression`), so no schema is numbered that.
FIRST_ARRAY_BYTE = 0x90

_PREFIXES = tuple(bytes((schema,)) for schema in range(NEWEST + 1))
_PREFIX = _PREFIXES[SCHEMA]
_encode = msgspec.msgpack.Encoder().encode

Record = TypeVar("Record")


class NewerRecordError(Exception):
    """A record was written by a newer Kaskad; the sentence says what to do."""

    def __init__(self, kind: str, schema: int, newest: int) -> None:
        super().__init__(
            f"This {kind} is a record of schema {schema}, and this Kaskad reads up to {newest}: "
            "it is left to the newer one that wrote it."
        )


class UnreadableRecordError(msgspec.DecodeError):
    """A record is none at all: it was damaged, or something else wrote it. `key` is where it
    stands, once whoever read it said so."""

    key = ""

    def at(self, key: str) -> UnreadableRecordError:
        self.key = self.key or key
        return self


class Codec(Generic[Record]):
    """Writes and reads one kind of record. `upgrade` reads its form in schema 2; without one it
    had none. `newest` is the latest that it reads."""

    def __init__(
        self,
        kind: type[Record],
        name: str,
        upgrade: Callable[[bytes], Record] | None = None,
        newest: int = SCHEMA,
    ) -> None:
        self._decode = msgspec.msgpack.Decoder(kind).decode
        self._name = name
        self._upgrade = upgrade
        self._newest = newest
        self._schemas = range(SCHEMA, newest + 1)

    def encode(self, record: Record) -> bytes:
        return _PREFIX + _encode(record)

    def encode_as(self, schema: int, record: Record) -> bytes:
        return _PREFIXES[schema] + _encode(record)

    def decode(self, data: bytes) -> Record:
        """Raises NewerRecordError, and UnreadableRecordError for what is no record at all."""
        first = data[0] if data else 0
        try:
            if first in self._schemas:
                return self._decode(data[1:])
            if first >= FIRST_ARRAY_BYTE and self._upgrade is not None:
                return self._upgrade(data)
        except Exception as error:  # an upgrade can fail in any way over what it is given
            raise UnreadableRecordError(f"This {self._name} cannot be read: {error}") from error
        if self._newest < first < FIRST_ARRAY_BYTE:
            raise NewerRecordError(self._name, first, self._newest)
        raise UnreadableRecordError(f"This {self._name} begins with no schema: {data[:1]!r}.")
