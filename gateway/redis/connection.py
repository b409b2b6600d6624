"""One Redis connection without its socket: queue commands, feed bytes, complete futures in order.

It knows no loop and no clock: the driver hands it bytes, the time and one-shot futures. There is
one future per call, not per command. A call that nobody waits for any more keeps its place, so its
replies are dropped and never shift to the next call.

On failure every future gets an exception *value* (the caller raises it): `OutcomeUnknown` when its
bytes may have left, `RedisUnavailable` when they certainly did not. A value, because a future
cancelled at the wrong moment would otherwise leave an exception that nobody retrieves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol, TypeAlias, cast

import hiredis

from gateway.redis.errors import (
    ErrorReply,
    OutcomeUnknown,
    RedisError,
    RedisUnavailable,
    judge,
)

Command: TypeAlias = tuple[bytes | str | int, ...]
# bytes, int, None or a list of these: which one is fixed by the command, so the one who wrote it
# knows.
RedisReply: TypeAlias = Any
CallOutcome: TypeAlias = list[RedisReply] | RedisError

_NOT_ENOUGH: Final = object()
# The stub names a tuple of one.
_pack = cast("Callable[[Command], bytes]", hiredis.pack_command)


class Future(Awaitable[Any], Protocol):
    """A one-shot result; `asyncio.Future` is one."""

    def done(self) -> bool: ...
    def set_result(self, result: Any, /) -> None: ...


class Transport(Protocol):
    """The socket under a connection."""

    def write(self, data: bytes, /) -> None:
        """Takes one call's bytes.

        Never blocks and never raises; a broken socket reports by `Connection.drop`.
        """

    def watch(self, deadline: float) -> None:
        """Asks for one `Connection.expire` at or after this time of the driver's clock (s)."""

    def close(self) -> int:
        """Closes at once; the number of calls, counted from the last, of which no byte has left."""


class _NotConnected:
    """Stands in until the driver has connected, so that giving up early needs no special case."""

    def write(self, _data: bytes, /) -> None:
        raise AssertionError("The driver must set the transport before the first call.")

    def watch(self, deadline: float) -> None: ...

    def close(self) -> int:
        return 0


class Counters:
    """Counters of one client, over all its connections and its whole life."""

    __slots__ = ("bytes_received", "bytes_sent", "commands", "round_trips", "timeouts")

    def __init__(self) -> None:
        self.round_trips = 0
        self.commands = 0
        self.timeouts = 0
        self.bytes_sent = 0
        self.bytes_received = 0


class _PendingCall:
    __slots__ = ("commands", "deadline", "future", "missing", "replies", "size")

    def __init__(
        self, commands: Sequence[Command], size: int, future: Future, deadline: float
    ) -> None:
        self.commands = commands
        self.missing = len(commands)
        self.replies: list[RedisReply] = []
        self.size = size
        self.future = future
        self.deadline = deadline


def pack(commands: Sequence[Command]) -> bytes:
    """The bytes of one pipelined call.

    Raises TypeError for anything but tuples of bytes, str and int.
    """
    if len(commands) == 1:
        return _pack(commands[0])
    return b"".join(map(_pack, commands))


class Connection:
    """One connection; `transport` is set by the driver before the first call.

    `commands_in_flight` and `bytes_in_flight` count what was submitted and not yet answered.
    `usable` turns false once, when the connection was dropped or retired, and `on_gone` is called
    then; `stale` tells that the server is no longer the right one. `on_room` is called after
    replies when it is set: someone waits.
    """

    def __init__(self, label: str, timeout_s: float, counters: Counters) -> None:
        self.transport: Transport = _NotConnected()
        self.label = label
        self.usable = True
        self.stale = False
        self.closed = False
        self.commands_in_flight = 0
        self.bytes_in_flight = 0
        self.on_gone: Callable[[Connection], None] | None = None
        self.on_room: Callable[[], None] | None = None
        self._timeout_s = timeout_s
        self._counters = counters
        self._calls: deque[_PendingCall] = deque()
        self._watched = False
        self._refused = False
        self._reader = hiredis.Reader(replyError=self._refusal, notEnoughData=_NOT_ENOUGH)

    @property
    def idle(self) -> bool:
        return not self._calls

    def submit(self, commands: Sequence[Command], data: bytes, future: Future, now: float) -> None:
        """Queues one call, `data` being `pack(commands)`; the future gets its `CallOutcome`."""
        count = len(commands)
        size = len(data)
        call = _PendingCall(commands, size, future, now + self._timeout_s)
        self._calls.append(call)
        self.commands_in_flight += count
        self.bytes_in_flight += size
        counters = self._counters
        counters.round_trips += 1
        counters.commands += count
        counters.bytes_sent += size
        if not self._watched:
            # One timer a connection, not one a call: calls are answered in order, so the oldest
            # tells.
            self._watched = True
            self.transport.watch(call.deadline)
        self.transport.write(data)

    def feed(self, data: bytes) -> None:
        """Takes bytes from the socket and completes every call they finish."""
        self._counters.bytes_received += len(data)
        reader = self._reader
        reader.feed(data)
        try:
            self._answer(reader.gets)
            surplus = not self._calls and reader.has_data()
        except hiredis.ProtocolError as fault:
            self.drop(f"it does not speak the Redis protocol ({fault})")
            return
        if surplus and not self.closed:
            self.drop(f"it sent what nobody asked for: {reader.gets()!r:.200}")
        elif self.on_room is not None:
            self.on_room()

    def _answer(self, gets: Callable[[], RedisReply]) -> None:
        calls = self._calls
        while calls:
            call = calls[0]
            append = call.replies.append
            missing = call.missing
            while missing:
                reply = gets()
                if reply is _NOT_ENOUGH:
                    call.missing = missing
                    return
                append(reply)
                missing -= 1
            calls.popleft()
            self.commands_in_flight -= len(call.commands)
            self.bytes_in_flight -= call.size
            outcome: CallOutcome = call.replies
            if self._refused:
                self._refused = False
                outcome = self._judged(call)
            if not call.future.done():
                call.future.set_result(outcome)
        if not self.usable:
            self.drop("it is no longer the master")

    def _refusal(self, message: str) -> ErrorReply:
        # Called by the parser for each error reply: cheaper than looking at every reply for one.
        self._refused = True
        return ErrorReply(message)

    def _judged(self, call: _PendingCall) -> CallOutcome:
        fault = judge(call.commands, call.replies)
        if fault is None:
            return call.replies
        if isinstance(fault, RedisUnavailable) and fault.reconnect:
            self.stale = True
            self.retire()
        return fault

    def expire(self, now: float) -> None:
        """Drops the connection when its oldest call is overdue; else asks to be woken again."""
        if not self._calls:
            self._watched = False
        elif self._calls[0].deadline > now:
            self.transport.watch(self._calls[0].deadline)
        else:
            self._counters.timeouts += 1
            # Later replies could no longer be told from the overdue ones, so the connection goes
            # too.
            self.drop(f"it did not answer within {self._timeout_s:g} s")

    def retire(self) -> None:
        """Takes no new calls; what is in flight is still answered, then the connection closes."""
        self._leave()
        if not self._calls:
            self.drop("it is no longer used")

    def drop(self, reason: str) -> None:
        """Closes the connection now. Harmless when it is closed already."""
        if self.closed:
            return
        self.closed = True
        unsent = self.transport.close()
        lost = [call.future for call in self._calls]
        self._calls.clear()
        self.commands_in_flight = self.bytes_in_flight = 0
        written = len(lost) - unsent
        for i, future in enumerate(lost):
            if not future.done():
                future.set_result(self._loss(reason, written=i < written))
        self._leave()

    def _loss(self, reason: str, *, written: bool) -> RedisUnavailable:
        if written:
            return OutcomeUnknown(
                f"The connection to Redis at {self.label} was lost before the answer: {reason}."
            )
        return RedisUnavailable(
            f"The connection to Redis at {self.label} was lost before anything was sent: {reason}."
        )

    def _leave(self) -> None:
        if self.usable:
            self.usable = False
            if self.on_gone is not None:
                self.on_gone(self)
