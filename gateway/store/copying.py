"""Everything of an installation from one Redis into another, while Kaskad is stopped.

Keys are copied by type and in pages: neither side holds more than a page, and their versions need
not agree. Then each page is read on both sides and compared, byte for byte, so that ledger, totals
and everything else are the same. A mark stands in the target from the first write on; no role
starts on a Redis that has it, and an interrupted copy begins anew. The installation's own record
comes last, in the transaction that takes the mark away.

The number of shards stays what it is: callers keep their messages' ids, an id names its shard, and
a person's record must lie with its messages to be changed in one transaction.

The lanes' consumer groups are made by the next dispatcher, which reads what was pending as new and
finds in the records what was being sent.

Synchronous, by redis-py. Raises CopyFault, and redis.RedisError when one of the two stops to
answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

import redis

from gateway.errors import ConfigurationError
from gateway.redis.address import Address
from gateway.redis.cluster_slots import SLOTS, slot_of
from gateway.redis.server.checks import connect, connect_masters
from gateway.store import keys

PAGE = 500  # keys, or members of one key
FIRST = b"-"

# Not copied: what lapses by itself (tokens, signs of life, snapshots; limits begin otherwise), and
# the two records that `begin` and `finish` write.
_kept = re.compile(
    rb"\{k\d+\}(?!t:)|\{kaskad\}(?!t:|alive:|stats:|processes$|meta$|copying$)"
).match
_kind = re.compile(rb"\{\w+\}(\w+)").match
_NAMES = {
    "m": "messages",
    "p": "people by phone",
    "e": "people by e-mail",
    "u": "people by user",
    "c": "claims",
    "i": "idempotency keys",
    "o": "opt-outs",
    "x": "provider ids",
    "lane": "lane entries",
    "ledger": "ledger entries",
    "totals": "totals",
    "events": "status changes",
    "parked": "unmatched receipts",
    "keys": "API keys",
    "paused": "pauses",
    "quarantine": "set aside",
}

Page = list[Any]


def call(client: redis.Redis, *command: Any) -> Any:
    """One command's reply, or a pipeline's next command. The library does not type it."""
    run: Any = client.execute_command
    return run(*command)


class CopyFault(ConfigurationError):
    """There is nothing to copy to or from as it is; the sentence says what to do."""


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


def begin(target: Side) -> None:
    """Makes the target ready: it is empty, or what an interrupted copy left there is deleted."""
    home = target.of(keys.COPYING)
    if target.size() and not call(home, "EXISTS", keys.COPYING):
        raise CopyFault(f"The Redis at {target.label} is not empty: name one that is.")
    call(home, "SET", keys.COPYING, 1)
    for client, names in target.pages():
        old = [name for name in names if name != keys.COPYING.encode()]
        with client.pipeline(transaction=False) as pipe:
            for name in old:
                call(pipe, "UNLINK", name)
            pipe.execute()


def copy(source: Side, target: Side, advance: Callable[[int], None]) -> None:
    """Copies every key that does not lapse by itself; `advance` is told how many were looked at."""
    for client, names in source.pages():
        kept = [name for name in names if _kept(name)]
        for kind, same in _by_type(client, kept).items():
            if kind == "string":
                _copy_strings(client, target, same)
            else:
                for name in same:
                    _copy_members(client, target.of(name), name, kind)
        advance(len(names))


def compare(source: Side, target: Side, advance: Callable[[int], None]) -> dict[str, int]:
    """How many there are of everything, once both sides hold the same. Raises CopyFault."""
    counts: Counter[str] = Counter()
    seen: set[bytes] = set()  # collections: few, and a key can come twice
    strings: Counter[str] = Counter()
    for client, names in source.pages():
        kept = [name for name in names if _kept(name)]
        for kind, same in _by_type(client, kept).items():
            if kind == "string":
                strings.update(_compare_strings(client, target, same))
                continue
            for name in same:
                if name not in seen:
                    counts[_name_of(name)] += _compare_members(client, target.of(name), name, kind)
                seen.add(name)
        advance(len(names))
    return dict(sorted((counts + strings).items()))


def finish(source: Side, target: Side) -> None:
    """The copy is whole: the installation's record is written and the mark goes."""
    record = call(source.of(keys.META), "HGETALL", keys.META)
    with target.of(keys.META).pipeline(transaction=True) as pipe:
        for field, value in record.items():
            call(pipe, "HSET", keys.META, field, value)
        call(pipe, "DEL", keys.COPYING)
        pipe.execute()


def _name_of(key: bytes) -> str:
    found = _kind(key)
    kind = "" if found is None else found[1].decode()
    return _NAMES.get(kind, kind)


def _by_type(client: redis.Redis, names: Sequence[bytes]) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for name, kind in zip(names, _each(client, [("TYPE", name) for name in names]), strict=True):
        found.setdefault(kind.decode(), []).append(name)
    found.pop("none", None)  # lapsed meanwhile
    return found


def _each(client: redis.Redis, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """One reply a command, in one round trip."""
    if not commands:
        return []
    with client.pipeline(transaction=False) as pipe:
        for command in commands:
            call(pipe, *command)
        replies: list[Any] = pipe.execute()
        return replies


def _values(client: redis.Redis, names: Sequence[bytes]) -> list[tuple[bytes | None, int]]:
    commands = [part for name in names for part in (("GET", name), ("PTTL", name))]
    replies = _each(client, commands)
    return list(zip(replies[::2], replies[1::2], strict=True))


def _by_master(side: Side, names: Sequence[bytes]) -> dict[int, tuple[redis.Redis, list[int]]]:
    """The places of names, by the master that serves them."""
    found: dict[int, tuple[redis.Redis, list[int]]] = {}
    for place, name in enumerate(names):
        client = side.of(name)
        found.setdefault(id(client), (client, []))[1].append(place)
    return found


def _copy_strings(client: redis.Redis, target: Side, names: Sequence[bytes]) -> None:
    values = _values(client, names)
    for there, places in _by_master(target, names).values():
        commands: list[tuple[Any, ...]] = []
        for place in places:
            value, ttl_ms = values[place]
            if value is not None:
                ends = ("PX", ttl_ms) if ttl_ms > 0 else ()
                commands.append(("SET", names[place], value, *ends))
        _each(there, commands)


def _compare_strings(client: redis.Redis, target: Side, names: Sequence[bytes]) -> Counter[str]:
    there: dict[bytes, tuple[bytes | None, int]] = {}
    for other, places in _by_master(target, names).values():
        some = [names[place] for place in places]
        there.update(zip(some, _values(other, some), strict=True))
    found: Counter[str] = Counter()
    # The source is read last: what has lapsed there may be left in the copy, not the other way.
    for name, (value, ttl_ms) in zip(names, _values(client, names), strict=True):
        copied, copied_ttl_ms = there[name]
        if value is None:
            continue
        if copied != value or (ttl_ms > 0) != (copied_ttl_ms > 0):
            raise _differs(name)
        found[_name_of(name)] += 1
    return found


def _members(client: redis.Redis, name: bytes, kind: str) -> Iterator[Page]:
    """What a key holds, as pairs, in pages; of a set with the member itself as the value."""
    if kind == "stream":
        after = FIRST
        while page := call(client, "XRANGE", name, after, "+", "COUNT", PAGE):
            yield page
            after = b"(" + page[-1][0]
        return
    word = {"hash": "HSCAN", "set": "SSCAN", "zset": "ZSCAN"}.get(kind)
    if word is None:
        raise CopyFault(f"{name!r} is a {kind}, which Kaskad has none of: delete it.")
    cursor: Any = 0
    while True:
        cursor, found = call(client, word, name, cursor, "COUNT", PAGE)
        yield list(found.items()) if kind == "hash" else list(found)
        if not int(cursor):
            return


def _copy_members(client: redis.Redis, there: redis.Redis, name: bytes, kind: str) -> None:
    _each(there, [("UNLINK", name)])
    for page in _members(client, name, kind):
        if kind == "stream":
            added = [("XADD", name, id_, *_flat(fields.items())) for id_, fields in page]
            _each(there, added)
        elif page:
            word = {"hash": "HSET", "set": "SADD", "zset": "ZADD"}[kind]
            if kind == "zset":
                page = [(score, member) for member, score in page]
            _each(there, [(word, name, *(page if kind == "set" else _flat(page)))])
    ttl_ms = call(client, "PTTL", name)
    if ttl_ms > 0:
        call(there, "PEXPIRE", name, ttl_ms)


def _compare_members(client: redis.Redis, there: redis.Redis, name: bytes, kind: str) -> int:
    word = {"stream": "XLEN", "hash": "HLEN", "set": "SCARD", "zset": "ZCARD"}[kind]
    length: int = call(client, word, name)
    lapses, copy_lapses = (call(side, "PTTL", name) > 0 for side in (client, there))
    if call(there, word, name) != length or lapses != copy_lapses:
        raise _differs(name)
    for page in _members(client, name, kind):
        if not page:
            continue
        if kind == "stream":
            same = call(there, "XRANGE", name, page[0][0], page[-1][0]) == page
        elif kind == "hash":
            fields, values = zip(*page, strict=True)
            same = call(there, "HMGET", name, *fields) == list(values)
        elif kind == "zset":
            scores = _each(there, [("ZSCORE", name, member) for member, _ in page])
            same = scores == [score for _, score in page]
        else:
            same = all(_each(there, [("SISMEMBER", name, member) for member in page]))
        if not same:
            raise _differs(name)
    return length


def _flat(pairs: Any) -> list[Any]:
    return [part for pair in pairs for part in pair]


def _differs(name: bytes) -> CopyFault:
    return CopyFault(
        f"{name.decode(errors='replace')} is not the same in both: something wrote meanwhile. "
        "Stop it, and run the copy again."
    )
