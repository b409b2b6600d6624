"""The record that stands where a message's id says, when a copy with another number of shards put
the message elsewhere.

It begins with a byte that no schema has, and that older versions take for a later schema's: they
leave it alone.
"""

from __future__ import annotations

_MARK = b"\x7f"


class MovedError(Exception):
    """The message is in another shard than its id says."""

    def __init__(self, shard: int) -> None:
        super().__init__(f"The message is in shard {shard}.")
        self.shard = shard


def pack_moved(shard: int) -> bytes:
    """The record that tells where a message is."""
    return _MARK + b"%d" % shard


def is_moved(record: bytes) -> bool:
    return record.startswith(_MARK) and record[len(_MARK) :].isdigit()


def moved_to(record: bytes) -> int:
    """The shard that such a record names."""
    return int(record[len(_MARK) :])
