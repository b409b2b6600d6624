"""A Redis in memory: the commands the store uses, and nothing else.

Values expire by a clock that is given, and WATCH works. A connection is made by the caller, for
`run`. A command it does not know is a KeyError, loudly. Held against the real
server by `test_memory_redis`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gateway.redis.allow_oom import SOURCE
from gateway.redis.errors import ErrorReply
from gateway.redis.script import Script
from gateway.store.archive.archived_index import RAISE_SCRIPT
from gateway.store.archive.closed import UNLINK_SCRIPT
from gateway.store.money.budgets import LEASE_SCRIPT
from ratelimit.limiter import SCRIPTS, Schedule
from tests.simulation.memory_streams import StreamCommands

Value = Any
Args = Sequence[bytes]
Twin = Callable[[Args, Args], Value]


class Refusal(Exception):
    """An error reply."""


class Connection:
    """What a server keeps of one connection: watched versions, and a transaction being queued."""

    def __init__(self) -> None:
        self.watched: dict[bytes, int] = {}
        self.queued: list[list[bytes]] | None = None


def octets(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else str(value).encode()


def bound(text: bytes) -> float:
    return float(text.decode())


class MemoryRedis(StreamCommands):
    """`now_us` is the server's clock, epoch microseconds."""

    def __init__(self, now_us: Callable[[], int]) -> None:
        super().__init__()
        self.now_us = now_us
        self.data: dict[bytes, Value] = {}
        self.scripts: set[bytes] = set()
        self._expires: dict[bytes, int] = {}
        self._versions: dict[bytes, int] = {}
        counting = {**SCRIPTS, "lease": LEASE_SCRIPT}
        twins = {text: self._counting(name) for name, text in counting.items()}
        twins |= {SOURCE: self._allow_oom, RAISE_SCRIPT: self._raise, UNLINK_SCRIPT: self._unlink}
        self._twins = {Script(text).digest.encode(): twin for text, twin in twins.items()}

    def run(self, connection: Connection, commands: Sequence[Sequence[Any]]) -> list[Value]:
        return [
            self._one(connection, [a if type(a) is bytes else octets(a) for a in c])
            for c in commands
        ]

    def _one(self, connection: Connection, command: list[bytes]) -> Value:
        name = command[0].decode().upper()
        if name == "EXEC":
            return self._exec(connection)
        if name == "MULTI":
            connection.queued = []
            return b"OK"
        if connection.queued is not None:
            connection.queued.append(command)
            return b"QUEUED"
        if name == "WATCH":
            for key in command[1:]:
                self.value(key)
                connection.watched.setdefault(key, self._versions.get(key, 0))
            return b"OK"
        if name == "UNWATCH":
            connection.watched.clear()
            return b"OK"
        return self._do(name, command[1:])

    def _exec(self, connection: Connection) -> Value:
        queued, connection.queued = connection.queued, None
        assert queued is not None
        watched, connection.watched = connection.watched, {}
        for key, version in watched.items():
            self.value(key)
            if self._versions.get(key, 0) != version:
                return None
        return [self._do(c[0].decode().upper(), c[1:]) for c in queued]

    def _do(self, name: str, args: list[bytes]) -> Value:
        try:
            return getattr(self, f"do_{name.lower()}")(*args)
        except Refusal as refusal:
            return ErrorReply(str(refusal))

    # --- values

    def value(self, key: bytes) -> Value | None:
        """What stands under a key; what is over is dropped, as a change."""
        until = self._expires.get(key)
        if until is not None and self.now_us() // 1000 >= until:
            self.drop(key)
        return self.data.get(key)

    def drop(self, key: bytes) -> bool:
        self._expires.pop(key, None)
        if self.data.pop(key, None) is None:
            return False
        self.touch(key)
        return True

    def touch(self, key: bytes) -> None:
        self._versions[key] = self._versions.get(key, 0) + 1
        if not self.data.get(key, True):
            del self.data[key]
            self._expires.pop(key, None)

    def make(self, key: bytes, empty: Callable[[], Value]) -> Value:
        """The value, made empty where there is none; the caller fills it and calls `touch`."""
        found = self.value(key)
        if found is None:
            found = self.data[key] = empty()
        return found

    def outlive(self, key: bytes, ms: int) -> None:
        """Moves a key's end to `ms` from now."""
        self._expires[key] = self.now_us() // 1000 + ms

    def names(self) -> list[bytes]:
        return [key for key in list(self.data) if self.value(key) is not None]

    # --- strings

    def do_get(self, key: bytes) -> Value:
        return self.value(key)

    def do_mget(self, *keys: bytes) -> Value:
        return [self.value(key) for key in keys]

    def do_mset(self, *pairs: bytes) -> Value:
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            self._expires.pop(key, None)
            self.data[key] = value
            self.touch(key)
        return b"OK"

    def do_set(self, key: bytes, value: bytes, *options: bytes) -> Value:
        if b"NX" in options:
            if self.value(key) is not None:
                return None
            options = tuple(option for option in options if option != b"NX")
        self.do_mset(key, value)
        match options:
            case [b"PX", ms]:
                self.outlive(key, int(ms))
            case _:
                assert not options
        self.value(key)
        return b"OK"

    def do_del(self, *keys: bytes) -> Value:
        return sum(self.value(key) is not None and self.drop(key) for key in keys)

    def do_getrange(self, key: bytes, first: bytes, last: bytes) -> Value:
        return (self.value(key) or b"")[int(first) : int(last) + 1]

    def do_setbit(self, key: bytes, place: bytes, bit: bytes) -> Value:
        octet, mask = int(place) // 8, 0x80 >> int(place) % 8
        octets = bytearray((self.value(key) or b"").ljust(octet + 1, b"\0"))
        former = bool(octets[octet] & mask)
        octets[octet] = octets[octet] & ~mask | mask * int(bit)
        self.data[key] = bytes(octets)
        self.touch(key)
        return int(former)

    def do_bitcount(self, key: bytes) -> Value:
        return int.from_bytes(self.value(key) or b"").bit_count()

    def do_exists(self, *keys: bytes) -> Value:
        return sum(self.value(key) is not None for key in keys)

    # --- hashes and sets

    def do_hget(self, key: bytes, field: bytes) -> Value:
        return (self.value(key) or {}).get(field)

    def do_hmget(self, key: bytes, *fields: bytes) -> Value:
        found = self.value(key) or {}
        return [found.get(field) for field in fields]

    def do_hgetall(self, key: bytes) -> Value:
        return [part for pair in (self.value(key) or {}).items() for part in pair]

    def do_hscan(self, key: bytes, _cursor: bytes, *_count: bytes) -> Value:
        return [b"0", self.do_hgetall(key)]

    def do_hkeys(self, key: bytes) -> Value:
        return list(self.value(key) or ())

    def do_hlen(self, key: bytes) -> Value:
        return len(self.value(key) or ())

    def do_hexists(self, key: bytes, field: bytes) -> Value:
        return int(field in (self.value(key) or {}))

    def do_hset(self, key: bytes, *pairs: bytes) -> Value:
        made = self.make(key, dict)
        before = len(made)
        made.update(zip(pairs[::2], pairs[1::2], strict=True))
        self.touch(key)
        return len(made) - before

    def do_hsetnx(self, key: bytes, field: bytes, value: bytes) -> Value:
        return 0 if field in (self.value(key) or {}) else self.do_hset(key, field, value)

    def do_hdel(self, key: bytes, *fields: bytes) -> Value:
        found = self.value(key) or {}
        gone = sum(found.pop(field, None) is not None for field in fields)
        if gone:
            self.touch(key)
        return gone

    def do_hincrby(self, key: bytes, field: bytes, amount: bytes) -> Value:
        made = self.make(key, dict)
        made[field] = b"%d" % (int(made.get(field, 0)) + int(amount))
        self.touch(key)
        return int(made[field])

    def do_sadd(self, key: bytes, *members: bytes) -> Value:
        return self.do_hset(key, *(part for member in members for part in (member, b"")))

    def do_scard(self, key: bytes) -> Value:
        return len(self.value(key) or ())

    def do_pexpire(self, key: bytes, ms: bytes) -> Value:
        self.outlive(key, int(ms))
        return 1

    def do_srem(self, key: bytes, *members: bytes) -> Value:
        return self.do_hdel(key, *members)

    def do_smembers(self, key: bytes) -> Value:
        return sorted(self.value(key) or ())

    def do_srandmember(self, key: bytes, count: bytes) -> Value:
        return self.do_smembers(key)[: int(count)]

    # --- sorted sets

    def do_zadd(self, key: bytes, *args: bytes) -> Value:
        only = args[0] if args[0] in (b"NX", b"XX") else None
        pairs = args[1:] if only else args
        made = self.make(key, dict)
        before = len(made)
        for score, member in zip(pairs[::2], pairs[1::2], strict=True):
            if only is None or (member in made) == (only == b"XX"):
                made[member] = float(score)
        self.touch(key)
        return len(made) - before

    def do_zcard(self, key: bytes) -> Value:
        return len(self.value(key) or {})

    def do_zrem(self, key: bytes, *members: bytes) -> Value:
        return self.do_hdel(key, *members)

    def do_zrangebyscore(self, key: bytes, low: bytes, high: bytes, *limit: bytes) -> Value:
        return self._by_score(key, low, high, limit)

    def do_zrevrangebyscore(self, key: bytes, high: bytes, low: bytes, *limit: bytes) -> Value:
        return self._by_score(key, low, high, limit, latest_first=True)

    def _by_score(
        self,
        key: bytes,
        low: bytes,
        high: bytes,
        limit: tuple[bytes, ...],
        *,
        latest_first: bool = False,
    ) -> Value:
        found = (self.value(key) or {}).items()
        least, most = bound(low), bound(high)
        inside = sorted(((s, m) for m, s in found if least <= s <= most), reverse=latest_first)
        if limit:
            start, count = int(limit[1]), int(limit[2])
            inside = inside[start : start + count]
        return [member for _, member in inside]

    def do_zscan(self, key: bytes, _cursor: bytes, *_count: bytes) -> Value:
        found = self.value(key) or {}
        return [b"0", [part for m, s in found.items() for part in (m, b"%d" % s)]]

    def do_zremrangebyscore(self, key: bytes, low: bytes, high: bytes) -> Value:
        return self.do_hdel(key, *self.do_zrangebyscore(key, low, high))

    def do_zremrangebyrank(self, key: bytes, first: bytes, last: bytes) -> Value:
        found = self.value(key) or {}
        ranked = sorted(found, key=lambda member: (found[member], member))
        end = int(last) if int(last) >= 0 else len(ranked) + int(last)
        gone = ranked[int(first) : end + 1] if end >= 0 else []
        return self.do_hdel(key, *gone)

    # --- the scripts, by their twin in Python

    def do_eval(self, source: bytes, count: bytes, *words: bytes) -> Value:
        digest = Script(source).digest.encode()
        self.scripts.add(digest)
        return self.do_evalsha(digest, count, *words)

    def do_evalsha(self, digest: bytes, count: bytes, *words: bytes) -> Value:
        if digest not in self.scripts:
            raise Refusal("NOSCRIPT No matching script. Please use EVAL.")
        return self._twins[digest](words[: int(count)], words[int(count) :])

    def _counting(self, name: str) -> Twin:
        """Of a script with one key, whose arguments are whole numbers."""
        twin = getattr(self, f"_{name}")
        return lambda keys, args: twin(keys[0], *map(int, args))

    def _allow_oom(self, _keys: Args, args: Args) -> Value:
        replies, at = [], 0
        while at < len(args):
            last = at + int(args[at])
            replies.append(self._do(args[at + 1].decode(), list(args[at + 2 : last + 1])))
            at = last + 1
        return replies

    def _raise(self, keys: Args, args: Args) -> Value:
        if int(args[1]) <= int(self.do_hget(keys[0], args[0]) or 0):
            return 0
        self.do_hset(keys[0], *args)
        return 1

    def _unlink(self, keys: Args, args: Args) -> Value:
        return [
            self.do_del(key) if self.do_get(key) == value else 0
            for key, value in zip(keys, args, strict=True)
        ]

    def _schedule(self, key: bytes, quantum: int, speed: int) -> Schedule:
        schedule = Schedule(1, 1)
        schedule.quantum, schedule._speed = quantum, speed
        schedule.free_us = int(self.do_hget(key, b"free_us") or 0)
        return schedule

    def _keep(self, key: bytes, schedule: Schedule) -> None:
        self.do_hset(key, b"free_us", b"%d" % schedule.free_us)

    def _take(
        self, key: bytes, wanted: int, quantum: int, speed: int, horizon: int, lead: int
    ) -> Value:
        schedule = self._schedule(key, quantum, speed)
        grant = schedule.take(wanted, self.now_us(), lead, horizon)
        if grant.tokens:
            self._keep(key, schedule)
            self.outlive(key, -((self.now_us() - grant.end_us) // 1000) + 1000)
        return [grant.tokens, grant.wait_us, grant.end_us]

    def _ahead(self, key: bytes) -> Value:
        return max(self._schedule(key, 1, 1).free_us - self.now_us(), 0)

    def _give_back(self, key: bytes, end_us: int, unused: int, speed: int) -> Value:
        schedule = self._schedule(key, 1, speed)
        if schedule.free_us != end_us:
            return 0
        schedule.free_us -= unused * 10**12 // speed
        self._keep(key, schedule)
        return 1

    def _hold_off(self, key: bytes, ms: int) -> Value:
        schedule = self._schedule(key, 1, 1)
        before = schedule.free_us
        schedule.hold_off(ms, self.now_us())
        if schedule.free_us == before:
            return 0
        self._keep(key, schedule)
        self.outlive(key, ms + 1000)
        return 1

    def _lease(
        self,
        key: bytes,
        limit: int,
        spent: int,
        need: int,
        parts: int,
        left: int,
        old: int,
        read: int,
        *of: int,
    ) -> Value:
        epoch = self.now_us() // 60_000_000
        if left > 0 and self.do_hexists(key, b"%d" % old):
            self.do_hincrby(key, b"%d" % old, b"%d" % -left)
        if read + 3 <= epoch:
            return [0, epoch, 0]
        reserved = dict(zip(of[::2], of[1::2], strict=True))
        free = limit - spent
        leased = {int(field): int(amount) for field, amount in (self.value(key) or {}).items()}
        for field, amount in leased.items():
            if field <= epoch - 3:
                self.do_hdel(key, b"%d" % field)
            else:
                free -= max(amount - reserved.get(field, 0), 0)
        granted = max(min(max(need, free // parts), free), 0) if need else 0
        if granted:
            self.do_hincrby(key, b"%d" % epoch, b"%d" % granted)
            self.do_pexpire(key, b"600000")
        return [granted, epoch, free]
