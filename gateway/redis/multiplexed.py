"""The client of one Redis server: a connection that all calls share, and a pool for sessions.

Calls that find no room or no connection wait in a queue. It awaits only its `Driver`, so it runs on
any loop.

A connection that cannot be made is a `RedisUnavailable` with a sentence that says where and why;
`run` tries again for ever, with a growing, bounded delay. Anything unexpected there is a bug and
ends the client's owner.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from gateway.backoff import Backoff
from gateway.redis.address import Address, Endpoint
from gateway.redis.client import Limits, Session, Statistics, move_delay_s
from gateway.redis.connect import Connector, Driver, call_on
from gateway.redis.connection import Command, Connection, Counters, Future, RedisReply, pack
from gateway.redis.errors import RedisUnavailable


class _QueuedCall:
    """A call that waits for room or for a connection; whoever makes room submits it."""

    __slots__ = ("commands", "data", "future", "given_up", "submitted")

    def __init__(self, commands: Sequence[Command], data: bytes, future: Future) -> None:
        self.commands = commands
        self.data = data
        self.future = future
        self.submitted = False
        self.given_up = False


class MultiplexedClient:
    """Implements `gateway.redis.client.RedisClient` on a driver; `run` must run beside it all the
    time."""

    def __init__(self, address: Address, limits: Limits, driver: Driver) -> None:
        self._address = address
        self._limits = limits
        self._driver = driver
        self._now = driver.now
        self._new_future = driver.new_future
        self._counters = Counters()
        self._connector = Connector(address, limits, driver, self._counters)
        self._reconnects = -1
        self._connection: Connection | None = None
        self._connections: set[Connection] = set()
        self._gone: Future | None = None
        self._queue: deque[_QueuedCall] = deque()
        self._fault = "the first connection is not made yet"
        self._closed = False
        self._waiting_for_connection: set[Future] = set()
        self._session_slots = driver.semaphore(limits.sessions_max)
        self._sessions_idle: list[Connection] = []
        self._sessions_in_use = 0

    @property
    def place(self) -> Endpoint:
        """The server, where it is named by its address and not by sentinels."""
        return self._address.endpoints[0]

    @property
    def connected(self) -> bool:
        return self._connection is not None

    @property
    def idle(self) -> bool:
        """Whether nobody uses it or waits for it."""
        busy = any(not connection.idle for connection in self._connections)
        return not (busy or self._queue or self._sessions_in_use)

    # Calls

    async def call(self, commands: Sequence[Command]) -> list[RedisReply]:
        """See `gateway.redis.client.RedisClient.call`."""
        if not commands:
            return []
        data = pack(commands)
        future = self._submit(commands, data)
        if future is None:
            return await self._call_queued(commands, data)
        outcome = await future
        if isinstance(outcome, list):
            return outcome
        raise outcome

    def try_call(self, commands: Sequence[Command]) -> Future | None:
        """Sends one call without waiting for its answer; None when it would have to queue.

        The future gets the replies, or the exception as a value.
        """
        return self._submit(commands, pack(commands))

    def _submit(self, commands: Sequence[Command], data: bytes) -> Future | None:
        connection = self._connection
        if (
            connection is None
            or self._queue
            or not self._has_room(connection, len(commands), len(data))
        ):
            return None
        future = self._new_future()
        connection.submit(commands, data, future, self._now())
        return future

    async def wait_for_move(self, tries: int) -> None:
        """See `gateway.redis.client.RedisClient.wait_for_move`."""
        await self._driver.sleep(move_delay_s(tries))

    async def _call_queued(self, commands: Sequence[Command], data: bytes) -> list[RedisReply]:
        self._check_size(commands, len(data))
        if self._closed:
            raise RedisUnavailable(self._why_unavailable())
        if len(self._queue) >= self._limits.callers_waiting_max:
            raise RedisUnavailable(
                f"{len(self._queue)} calls wait for Redis already. {self._why_unavailable()}"
            )
        down = self._connection is None
        entry = _QueuedCall(commands, data, self._new_future())
        self._queue.append(entry)
        if not down:
            self._drain_queue()
        seconds = self._limits.down_wait_s if down else self._limits.timeout_s
        try:
            if not await self._driver.wait(entry.future, seconds) and not entry.submitted:
                raise RedisUnavailable(self._why_unavailable())
            outcome = await entry.future
        finally:
            entry.given_up = True
            self._forget_given_up()
        if isinstance(outcome, list):
            return outcome
        raise outcome

    def _has_room(self, connection: Connection, count: int, size: int) -> bool:
        return (
            connection.commands_in_flight + count <= self._limits.commands_in_flight_max
            and connection.bytes_in_flight + size <= self._limits.bytes_in_flight_max
        )

    def _check_size(self, commands: Sequence[Command], size: int) -> None:
        limits = self._limits
        if len(commands) > limits.commands_in_flight_max or size > limits.bytes_in_flight_max:
            raise ValueError(
                f"A call of {len(commands)} commands and {size} bytes is larger than the client "
                f"allows ({limits.commands_in_flight_max} commands, "
                f"{limits.bytes_in_flight_max} bytes); split it."
            )

    def _drain_queue(self) -> None:
        """Submits the calls there is room for, first come first served."""
        connection = self._connection
        while self._queue and connection is not None:
            entry = self._queue[0]
            room = self._has_room(connection, len(entry.commands), len(entry.data))
            if not room and not entry.given_up:
                break
            self._queue.popleft()
            if not entry.given_up:
                entry.submitted = True
                connection.submit(entry.commands, entry.data, entry.future, self._now())
                # Submitting can find the connection broken, and then it is no longer ours.
                connection = self._connection
        if connection is not None:
            connection.on_room = self._drain_queue if self._queue else None

    def _forget_given_up(self) -> None:
        while self._queue and self._queue[0].given_up:
            self._queue.popleft()

    def _why_unavailable(self) -> str:
        if self._closed:
            return "The client to Redis is closed."
        if self._connection is None:
            return (
                f"Redis at {self._address.label} is away ({self._fault}). "
                "The client reconnects by itself; start Redis or correct redis.url."
            )
        return (
            f"Redis at {self._address.label} is too slow: "
            f"{self._connection.commands_in_flight} commands and "
            f"{self._connection.bytes_in_flight} bytes are not answered yet."
        )

    # Sessions

    def session(self, _key: str, /) -> AbstractAsyncContextManager[Session]:
        """See `gateway.redis.client.RedisClient.session`."""
        return _SessionScope(self)

    async def borrow(self) -> Connection:
        """A session's connection, for `_SessionScope`; `give_back` must follow."""
        try:
            await self._session_slots.acquire(self._limits.session_wait_s)
        except TimeoutError as fault:
            raise RedisUnavailable(
                f"All {self._limits.sessions_max} session connections to Redis at "
                f"{self._address.label} were in use for {self._limits.session_wait_s:g} s."
            ) from fault
        self._sessions_in_use += 1
        try:
            while self._sessions_idle:
                connection = self._sessions_idle.pop()
                if connection.usable:
                    return connection
            await self._wait_connected()
            return await self._open()
        except BaseException:
            self._return_slot()
            raise

    def give_back(self, connection: Connection, *, clean: bool) -> None:
        if clean and connection.idle and connection.usable and not self._closed:
            self._sessions_idle.append(connection)
        else:
            connection.drop("its session was left in the middle")
        self._return_slot()

    async def call_on(
        self, connection: Connection, commands: Sequence[Command]
    ) -> list[RedisReply]:
        """One call of a session."""
        self._check_size(commands, 0)
        return await call_on(self._driver, connection, commands) if commands else []

    def _return_slot(self) -> None:
        self._sessions_in_use -= 1
        self._session_slots.release()

    async def _wait_connected(self) -> None:
        if self._connection is not None:
            return
        if self._closed:
            raise RedisUnavailable(self._why_unavailable())
        future = self._new_future()
        self._waiting_for_connection.add(future)
        try:
            up = await self._driver.wait(future, self._limits.down_wait_s)
        finally:
            self._waiting_for_connection.discard(future)
        if not up:
            raise RedisUnavailable(self._why_unavailable())

    # Connections

    async def run(self) -> None:
        """Keeps the shared connection up until it is cancelled or the client is closed."""
        most_s = self._limits.reconnect_delay_max_s
        backoff = Backoff(self._limits.reconnect_delay_min_s, most_s)
        while not self._closed:
            try:
                connection = await self._open()
            except RedisUnavailable as fault:
                self._fault = str(fault)
            else:
                opened = self._now()
                if connection.usable:
                    await self._serve(connection)
                # One that takes connections only to drop them must not be called in a tight loop.
                if self._now() - opened > most_s:
                    backoff.reset()
                    continue
            await self._driver.sleep(backoff.next_s())

    async def _serve(self, connection: Connection) -> None:
        self._gone = self._new_future()
        self._connection = connection
        self._reconnects += 1
        for future in self._waiting_for_connection:
            if not future.done():
                future.set_result(None)
        self._drain_queue()
        await self._gone

    def _connection_gone(self, connection: Connection) -> None:
        """Called when a connection is lost or retired."""
        if connection in self._sessions_idle:
            self._sessions_idle.remove(connection)
        shared = self._connection
        if connection is shared:
            self._connection = None
            self._fault = "the connection was lost"
            if self._gone is not None and not self._gone.done():
                self._gone.set_result(None)
        elif not connection.stale:
            return
        # What befell the shared connection, or tells that this is not the master, concerns the
        # others too.
        for other in [*self._sessions_idle, *([shared] if shared is not None else [])]:
            other.retire()

    async def _open(self) -> Connection:
        connection = await self._connector.open()
        connection.on_gone = self._connection_gone
        self._connections = {kept for kept in self._connections if not kept.closed}
        self._connections.add(connection)
        if self._closed:
            connection.drop("the client was closed")
        return connection

    # End

    def statistics(self) -> Statistics:
        connection = self._connection
        counters = self._counters
        return Statistics(
            round_trips=counters.round_trips,
            commands=counters.commands,
            reconnects=max(self._reconnects, 0),
            timeouts=counters.timeouts,
            bytes_sent=counters.bytes_sent,
            bytes_received=counters.bytes_received,
            connected=connection is not None,
            commands_in_flight=sum(each.commands_in_flight for each in self._connections),
            bytes_in_flight=sum(each.bytes_in_flight for each in self._connections),
            callers_waiting=sum(not entry.given_up for entry in self._queue),
            sessions_in_use=self._sessions_in_use,
            sessions_idle=len(self._sessions_idle),
        )

    async def aclose(self) -> None:
        """See `gateway.redis.client.RedisClient.aclose`."""
        self.close()
        await self._driver.wait_closed()

    def close(self) -> None:
        """As `aclose`, without waiting until the sockets are gone."""
        self._closed = True
        for connection in list(self._connections):
            connection.drop("the client was closed")
        for entry in self._queue:
            if not entry.future.done():
                entry.future.set_result(RedisUnavailable(self._why_unavailable()))
        self._queue.clear()


class _Session:
    __slots__ = ("_client", "_connection")

    def __init__(self, client: MultiplexedClient, connection: Connection) -> None:
        self._client = client
        self._connection = connection

    async def call(self, commands: Sequence[Command]) -> list[RedisReply]:
        return await self._client.call_on(self._connection, commands)


class _SessionScope(AbstractAsyncContextManager[Session]):
    """A class and not a generator: entering one is on the hot path."""

    __slots__ = ("_client", "_connection")

    def __init__(self, client: MultiplexedClient) -> None:
        self._client = client

    async def __aenter__(self) -> Session:
        self._connection = await self._client.borrow()
        return _Session(self._client, self._connection)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.give_back(self._connection, clean=kind is None)
