"""Which slot of a Redis Cluster a command belongs to, and who serves which slot.

A call is cut into what must stay together on one node, and its answers are put together again.
Pure, but for `in_full`, which awaits what it is given. A command whose key's place is not known
here is a ValueError: a bug of ours, found by the tests.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from gateway.redis.address import Endpoint
from gateway.redis.client import MOVES_MAX
from gateway.redis.connection import CallOutcome, Command, RedisReply
from gateway.redis.errors import (
    CommandRefused,
    OutcomeUnknown,
    RedisError,
    RedisUnavailable,
    judge,
)

SLOTS = 16_384
ASKING: Command = (
    "ASKING",
)  # the node is to serve what comes next, though the slot is not its own

_FIRST = (
    "BITCOUNT DEL EXISTS GET GETRANGE MGET MSET SET SETBIT SETNX SETRANGE PEXPIRE PTTL "
    "TYPE UNLINK HDEL HEXISTS HGET HGETALL HINCRBY HKEYS HLEN HMGET HSCAN HSET HSETNX LRANGE "
    "LTRIM RPUSH SADD SCARD SISMEMBER SMEMBERS SRANDMEMBER SREM WATCH XACK XADD XCLAIM XDEL XLEN "
    "XPENDING XRANGE XREVRANGE XTRIM ZADD ZCARD ZRANGE ZRANGEBYSCORE ZREM ZREMRANGEBYRANK "
    "ZREMRANGEBYSCORE ZREVRANGEBYSCORE ZSCAN ZSCORE"
)


def _first(_: Command) -> int:
    return 1


def _second(_: Command) -> int:
    return 2


def _after_count(_: Command) -> int:
    return 3


def _after_streams(command: Command) -> int:
    return command.index("STREAMS") + 1


# Where the first key of a command stands; all keys of a command are of one slot.
KEY_AT: Mapping[str, Callable[[Command], int]] = MappingProxyType(
    dict.fromkeys(_FIRST.split(), _first)
    | dict.fromkeys(("XGROUP", "XINFO"), _second)
    | dict.fromkeys(("EVAL", "EVALSHA"), _after_count)
    | dict.fromkeys(("XREAD", "XREADGROUP"), _after_streams)
)


class Unit:
    """What stays together on one node: a command, or a transaction from MULTI to EXEC.

    `asked` is the node that has to be asked for it the next time only, `replies` what its commands
    were answered, `fault` why they are not done.
    """

    __slots__ = ("asked", "commands", "fault", "replies", "slot")

    def __init__(self, slot: int, commands: Sequence[Command]) -> None:
        self.slot = slot
        self.commands = commands
        self.asked: Endpoint | None = None
        self.replies: Sequence[RedisReply] = [None] * len(commands)
        self.fault: RedisError | None = None

    @property
    def refused(self) -> bool:
        """Whether nothing of it was done, and it may be tried again at once."""
        fault = self.fault
        return isinstance(fault, RedisUnavailable) and fault.again


@lru_cache(maxsize=4096)
def _slot_of_tag(tag: str) -> int:
    return crc_hqx(tag.encode(), 0) % SLOTS


def slot_of(key: str | bytes | int) -> int:
    """The slot of a key: of what stands between its first braces, if they hold anything."""
    text = key if isinstance(key, str) else _text(key)
    opened = text.find("{")
    if opened >= 0:
        closed = text.find("}", opened + 1)
        if closed > opened + 1:
            return _slot_of_tag(text[opened + 1 : closed])
    return _slot_of_tag(text)


def slot_of_command(command: Command) -> int:
    """The slot of a command's first key. Raises ValueError for a command that is not known."""
    place = KEY_AT.get(str(command[0]))
    if place is None:
        raise ValueError(f"{command[0]!r} cannot be given to a node: its key is not known.")
    return slot_of(command[place(command)])


def units_of(commands: Sequence[Command]) -> list[Unit]:
    """A call, cut into what must stay together, in its order. Raises ValueError."""
    units: list[Unit] = []
    start = 0
    while start < len(commands):
        end = start + 1
        if commands[start][0] == "MULTI":
            end = _end_of_transaction(commands, start)
        slot = slot_of_command(commands[start + 1 if end - start > 1 else start])
        units.append(Unit(slot, commands[start:end]))
        start = end
    return units


def _end_of_transaction(commands: Sequence[Command], start: int) -> int:
    for at in range(start, len(commands)):
        if commands[at][0] == "EXEC":
            return at + 1
    raise ValueError("A call holds a MULTI without its EXEC.")


def split_replies(units: Sequence[Unit], outcome: CallOutcome) -> None:
    """Gives each unit its part of a node's answer to all of them, and judges it."""
    answers = outcome if isinstance(outcome, list) else getattr(outcome, "replies", ())
    at = 0
    for unit in units:
        at += unit.asked is not None
        end = at + len(unit.commands)
        if isinstance(outcome, list):
            unit.replies, unit.fault = answers[at:end], None
        elif answers:
            unit.replies = answers[at:end]
            unit.fault = judge(unit.commands, list(unit.replies))
        else:
            unit.fault = outcome
        unit.asked = None
        at = end


def batch_of(units: Sequence[Unit]) -> list[Command]:
    """What to send for units that go to the same node."""
    batch: list[Command] = []
    for unit in units:
        if unit.asked is not None:
            batch.append(ASKING)
        batch += unit.commands
    return batch


async def in_full(
    commands: Sequence[Command],
    once: Callable[[Sequence[Unit]], Awaitable[None]],
    wait: Callable[[int], Awaitable[None]],
) -> list[RedisReply]:
    """A whole call: `once` asks the nodes, and what was refused because a slot moves is asked
    again, at most MOVES_MAX times, after `wait` (given the number of the try, from 1)."""
    units = refused = units_of(commands)
    tries = 0
    while refused:
        await once(refused)
        refused = [unit for unit in refused if unit.refused]
        if tries == MOVES_MAX:
            break
        if refused:
            tries += 1
            await wait(tries)
    return replies_of(units)


def replies_of(units: Sequence[Unit]) -> list[RedisReply]:
    """The answer to the whole call; raises what it deserves when a unit of it has a fault."""
    faults = [unit.fault for unit in units if unit.fault is not None]
    if not faults:
        return [reply for unit in units for reply in unit.replies]
    if len(units) == 1:
        raise faults[0]
    unavailable = [fault for fault in faults if isinstance(fault, RedisUnavailable)]
    if unavailable:
        none_done = len(unavailable) == len(units) and not any(
            isinstance(fault, OutcomeUnknown) for fault in unavailable
        )
        raise (RedisUnavailable if none_done else OutcomeUnknown)(
            str(unavailable[0])
        ) from unavailable[0]
    start = 0
    for unit in units:
        if isinstance(unit.fault, CommandRefused):
            fault = unit.fault
            replies = [reply for each in units for reply in each.replies]
            raise CommandRefused(fault.command, fault.message, start + fault.index, replies)
        start += len(unit.commands)
    raise faults[0]


def masters_of(answer: Sequence[Any], asked: Endpoint) -> dict[range, Endpoint]:
    """Who serves which slots, as `asked` answered CLUSTER SLOTS.

    A node that does not know its own name, or keeps others' to itself, is meant by the place where
    it was asked.
    """
    found = {}
    for first, last, master, *_ in answer:
        host = b"" if master[0] is None else master[0]
        name = asked.host if host in (b"", b"?") else host.decode()
        found[range(first, last + 1)] = Endpoint(host=name, port=int(master[1]))
    return found


def _text(key: bytes | int) -> str:
    return key.decode("utf-8", "surrogateescape") if isinstance(key, bytes) else str(key)
