"""Making one connection to Redis: find the master, connect, log in, and see that it serves.

`Driver` is the port to a loop. What happens on a connection afterwards is in `connection`, when to
make one in `multiplexed`. Every failure is a `RedisUnavailable` whose sentence says where and why.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from gateway.redis.address import Address, Endpoint
from gateway.redis.client import Limits
from gateway.redis.connection import Command, Connection, Counters, Future, RedisReply, pack
from gateway.redis.errors import RedisError, RedisUnavailable

T = TypeVar("T")


class Semaphore(Protocol):
    """A counting semaphore."""

    async def acquire(self, seconds: float) -> None:
        """Takes a slot, at once when one is free. Raises TimeoutError after so long."""

    def release(self) -> None: ...


class Driver(Protocol):
    """A loop, as far as a client needs one. Times are seconds of the driver's own clock."""

    def now(self) -> float: ...

    def new_future(self) -> Future: ...

    def semaphore(self, count: int) -> Semaphore: ...

    async def sleep(self, seconds: float) -> None: ...

    async def wait(self, future: Future, seconds: float) -> bool:
        """Waits for a future without consuming or cancelling it; whether it is done."""

    async def within(self, seconds: float, step: Callable[[], Awaitable[T]]) -> T:
        """Runs a step, cancelled with TimeoutError after so long."""

    async def connect(self, endpoint: Endpoint, connection: Connection) -> None:
        """Connects and sets `connection.transport`. Raises OSError."""

    async def wait_closed(self) -> None:
        """Waits until closed sockets are gone."""


async def call_on(
    driver: Driver, connection: Connection, commands: Sequence[Command]
) -> list[RedisReply]:
    """One call on one connection, without a line to wait in. Raises as `RedisClient.call`."""
    if not connection.usable:
        raise RedisUnavailable(f"The connection to Redis at {connection.label} is lost.")
    future = driver.new_future()
    connection.submit(commands, pack(commands), future, driver.now())
    outcome = await future
    if isinstance(outcome, list):
        return outcome
    raise outcome


class Connector:
    """Makes connections to one address."""

    def __init__(
        self, address: Address, limits: Limits, driver: Driver, counters: Counters
    ) -> None:
        self._address = address
        self._limits = limits
        self._driver = driver
        self._counters = counters
        self._sentinels = list(address.endpoints)

    async def open(self) -> Connection:
        """A connection that is logged in and serves. Raises RedisUnavailable."""
        endpoint = self._address.endpoints[0]
        if self._address.service is not None:
            endpoint = await self._find_master(self._address.service)
        return await self._connect(endpoint, self._limits.connect_timeout_s, self._log_in)

    async def _connect(
        self, endpoint: Endpoint, seconds: float, greet: Callable[[Connection], Awaitable[None]]
    ) -> Connection:
        connection = Connection(endpoint.label, self._limits.timeout_s, self._counters)

        async def connect() -> None:
            await self._driver.connect(endpoint, connection)
            await greet(connection)

        done = False
        try:
            await self._driver.within(seconds, connect)
            done = True
            return connection
        except TimeoutError as fault:
            reason = f"no answer within {seconds:g} s"
            raise RedisUnavailable(_unusable(endpoint, reason)) from fault
        except OSError as fault:
            raise RedisUnavailable(_unusable(endpoint, fault.strerror or str(fault))) from fault
        except RedisError as fault:
            raise RedisUnavailable(_unusable(endpoint, str(fault))) from fault
        finally:
            if not done:
                connection.drop("it could not be set up")

    async def _log_in(self, connection: Connection) -> None:
        address = self._address
        commands = _auth(address.username, address.password)
        if address.db:
            commands.append(("SELECT", address.db))
        if address.service is not None:
            commands.append(("ROLE",))
        # PING is refused while the server loads its data or its master is away, unlike the others.
        commands.append(("PING",))
        replies = await call_on(self._driver, connection, commands)
        if address.service is not None and replies[-2][0] != b"master":
            raise RedisUnavailable("the sentinel named it, but it is not a master (yet)")

    async def _find_master(self, service: str) -> Endpoint:
        reasons: list[str] = []
        for sentinel in list(self._sentinels):
            try:
                endpoint = await self._ask(sentinel, service)
            except RedisUnavailable as fault:
                reasons.append(str(fault))
                continue
            # The one that knew is asked first next time.
            self._sentinels.remove(sentinel)
            self._sentinels.insert(0, sentinel)
            return endpoint
        raise RedisUnavailable(f"no sentinel names the master of {service!r}: {'; '.join(reasons)}")

    async def _ask(self, sentinel: Endpoint, service: str) -> Endpoint:
        commands = _auth(None, self._address.sentinel_password)
        commands.append(("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service))
        answer = await self._answer(sentinel, commands)
        if answer is None:
            raise RedisUnavailable(f"{sentinel.label} does not know that service")
        host, port = answer
        return Endpoint(host=host.decode(), port=int(port))

    async def ask_node(self, endpoint: Endpoint, command: Command) -> RedisReply:
        """One answer of one node, on a connection of its own. Raises RedisUnavailable."""
        commands = _auth(self._address.username, self._address.password)
        return await self._answer(endpoint, [*commands, command])

    async def _answer(self, endpoint: Endpoint, commands: Sequence[Command]) -> RedisReply:
        """What the last of the commands is answered."""
        answers: list[RedisReply] = []

        async def ask(connection: Connection) -> None:
            answers.append((await call_on(self._driver, connection, commands))[-1])

        connection = await self._connect(endpoint, self._limits.sentinel_timeout_s, ask)
        connection.drop("it has answered")
        return answers[0]


def _auth(username: str | None, password: str | None) -> list[Command]:
    if password is None:
        return []
    return [("AUTH", password) if username is None else ("AUTH", username, password)]


def _unusable(endpoint: Endpoint, reason: str) -> str:
    return f"Redis at {endpoint.label} cannot be used: {reason}"
