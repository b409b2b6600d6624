"""Everything of an installation from one Redis into another, while Kaskad is stopped.

Keys are copied by type and in pages: neither side holds more than a page, and their versions need
not agree. Then each page is read on both sides and compared, byte for byte, so that ledger, totals
and everything else are the same. A mark stands in the target from the first write on; no role
starts on a Redis that has it, and an interrupted copy begins anew. The installation's own record
comes last, in the transaction that takes the mark away. Before that the source is marked too: what
waits there would be sent from both.

Where each thing goes is said by a `Placing`: where it is, or, for another number of shards, what
`gateway.store.copies.spreading` says.

The lanes' consumer groups are made by the next dispatcher, which reads what was pending as new and
finds in the records what was being sent.

Synchronous, by redis-py. Raises CopyFault, and redis.RedisError when one of the two stops to
answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from gateway.core.records.moved import is_moved
from gateway.store import shared_keys
from gateway.store.copies.sides import CopyFault, KeyPart, Side, StringValue, call, each, types
from gateway.store.installation.installation import SHARDS_FIELD, Copied

# Not copied: what lapses by itself (tokens, signs of life, places, snapshots, raw receipts;
# limits begin otherwise), the two records that `begin` and `finish` write, and how far shards
# followed a campaign that was cancelled or changed: those of the copy look again.
_kept = re.compile(
    rb"\{k\d+\}(?!t:|raw:|feeder)|\{hook_\w+\}(?!t:)"
    rb"|\{kaskad\}(?!t:|alive:|stats:|place:|sends:|senders$|processes$|meta$|copying$|copied$|cancelling$|asked$)"
).match
_kind = re.compile(rb"\{\w+\}(\w+)").match
# What several shards may hold of one thing: how much there is is counted over all of them.
_spread = re.compile(rb"\{k\d+\}(oo?$|timers$|parked$|(?:lane|held|so|clicks):.*)", re.DOTALL).match
_NAMES = {
    "m": "messages",
    "p": "people by phone",
    "e": "people by e-mail",
    "u": "people by user",
    "su": "stored users",
    "so": "owners of addresses",
    "c": "claims",
    "i": "idempotency keys",
    "cv": "conversions",
    "un": "unsubscribe codes",
    "o": "opt-outs",
    "oo": "who opted out and when",
    "index": "index entries",
    "x": "provider ids",
    "said": "what campaigns say",
    "l": "ranges of links",
    "li": "messages with links",
    "lc": "clicks of messages",
    "link": "links of their own",
    "clicks": "clicks of such links",
    "lane": "lane entries",
    "held": "held messages",
    "ledger": "ledger entries",
    "closed": "lists of closed messages",
    "clicked": "lists of clicks",
    "totals": "totals",
    "hours": "reactions by the hour",
    "events": "status changes",
    "parked": "unmatched receipts",
    "keys": "API keys",
    "shared": "shared reports",
    "replies": "replies",
    "reply": "replies that were taken",
    "audit": "deeds of operators",
    "audit_apps": "deeds of apps",
    "paused": "pauses",
    "quarantine": "set aside",
    "outbox": "events for webhooks",
    "happened": "events that are no message's",
    "queue": "events that wait for webhooks",
    "attempts": "tries of webhooks",
}


Written = set[tuple[bytes, str]]  # keys and their types


class Placing(Protocol):
    """Says where in the target everything goes. Used once for the copy, and anew to compare."""

    def takes(self, name: bytes) -> bool:
        """Whether a key of the source goes anywhere."""
        ...

    def strings(self, found: Sequence[StringValue]) -> list[StringValue]: ...

    def parts(self, name: bytes, kind: str) -> Iterable[KeyPart]: ...

    def rest(self) -> Iterable[KeyPart]:
        """What is put together of several keys, once all were seen."""
        ...


class Unchanged:
    """Everything stays where it is."""

    def __init__(self, source: Side) -> None:
        self._source = source

    def takes(self, _: bytes) -> bool:
        return True

    def strings(self, found: Sequence[StringValue]) -> list[StringValue]:
        return list(found)

    def parts(self, name: bytes, kind: str) -> Iterator[KeyPart]:
        yield from self._source.parts(name, kind, call(self._source.of(name), "PTTL", name))

    def rest(self) -> Iterable[KeyPart]:
        return ()


def begin(target: Side) -> None:
    """Makes the target ready: it is empty, or what an interrupted copy left there is deleted."""
    home = target.of(shared_keys.COPYING)
    if target.size() and not call(home, "EXISTS", shared_keys.COPYING):
        raise CopyFault(f"The Redis at {target.label} is not empty: name one that is.")
    call(home, "SET", shared_keys.COPYING, 1)
    for client, names in target.pages():
        old = [name for name in names if name != shared_keys.COPYING.encode()]
        each(client, [("UNLINK", name) for name in old])


def copy(source: Side, target: Side, placing: Placing, advance: Callable[[int], None]) -> Written:
    """Copies every key that does not lapse by itself; `advance` is told how many were looked at.
    Returns what was written that is no string."""
    written: Written = set()

    def write(parts: Iterable[KeyPart]) -> None:
        for part in parts:
            written.add((part.key, part.kind))
            _write(target, part)

    for values, names in _found(source, placing, advance):
        strings = placing.strings(values)
        target.ask([("SET", s.key, s.value, *_end(s.ttl_ms)) for s in strings])
        for name, kind in names:
            write(placing.parts(name, kind))
    write(placing.rest())
    return written


def compare(
    source: Side, target: Side, placing: Placing, written: Written, advance: Callable[[int], None]
) -> dict[str, int]:
    """How many there are of everything, once the target holds all of it and nothing else of what
    `copy` has `written`. Raises CopyFault."""
    counts: Counter[str] = Counter()
    here: Counter[bytes] = Counter()
    there: Counter[bytes] = Counter()

    def look_at(parts: Iterable[KeyPart]) -> None:
        for part in parts:
            if not _is_same(target, part):
                raise _differs(part.key)

    for values, names in _found(source, placing, advance):
        strings = placing.strings(values)
        _compare_strings(source, target, strings)
        counts.update(_name_of(s.origin) for s in strings if not _tells_where(s))
        for name, kind in names:
            length = source.length(name, kind)
            counts[_name_of(name)] += length
            here[_family(name)] += length
            look_at(placing.parts(name, kind))
    look_at(placing.rest())
    for name, kind in written:
        there[_family(name)] += target.length(name, kind)
    for name in here.keys() | there.keys():
        if here[name] != there[name]:
            raise _differs(name)
    counts.pop("om", None)  # a mark a shard, however many those are
    return dict(sorted((+counts).items()))


def mark(source: Side, copied: Copied) -> None:
    """No role starts on the source any more."""
    fields = _flat(copied._asdict().items())
    call(source.of(shared_keys.COPIED), "HSET", shared_keys.COPIED, *fields)


def take_back(source: Side) -> None:
    """Roles may start on the source again. Raises CopyFault where it has no mark."""
    if not call(source.of(shared_keys.COPIED), "DEL", shared_keys.COPIED):
        raise CopyFault("There is nothing to take back: no copy of this Redis was finished.")


def finish(source: Side, target: Side, shards: int) -> None:
    """The copy is whole: the installation's record is written and the mark goes."""
    record: dict[bytes, bytes] = call(source.of(shared_keys.META), "HGETALL", shared_keys.META)
    before = record.get(SHARDS_FIELD.encode(), b"")
    if before and int(before) != shards:
        former = [
            n for n in record.get(shared_keys.SHARDS_BEFORE_FIELD.encode(), b"").split(b",") if n
        ]
        record |= {
            SHARDS_FIELD.encode(): b"%d" % shards,
            shared_keys.SHARDS_BEFORE_FIELD.encode(): b",".join(dict.fromkeys([*former, before])),
        }
    with target.of(shared_keys.META).pipeline(transaction=True) as pipe:
        for field, value in record.items():
            call(pipe, "HSET", shared_keys.META, field, value)
        call(pipe, "DEL", shared_keys.COPYING)
        pipe.execute()


def _found(
    source: Side, placing: Placing, advance: Callable[[int], None]
) -> Iterator[tuple[list[StringValue], list[tuple[bytes, str]]]]:
    """What there is, a page at a time: strings as they stand, and keys of other types, once."""
    seen: set[bytes] = set()  # few, beside the strings
    for client, names in source.pages():
        by_type = types(client, [name for name in names if _kept(name) and placing.takes(name)])
        strings = by_type.pop("string", [])
        values = [
            StringValue(name, value, ttl_ms, name)
            for name, (value, ttl_ms) in zip(strings, source.values(strings), strict=True)
            if value is not None
        ]
        others = [(n, kind) for kind, same in by_type.items() for n in same if n not in seen]
        seen.update(name for name, _ in others)
        yield values, others
        advance(len(names))


def _compare_strings(source: Side, target: Side, strings: Sequence[StringValue]) -> None:
    found = target.values([s.key for s in strings])
    differing = [
        s
        for s, (value, ttl_ms) in zip(strings, found, strict=True)
        if value != s.value or (ttl_ms > 0) != (s.ttl_ms > 0)
    ]
    still = source.values([s.origin for s in differing])
    for string, (value, _) in zip(differing, still, strict=True):
        if value is not None:  # else it lapsed in both
            raise _differs(string.key)


def _end(ttl_ms: int) -> tuple[Any, ...]:
    return ("PX", ttl_ms) if ttl_ms > 0 else ()


def _write(target: Side, part: KeyPart) -> None:
    key, kind, page, ttl_ms, last = part
    if not page and not last:
        return
    commands: list[tuple[Any, ...]] = []
    if last:
        # XSETID does it only where there is a stream.
        commands = [("XADD", key, last, "gone", ""), ("XDEL", key, last)]
    elif kind == "stream":
        commands = [("XADD", key, id_, *_flat(fields.items())) for id_, fields in page]
    elif kind == "set":
        commands = [("SADD", key, *page)]
    elif kind == "zset":
        commands = [("ZADD", key, *_flat((score, member) for member, score in page))]
    else:
        commands = [("HSET", key, *_flat(page))]
    if ttl_ms > 0:
        commands.append(("PEXPIRE", key, ttl_ms))
    each(target.of(key), commands)


def _is_same(target: Side, part: KeyPart) -> bool:
    """Whether the target holds all of it."""
    key, kind, page, ttl_ms, last = part
    there = target.of(key)
    if not page and not last:
        return True
    if (call(there, "PTTL", key) > 0) != (ttl_ms > 0):
        return False
    if last:
        return target.last_id(key) == last
    if kind == "stream":
        found = call(there, "XRANGE", key, page[0][0], page[-1][0])
        return bool(found == page)
    if kind == "hash":
        fields, values = zip(*page, strict=True)
        return bool(call(there, "HMGET", key, *fields) == list(values))
    if kind == "zset":
        scores = each(there, [("ZSCORE", key, member) for member, _ in page])
        return scores == [score for _, score in page]
    return all(each(there, [("SISMEMBER", key, member) for member in page]))


def _family(name: bytes) -> bytes:
    found = _spread(name)
    return name if found is None else found[1]


def _tells_where(found: StringValue) -> bool:
    """Whether it stands for a message that is in another shard; other values may begin as that
    does."""
    return b"}m:" in found.origin and is_moved(found.value)


def _name_of(key: bytes) -> str:
    found = _kind(key)
    kind = "" if found is None else found[1].decode()
    return _NAMES.get(kind, kind)


def _flat(pairs: Any) -> list[Any]:
    return [part for pair in pairs for part in pair]


def _differs(name: bytes) -> CopyFault:
    return CopyFault(
        f"{name.decode(errors='replace')} is not the same in both: something wrote meanwhile. "
        "Stop it, and run the copy again."
    )
