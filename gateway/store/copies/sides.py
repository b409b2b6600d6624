"""The two sides of a copy: all masters of one Redis each, read in pages and written in pipelines.

Synchronous, by redis-py. Raises redis.RedisError when one of them stops to answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, NamedTuple

import redis

from gateway.errors import ConfigurationError
from gateway.redis.address import Address
from gateway.redis.cluster_slots import SLOTS, slot_of
from gateway.redis.server.checks import connect, connect_masters

PAGE = 500  # keys, or members of one key
NO_ID = b"0-0"  # of a stream

KeyPage = list[Any]
# As a command asks for how many there are, and reads some of them.
_LENGTH = {"stream": "XLEN", "hash": "HLEN", "set": "SCARD", "zset": "ZCARD"}
_SCAN = {"hash": "HSCAN", "set": "SSCAN", "zset": "ZSCAN"}


class CopyFault(ConfigurationError):
    """There is nothing to copy to or from as it is; the sentence says what to do."""


class StringValue(NamedTuple):
    """A string, where it stands or is to stand. `ttl_ms`: how long still; not above 0 is for
    ever. `origin` is its key in the source."""

    key: bytes
    value: bytes
    ttl_ms: int
    origin: bytes


class KeyPart(NamedTuple):
    """Some of what a key of another type holds: pairs, and of a set the members alone. `last`: the
    last id of a stream, where its entry is there no more."""

    key: bytes
    kind: str
    page: KeyPage
    ttl_ms: int
    last: bytes = b""


def call(client: redis.Redis, *command: Any) -> Any:
    """One command's reply, or a pipeline's next command. The library does not type it."""
    run: Any = client.execute_command
    return run(*command)


def each(client: redis.Redis, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """One reply a command, in one round trip."""
    if not commands:
        return []
    with client.pipeline(transaction=False) as pipe:
        for command in commands:
            call(pipe, *command)
        replies: list[Any] = pipe.execute()
        return replies


class Side:
    """All masters of one Redis."""

    def __init__(self, address: Address) -> None:
        self.label = address.label
        self._by_slots = (
            connect_masters(address)
            if address.cluster
            else {range(SLOTS): connect(address, decode=False)}
        )
        self.masters = list({id(client): client for client in self._by_slots.values()}.values())

    def __enter__(self) -> Side:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for client in self.masters:
            client.close()

    def of(self, key: bytes | str) -> redis.Redis:
        """The master that serves a key."""
        if len(self.masters) == 1:
            return self.masters[0]
        slot = slot_of(key)
        return next(client for slots, client in self._by_slots.items() if slot in slots)

    def size(self) -> int:
        return sum(int(call(client, "DBSIZE")) for client in self.masters)

    def pages(self) -> Iterator[tuple[redis.Redis, list[bytes]]]:
        """Each master's keys, in pages; a key can come twice."""
        for client in self.masters:
            cursor: Any = 0
            while True:
                cursor, names = call(client, "SCAN", cursor, "COUNT", PAGE)
                yield client, names
                if not int(cursor):
                    break

    def ask(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """One reply a command, whose second word is its key; one round trip a master."""
        by_master: dict[int, tuple[redis.Redis, list[int]]] = {}
        for place, command in enumerate(commands):
            client = self.of(command[1])
            by_master.setdefault(id(client), (client, []))[1].append(place)
        replies: list[Any] = [None] * len(commands)
        for client, places in by_master.values():
            for place, reply in zip(
                places, each(client, [commands[p] for p in places]), strict=True
            ):
                replies[place] = reply
        return replies

    def values(self, names: Sequence[bytes]) -> list[tuple[bytes | None, int]]:
        """The strings under these keys, and for how long each still stands."""
        replies = self.ask([part for n in names for part in (("GET", n), ("PTTL", n))])
        return list(zip(replies[::2], replies[1::2], strict=True))

    def length(self, name: bytes, kind: str) -> int:
        return int(call(self.of(name), _LENGTH[kind], name))

    def parts(self, name: bytes, kind: str, ttl_ms: int) -> Iterator[KeyPart]:
        """All that a key holds, and the last id of a stream whose newest entries are gone."""
        newest = NO_ID
        for page in self.members(name, kind):
            yield KeyPart(name, kind, page, ttl_ms)
            if kind == "stream":
                newest = page[-1][0]
        if kind == "stream" and (last := self.last_id(name)) != newest:
            yield KeyPart(name, kind, [], ttl_ms, last)

    def last_id(self, name: bytes) -> bytes:
        """The last that the stream gave; NO_ID where there was no entry yet, or is no stream."""
        client = self.of(name)
        if not call(client, "EXISTS", name):
            return NO_ID
        told: dict[str, bytes] = client.xinfo_stream(name)
        return told["last-generated-id"]

    def members(self, name: bytes, kind: str, count: int = PAGE) -> Iterator[KeyPage]:
        """What a key holds, in pages of about `count`. Raises CopyFault for a type that Kaskad has
        none of."""
        client = self.of(name)
        if kind == "stream":
            after = b"-"
            while page := call(client, "XRANGE", name, after, "+", "COUNT", count):
                yield page
                after = b"(" + page[-1][0]
            return
        if kind not in _SCAN:
            raise CopyFault(f"{name!r} is a {kind}, which Kaskad has none of: delete it.")
        cursor: Any = 0
        while True:
            cursor, found = call(client, _SCAN[kind], name, cursor, "COUNT", count)
            yield list(found.items()) if kind == "hash" else list(found)
            if not int(cursor):
                return


def types(client: redis.Redis, names: Sequence[bytes]) -> dict[str, list[bytes]]:
    """The keys by type; those that have lapsed are left out."""
    found: dict[str, list[bytes]] = {}
    for name, kind in zip(names, each(client, [("TYPE", name) for name in names]), strict=True):
        found.setdefault(kind.decode(), []).append(name)
    found.pop("none", None)
    return found
