"""What the asyncio and the trio link have in common: everything but sockets, clocks and tasks.

Owns the shared connection and its reconnecting, the line of callers that wait for room or for
Redis, and the pool of session connections. It awaits only its `Driver`, so it must not import
asyncio or trio.

Failures: dialling faults become `StoreUnavailable` with a sentence that says where and why; the
reconnector tries again for ever, with a growing, bounded, jittered delay; anything it does not
expect is a bug and ends the link's owner, loudly.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from gateway.redis.address import Address, Endpoint
from gateway.redis.client import Limits, Session, Statistics, move_delay_s
from gateway.redis.connect import Dialler, Driver, call_on
from gateway.redis.connection import Command, Exchange, Reply, Tally, Waiter, pack
from gateway.redis.errors import StoreUnavailable


def reconnect_delay_s(attempt: int, limits: Limits, fraction: float) -> float:
    """How long to wait before a reconnect; `attempt` from 0, `fraction` a random number in [0, 1).

    The first is immediate; then delays double from the minimum to the maximum, each shortened by up
    to a half so that many processes do not come back in step.
    """
    if attempt == 0:
        return 0.0
    full = limits.reconnect_delay_min_s * 2.0 ** min(attempt - 1, 30)
    return min(full, limits.reconnect_delay_max_s) * (1.0 - fraction / 2.0)


class _InLine:
    """A call that waits for room or for Redis; it is submitted by whoever makes room."""

    __slots__ = ("commands", "data", "given_up", "submitted", "waiter")

    def __init__(self, commands: Sequence[Command], data: bytes, waiter: Waiter) -> None:
        self.commands = commands
        self.data = data
        self.waiter = waiter
        self.submitted = False
        self.given_up = False


class SharedLink:
    """Implements `gateway.redis.client.Link` on a driver; `run` must run beside it all the time."""

    def __init__(self, address: Address, limits: Limits, driver: Driver) -> None:
        self._address = address
        self._limits = limits
        self._driver = driver
        self._now = driver.now
        self._waiter = driver.waiter
        self._tally = Tally()
        self._dialler = Dialler(address, limits, driver, self._tally)
        self._reconnects = -1
        self._exchange: Exchange | None = None
        self._exchanges: set[Exchange] = set()
        self._gone: Waiter | None = None
        self._line: deque[_InLine] = deque()
        self._fault = "the first connection is not made yet"
        self._closed = False
        self._up_waiters: set[Waiter] = set()
        self._slots = driver.slots(limits.sessions_max)
        self._sessions_idle: list[Exchange] = []
        self._sessions_in_use = 0

    @property
    def place(self) -> Endpoint:
        """The server, where it is named by its address and not by sentinels."""
        return self._address.endpoints[0]

    @property
    def connected(self) -> bool:
        return self._exchange is not None

    @property
    def idle(self) -> bool:
        """Whether nobody uses it or waits for it."""
        busy = any(not exchange.idle for exchange in self._exchanges)
        return not (busy or self._line or self._sessions_in_use)

    # Calls

    async def call(self, commands: Sequence[Command]) -> list[Reply]:
        """See `gateway.redis.client.Link.call`."""
        if not commands:
            return []
        data = pack(commands)
        exchange = self._exchange
        if exchange is None or self._line or not self._has_room(exchange, len(commands), len(data)):
            return await self._call_in_line(commands, data)
        waiter = self._waiter()
        exchange.submit(commands, data, waiter, self._now())
        outcome = await waiter
        if isinstance(outcome, list):
            return outcome
        raise outcome

    def offer(self, commands: Sequence[Command]) -> Waiter | None:
        """Sends one call without waiting for its answer; None when it has to stand in line.

        The waiter gets the replies, or the exception as a value.
        """
        data = pack(commands)
        exchange = self._exchange
        if exchange is None or self._line or not self._has_room(exchange, len(commands), len(data)):
            return None
        waiter = self._waiter()
        exchange.submit(commands, data, waiter, self._now())
        return waiter

    async def wait_for_move(self, tries: int) -> None:
        """See `gateway.redis.client.Link.wait_for_move`."""
        await self._driver.sleep(move_delay_s(tries))

    async def _call_in_line(self, commands: Sequence[Command], data: bytes) -> list[Reply]:
        self._check_size(commands, len(data))
        if self._closed:
            raise StoreUnavailable(self._why())
        if len(self._line) >= self._limits.callers_waiting_max:
            raise StoreUnavailable(f"{len(self._line)} calls wait for Redis already. {self._why()}")
        down = self._exchange is None
        entry = _InLine(commands, data, self._waiter())
        self._line.append(entry)
        if not down:
            self._let_in()
        seconds = self._limits.down_wait_s if down else self._limits.timeout_s
        try:
            if not await self._driver.wait(entry.waiter, seconds) and not entry.submitted:
                raise StoreUnavailable(self._why())
            outcome = await entry.waiter
        finally:
            entry.given_up = True
            self._forget_given_up()
        if isinstance(outcome, list):
            return outcome
        raise outcome

    def _has_room(self, exchange: Exchange, count: int, size: int) -> bool:
        return (
            exchange.commands_in_flight + count <= self._limits.commands_in_flight_max
            and exchange.bytes_in_flight + size <= self._limits.bytes_in_flight_max
        )

    def _check_size(self, commands: Sequence[Command], size: int) -> None:
        limits = self._limits
        if len(commands) > limits.commands_in_flight_max or size > limits.bytes_in_flight_max:
            raise ValueError(
                f"A call of {len(commands)} commands and {size} bytes is larger than the link "
                f"allows ({limits.commands_in_flight_max} commands, "
                f"{limits.bytes_in_flight_max} bytes); split it."
            )

    def _let_in(self) -> None:
        """Submits whom there is room for, first come first served."""
        exchange = self._exchange
        while self._line and exchange is not None:
            entry = self._line[0]
            room = self._has_room(exchange, len(entry.commands), len(entry.data))
            if not room and not entry.given_up:
                break
            self._line.popleft()
            if not entry.given_up:
                entry.submitted = True
                exchange.submit(entry.commands, entry.data, entry.waiter, self._now())
                # Submitting can find the connection broken, and then it is no longer ours.
                exchange = self._exchange
        if exchange is not None:
            exchange.on_room = self._let_in if self._line else None

    def _forget_given_up(self) -> None:
        while self._line and self._line[0].given_up:
            self._line.popleft()

    def _why(self) -> str:
        if self._closed:
            return "The link to Redis is closed."
        if self._exchange is None:
            return (
                f"Redis at {self._address.label} is away ({self._fault}). "
                "The link reconnects by itself; start Redis or correct redis.url."
            )
        return (
            f"Redis at {self._address.label} is too slow: "
            f"{self._exchange.commands_in_flight} commands and "
            f"{self._exchange.bytes_in_flight} bytes are not answered yet."
        )

    # Sessions

    def session(self, _key: str, /) -> AbstractAsyncContextManager[Session]:
        """See `gateway.redis.client.Link.session`."""
        return _SessionScope(self)

    async def borrow(self) -> Exchange:
        """A session's connection, for `_SessionScope`; `give_back` must follow."""
        try:
            await self._slots.take(self._limits.session_wait_s)
        except TimeoutError as fault:
            raise StoreUnavailable(
                f"All {self._limits.sessions_max} session connections to Redis at "
                f"{self._address.label} were in use for {self._limits.session_wait_s:g} s."
            ) from fault
        self._sessions_in_use += 1
        try:
            while self._sessions_idle:
                exchange = self._sessions_idle.pop()
                if exchange.usable:
                    return exchange
            await self._connected()
            return await self._open()
        except BaseException:
            self._return_slot()
            raise

    def give_back(self, exchange: Exchange, *, clean: bool) -> None:
        if clean and exchange.idle and exchange.usable and not self._closed:
            self._sessions_idle.append(exchange)
        else:
            exchange.drop("its session was left in the middle")
        self._return_slot()

    async def call_on(self, exchange: Exchange, commands: Sequence[Command]) -> list[Reply]:
        """One call of a session."""
        self._check_size(commands, 0)
        return await call_on(self._driver, exchange, commands) if commands else []

    def _return_slot(self) -> None:
        self._sessions_in_use -= 1
        self._slots.give()

    async def _connected(self) -> None:
        if self._exchange is not None:
            return
        if self._closed:
            raise StoreUnavailable(self._why())
        waiter = self._waiter()
        self._up_waiters.add(waiter)
        try:
            up = await self._driver.wait(waiter, self._limits.down_wait_s)
        finally:
            self._up_waiters.discard(waiter)
        if not up:
            raise StoreUnavailable(self._why())

    # Connections

    async def run(self) -> None:
        """Keeps the shared connection up until it is cancelled or the link is closed."""
        attempt = 0
        while not self._closed:
            await self._driver.sleep(reconnect_delay_s(attempt, self._limits, random.random()))
            try:
                exchange = await self._open()
            except StoreUnavailable as fault:
                self._fault = str(fault)
                attempt += 1
                continue
            opened = self._now()
            if exchange.usable:
                await self._serve(exchange)
            # A server that takes connections only to drop them must not be dialled in a tight loop.
            stable = self._now() - opened > self._limits.reconnect_delay_max_s
            attempt = 0 if stable else attempt + 1

    async def _serve(self, exchange: Exchange) -> None:
        self._gone = self._waiter()
        self._exchange = exchange
        self._reconnects += 1
        for waiter in self._up_waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._let_in()
        await self._gone

    def _left(self, exchange: Exchange) -> None:
        """Called when a connection is lost or retired."""
        if exchange in self._sessions_idle:
            self._sessions_idle.remove(exchange)
        shared = self._exchange
        if exchange is shared:
            self._exchange = None
            self._fault = "the connection was lost"
            if self._gone is not None and not self._gone.done():
                self._gone.set_result(None)
        elif not exchange.stale:
            return
        # What befell the shared connection, or tells that this is not the master, concerns the
        # others too.
        for other in [*self._sessions_idle, *([shared] if shared is not None else [])]:
            other.retire()

    async def _open(self) -> Exchange:
        exchange = await self._dialler.open()
        exchange.on_gone = self._left
        self._exchanges = {kept for kept in self._exchanges if not kept.closed}
        self._exchanges.add(exchange)
        if self._closed:
            exchange.drop("the link was closed")
        return exchange

    # End

    def statistics(self) -> Statistics:
        exchange = self._exchange
        tally = self._tally
        return Statistics(
            round_trips=tally.round_trips,
            commands=tally.commands,
            reconnects=max(self._reconnects, 0),
            timeouts=tally.timeouts,
            bytes_sent=tally.bytes_sent,
            bytes_received=tally.bytes_received,
            connected=exchange is not None,
            commands_in_flight=sum(each.commands_in_flight for each in self._exchanges),
            bytes_in_flight=sum(each.bytes_in_flight for each in self._exchanges),
            callers_waiting=sum(not entry.given_up for entry in self._line),
            sessions_in_use=self._sessions_in_use,
            sessions_idle=len(self._sessions_idle),
        )

    async def aclose(self) -> None:
        """See `gateway.redis.client.Link.aclose`."""
        self.close()
        await self._driver.settle()

    def close(self) -> None:
        """As `aclose`, without waiting until the sockets are gone."""
        self._closed = True
        for exchange in list(self._exchanges):
            exchange.drop("the link was closed")
        for entry in self._line:
            if not entry.waiter.done():
                entry.waiter.set_result(StoreUnavailable(self._why()))
        self._line.clear()


class _Session:
    __slots__ = ("_exchange", "_link")

    def __init__(self, link: SharedLink, exchange: Exchange) -> None:
        self._link = link
        self._exchange = exchange

    async def call(self, commands: Sequence[Command]) -> list[Reply]:
        return await self._link.call_on(self._exchange, commands)


class _SessionScope(AbstractAsyncContextManager[Session]):
    """A class and not a generator: entering one is on the hot path."""

    __slots__ = ("_exchange", "_link")

    def __init__(self, link: SharedLink) -> None:
        self._link = link

    async def __aenter__(self) -> Session:
        self._exchange = await self._link.borrow()
        return _Session(self._link, self._exchange)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._link.give_back(self._exchange, clean=kind is None)
