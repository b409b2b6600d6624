"""What can go wrong between us and Redis: one short tree, sorted by what the caller should do.

    RedisUnavailable   nothing was done; wait and try again (503, or wait and resume)
      OutcomeUnknown   it may or may not have been done; load the records and decide again
      Moved            this node does not own the slot; a client over the cluster asks the one named
    CommandRefused     Redis understood and refused: a bug of ours, unless the caller expects it

`judge` sorts the error replies of a call into them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain, compress, repeat
from operator import is_
from typing import Any

import hiredis

_REASON = re.compile(
    r"(?:ERR Error running script .*: -|EXECABORT Transaction discarded because of: )([A-Z]+) "
)

# The server cannot serve now, whatever the command: waiting helps, changing the command does not.
UNAVAILABLE_CODES = frozenset(
    {
        "BUSY",  # a script runs too long
        "CLUSTERDOWN",
        "LOADING",
        "MASTERDOWN",
        "MISCONF",  # cannot persist: disk full
        "NOAUTH",
        "NOREPLICAS",
        "OOM",
        "READONLY",
        "TRYAGAIN",
        "UNBLOCKED",
        "WRONGPASS",
    }
)
# The cluster is moving a slot or choosing a master: a short wait may be enough.
AGAIN_CODES = frozenset({"CLUSTERDOWN", "TRYAGAIN"})
# This server is no longer the one to talk to: look the address up again and connect anew.
RECONNECT_CODES = frozenset({"MASTERDOWN", "NOAUTH", "READONLY", "UNBLOCKED"})


class ErrorReply(hiredis.ReplyError):
    """An error reply, kept as a value until the whole call is answered."""

    @property
    def code(self) -> str:
        """The first word: `WRONGTYPE`, `NOSCRIPT`, `MOVED`, `ERR`; where a script or an EXEC quotes
        the reason of its refusal, that one's."""
        text = str(self)
        reason = _REASON.match(text)
        return reason[1] if reason is not None else text.partition(" ")[0]


class RedisError(Exception):
    """Base of everything that a call to Redis can fail with."""


class RedisUnavailable(RedisError):
    """Nothing of this call was done.

    `reconnect` is true when the server is no longer the right one, `again` when the same call may
    succeed in a moment because a slot or its master is on the move. `replies` is what every command
    was answered, where all were.
    """

    def __init__(
        self,
        sentence: str,
        *,
        reconnect: bool = False,
        again: bool = False,
        replies: Sequence[Any] = (),
    ) -> None:
        super().__init__(sentence)
        self.reconnect = reconnect
        self.again = again
        self.replies = replies


class OutcomeUnknown(RedisUnavailable):
    """The call left us and no usable answer came: it may have been done.

    Decide again from the records.
    """


class CommandRefused(RedisError):
    """Redis refused one command of a call.

    `command` is the command's name, `message` the whole error reply, `code` its first word, `index`
    the command's place in the call, and `replies` what every command of the call was answered: the
    others were done, so a caller that expects this `code` can go on from there.
    """

    def __init__(
        self, command: str, message: str, index: int = 0, replies: Sequence[Any] = ()
    ) -> None:
        super().__init__(f"Redis refused {command}: {message}")
        self.command = command
        self.message = message
        self.code = message.partition(" ")[0]
        self.index = index
        self.replies = list(replies)


class Moved(RedisUnavailable):
    """The slot lives on another node of the cluster; `asking`: for this call only, it migrates.

    What was refused with it was not done; what else the call held is told by `replies`. An empty
    `host` is the one that was asked.
    """

    def __init__(
        self, slot: int, host: str, port: int, *, asking: bool, replies: Sequence[Any] = ()
    ) -> None:
        super().__init__(
            f"Slot {slot} is served by {host}:{port}, not by the Redis node that was asked.",
            again=True,
            replies=replies,
        )
        self.slot = slot
        self.host = host
        self.port = port
        self.asking = asking


def judge(commands: Sequence[tuple[Any, ...]], replies: list[Any]) -> RedisError | None:
    """The exception a fully answered call deserves, or None when no reply of it is an error.

    Errors inside an EXEC array count as EXEC's. An unavailable server outranks a move, a move
    outranks a refused command, because the former explain the latter (EXECABORT follows READONLY).
    """
    if not _has_fault(replies):
        return None
    faults = [(i, fault) for i, reply in enumerate(replies) if (fault := _fault_in(reply))]
    for _, fault in faults:
        if _is_unavailable(fault):
            pairs = zip(commands, replies, strict=True)
            done = any(_may_have_effect(command, reply) for command, reply in pairs)
            kind = OutcomeUnknown if done else RedisUnavailable
            return kind(
                f"Redis cannot serve now: {fault}",
                reconnect=fault.code in RECONNECT_CODES,
                again=fault.code in AGAIN_CODES,
                replies=replies,
            )
    for _, fault in faults:
        if fault.code in {"MOVED", "ASK"}:
            return _moved(fault, replies)
    # EXECABORT only reports that an earlier command was refused; name that one instead.
    index, fault = faults[0]
    return CommandRefused(_name(commands[index]), str(fault), index, replies)


def _has_fault(replies: list[Any]) -> bool:
    """Whether one of them is an error or has one in it. Their types say so at once: a batch has
    hundreds of replies, and almost never a fault."""
    kinds = list(map(type, replies))
    if ErrorReply in kinds:
        return True
    nested = compress(replies, map(is_, kinds, repeat(list)))
    return ErrorReply in map(type, chain.from_iterable(nested))


def _fault_in(reply: Any) -> ErrorReply | None:
    if isinstance(reply, ErrorReply):
        return reply
    if isinstance(reply, list):
        return next((item for item in reply if isinstance(item, ErrorReply)), None)
    return None


def _is_unavailable(fault: ErrorReply) -> bool:
    return fault.code in UNAVAILABLE_CODES or str(fault) == "ERR max number of clients reached"


def _may_have_effect(command: tuple[Any, ...], reply: Any) -> bool:
    # A transaction refused while it was queued was answered OK and QUEUED, and has done nothing.
    if isinstance(reply, ErrorReply) or reply == b"QUEUED":
        return False
    return _name(command).upper() not in {"MULTI", "WATCH", "UNWATCH"}


def _moved(fault: ErrorReply, replies: Sequence[Any]) -> Moved:
    code, slot, endpoint = str(fault).split()[:3]
    host, _, port = endpoint.rpartition(":")
    return Moved(int(slot), host, int(port), asking=code == "ASK", replies=replies)


def _name(command: tuple[Any, ...]) -> str:
    word = command[0]
    return word.decode("ascii", "replace") if isinstance(word, bytes) else str(word)
