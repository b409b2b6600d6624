"""The streams of the Redis in memory: entries, consumer groups, and what is pending of them.

A mixin of `memory_redis.MemoryRedis`, which keeps the keys and the time. As Redis 6.2 answers: an
entry that was deleted and is still pending comes back as nil.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

Value = Any
Id = tuple[int, int]


class Group:
    def __init__(self, after: Id) -> None:
        self.after = after
        self.pending: dict[Id, list[Any]] = {}  # id: consumer, delivered at ms, times
        self.consumers: dict[bytes, int] = {}  # name: seen at ms


class Stream:
    def __init__(self) -> None:
        self.entries: dict[Id, list[bytes]] = {}
        self.last: Id = (0, 0)
        self.groups: dict[bytes, Group] = {}


def read_id(text: bytes, missing: int = 0) -> Id:
    if text in (b"-", b"+"):
        return (0, 0) if text == b"-" else (1 << 63, 0)
    ms, _, seq = text.partition(b"-")
    return int(ms), int(seq) if seq else missing


def show_id(id_: Id) -> bytes:
    return b"%d-%d" % id_


def entry(stream: Stream, id_: Id) -> Value:
    return [show_id(id_), stream.entries.get(id_)]


class StreamCommands:
    value: Callable[[bytes], Value]
    make: Callable[[bytes, Callable[[], Value]], Value]
    touch: Callable[[bytes], None]
    now_us: Callable[[], int]

    def __init__(self) -> None:
        self.forced_id: bytes | None = None  # what the next XADD is to give, for comparisons
        self.added: Callable[[], None] = lambda: None  # told of every new entry

    def do_xadd(self, key: bytes, *args: bytes) -> Value:
        star = args.index(b"*")
        stream: Stream = self.make(key, Stream)
        id_ = max((self.now_us() // 1000, 0), (stream.last[0], stream.last[1] + 1))
        if self.forced_id is not None:
            id_ = read_id(self.forced_id)
        stream.last = id_
        stream.entries[id_] = list(args[star + 1 :])
        if star and args[0] == b"MAXLEN":
            for old in list(stream.entries)[: -int(args[2])]:
                del stream.entries[old]
        self.touch(key)
        self.added()
        return show_id(id_)

    def do_xdel(self, key: bytes, *ids: bytes) -> Value:
        stream: Stream = self.value(key) or Stream()
        return sum(stream.entries.pop(read_id(id_), None) is not None for id_ in ids)

    def do_xlen(self, key: bytes) -> Value:
        return len((self.value(key) or Stream()).entries)

    def do_xrange(self, key: bytes, first: bytes, last: bytes, *count: bytes) -> Value:
        stream: Stream = self.value(key) or Stream()
        beyond = {read_id(each[1:]) for each in (first, last) if each.startswith(b"(")}
        low, high = read_id(first.lstrip(b"(")), read_id(last.lstrip(b"("), 1 << 63)
        inside = (id_ for id_ in stream.entries if low <= id_ <= high and id_ not in beyond)
        found = [entry(stream, id_) for id_ in inside]
        return found[: int(count[1])] if count else found

    def do_xrevrange(self, key: bytes, last: bytes, first: bytes, *count: bytes) -> Value:
        found = self.do_xrange(key, first, last)[::-1]
        return found[: int(count[1])] if count else found

    def do_xtrim(self, key: bytes, _minid: bytes, first: bytes) -> Value:
        stream: Stream = self.value(key) or Stream()
        gone = [id_ for id_ in stream.entries if id_ < read_id(first)]
        for id_ in gone:
            del stream.entries[id_]
        return len(gone)

    def do_xread(self, *args: bytes) -> Value:
        """Never blocks: the Redis client waits."""
        at = args.index(b"STREAMS") + 1
        half = (len(args) - at) // 2
        count = int(args[args.index(b"COUNT") + 1])
        reply = []
        for key, id_ in zip(args[at : at + half], args[at + half :], strict=True):
            stream: Stream = self.value(key) or Stream()
            after = read_id(id_)
            if stream.last > after:
                unread = (entry(stream, i) for i in stream.entries if i > after)
                news = list(islice(unread, count))
                if news:
                    reply.append([key, news])
        return reply or None

    # --- groups

    def _group(self, key: bytes, name: bytes) -> tuple[Stream, Group]:
        from tests.simulation.memory_redis import Refusal

        stream: Stream | None = self.value(key)
        if stream is None or name not in stream.groups:
            raise Refusal(f"NOGROUP No such key '{key.decode()}' or consumer group")
        return stream, stream.groups[name]

    def do_xgroup(self, what: bytes, key: bytes, name: bytes, *args: bytes) -> Value:
        from tests.simulation.memory_redis import Refusal

        if what == b"CREATE":
            stream: Stream = self.make(key, Stream)
            if name in stream.groups:
                raise Refusal("BUSYGROUP Consumer Group name already exists")
            stream.groups[name] = Group(read_id(args[0]))
            return b"OK"
        assert what == b"DELCONSUMER"
        if self.value(key) is None:
            raise Refusal("ERR The XGROUP subcommand requires the key to exist.")
        _, group = self._group(key, name)
        group.consumers.pop(args[0], None)
        held = [id_ for id_, (owner, *_) in group.pending.items() if owner == args[0]]
        for id_ in held:
            del group.pending[id_]
        return len(held)

    def do_xreadgroup(self, _group: bytes, name: bytes, consumer: bytes, *args: bytes) -> Value:
        count, half = int(args[1]), (len(args) - 3) // 2
        for key in args[3 : 3 + half]:
            self._group(key, name)  # nothing is read where one of them is not there
        found = [
            part
            for key, after in zip(args[3 : 3 + half], args[3 + half :], strict=True)
            for part in self._read_group(key, after, count, name, consumer) or ()
        ]
        return found or None

    def _read_group(
        self, key: bytes, after: bytes, count: int, name: bytes, consumer: bytes
    ) -> Value:
        stream, group = self._group(key, name)
        now_ms = self.now_us() // 1000
        if after != b">" or (stream.entries and stream.last > group.after):
            group.consumers[consumer] = now_ms  # one that finds nothing is not noted
        if after != b">":
            low = read_id(after)
            mine = [i for i, (owner, *_) in sorted(group.pending.items()) if owner == consumer]
            return [[key, [entry(stream, i) for i in mine if i > low][:count]]]
        unread = (id_ for id_ in stream.entries if id_ > group.after)
        news = list(islice(unread, count))
        for id_ in news:
            group.after = id_
            group.pending[id_] = [consumer, now_ms, 1]
        return [[key, [entry(stream, id_) for id_ in news]]] if news else None

    def do_xack(self, key: bytes, name: bytes, *ids: bytes) -> Value:
        stream: Stream | None = self.value(key)
        if stream is None or name not in stream.groups:
            return 0
        pending = stream.groups[name].pending
        return sum(pending.pop(read_id(id_), None) is not None for id_ in ids)

    def do_xpending(
        self, key: bytes, name: bytes, low: bytes, high: bytes, count: bytes, consumer: bytes
    ) -> Value:
        _, group = self._group(key, name)
        now_ms = self.now_us() // 1000
        found = [
            [show_id(id_), owner, now_ms - at, times]
            for id_, (owner, at, times) in sorted(group.pending.items())
            if owner == consumer and read_id(low) <= id_ <= read_id(high)
        ]
        return found[: int(count)]

    def do_xclaim(
        self, key: bytes, name: bytes, consumer: bytes, _idle: bytes, *ids: bytes
    ) -> Value:
        stream, group = self._group(key, name)
        now_ms = self.now_us() // 1000
        reply: list[Value] = []
        for id_ in map(read_id, ids):
            if id_ in group.pending:
                group.consumers[consumer] = now_ms
                group.pending[id_] = [consumer, now_ms, group.pending[id_][2] + 1]
                reply.append(entry(stream, id_) if id_ in stream.entries else None)
        return reply

    def do_xinfo(self, what: bytes, key: bytes, *name: bytes) -> Value:
        from tests.simulation.memory_redis import Refusal

        stream: Stream | None = self.value(key)
        if stream is None:
            raise Refusal("ERR no such key")
        if what == b"STREAM":
            return [b"length", len(stream.entries), b"last-generated-id", show_id(stream.last)]
        _, group = self._group(key, name[0])
        now_ms = self.now_us() // 1000
        held = [owner for owner, *_ in group.pending.values()]
        return [
            [b"name", consumer, b"pending", held.count(consumer), b"idle", now_ms - seen]
            for consumer, seen in sorted(group.consumers.items())
        ]
