"""A link to Redis without a loop: for commands, which do one thing after the other and end.

Owns blocking connections of redis-py, one to each node, and the running of a coroutine that awaits
nothing but the link: such a coroutine never really waits here, so it needs no asyncio and no trio.
It keeps what `Link` promises as far as one caller can tell: replies in order, the same exceptions.
There is no reconnecting; a server that is away is StoreUnavailable, and the command ends with its
sentence.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import redis
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import RedisError as ClientError

from gateway.errors import ConfigurationError
from gateway.redis.address import Address, AddressError, Endpoint, parse_address
from gateway.redis.client import (
    Command,
    Link,
    Reply,
    Session,
    Statistics,
    add_up,
    move_delay_s,
)
from gateway.redis.cluster_slots import Unit, batch_of, in_full, split_replies
from gateway.redis.connection import Outcome
from gateway.redis.errors import ErrorReply, Moved, StoreError, StoreUnavailable, judge
from gateway.redis.server.checks import connect, masters_now
from gateway.store.installation import open_client

T = TypeVar("T")


@contextmanager
def open_link(url: str) -> Iterator[Link]:
    """A link as long as the block. Raises ConfigurationError for a URL that cannot be used."""
    try:
        address = parse_address(url)
    except AddressError as fault:
        raise ConfigurationError(str(fault)) from None
    if address.cluster:
        link = SyncClusterLink(address)
        try:
            yield link
        finally:
            link.close()
        return
    with open_client(url) as client:
        yield SyncLink(client)


def finish(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine that awaits only a SyncLink, at once and to its end."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    raise AssertionError("the coroutine waits for something that is no SyncLink")


class _OfOneCaller(ABC):
    """What both kinds of link have in common."""

    @abstractmethod
    async def call(self, commands: Sequence[Command]) -> list[Reply]: ...

    @abstractmethod
    def close(self) -> None: ...

    @asynccontextmanager
    async def session(self, _key: str, /) -> AsyncIterator[Session]:
        """The link itself: nobody else uses its connections."""
        yield self

    async def wait_for_move(self, tries: int) -> None:
        """See `gateway.redis.client.Link.wait_for_move`."""
        time.sleep(move_delay_s(tries))  # noqa: ASYNC251  # no loop runs here

    async def aclose(self) -> None:
        self.close()


class SyncLink(_OfOneCaller):
    """`gateway.redis.client.Link` over one blocking client."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._round_trips = 0
        self._commands = 0

    async def call(self, commands: Sequence[Command]) -> list[Reply]:
        """One pipelined round trip. Raises StoreUnavailable or StoreReplyError."""
        if not commands:
            return []
        pool = self._client.connection_pool
        try:
            connection: Any = pool.get_connection()
        except (ClientError, OSError) as fault:
            raise StoreUnavailable(f"Redis cannot be reached: {fault}.") from fault
        try:
            connection.send_packed_command(connection.pack_commands(commands))
            replies = [_read(connection) for _ in commands]
        except (ClientError, OSError) as fault:
            connection.disconnect()
            raise StoreUnavailable(f"Redis stopped to answer: {fault}.") from fault
        finally:
            pool.release(connection)
        self._round_trips += 1
        self._commands += len(commands)
        refused = judge(commands, replies)
        if refused is not None:
            raise refused
        return replies

    def statistics(self) -> Statistics:
        return Statistics(
            round_trips=self._round_trips,
            commands=self._commands,
            reconnects=0,
            timeouts=0,
            bytes_sent=0,
            bytes_received=0,
            connected=True,
            commands_in_flight=0,
            bytes_in_flight=0,
            callers_waiting=0,
            sessions_in_use=0,
            sessions_idle=1,
        )

    def close(self) -> None:
        self._client.close()


class SyncClusterLink(_OfOneCaller):
    """The same over a cluster: a SyncLink a master, made when it is first needed."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._nodes: dict[Endpoint, SyncLink] = {}
        self._masters: dict[range, Endpoint] = {}

    async def call(self, commands: Sequence[Command]) -> list[Reply]:
        """One round trip a node. Raises StoreUnavailable, OutcomeUnknown or StoreReplyError."""
        return await in_full(commands, self._round, self._map_again)

    async def _map_again(self, tries: int) -> None:
        await self.wait_for_move(tries)
        self._masters = {}

    async def _round(self, units: Sequence[Unit]) -> None:
        try:
            by_node = self._by_node(units)
        except (ClientError, OSError) as away:
            for unit in units:
                unit.fault = StoreUnavailable(f"The cluster cannot be reached: {away}.")
            return
        for node, theirs in by_node.items():
            outcome: Outcome
            try:
                outcome = await self._link(node).call(batch_of(theirs))
            except StoreError as fault:
                outcome = fault
            split_replies(theirs, outcome)
            for unit in theirs:
                moved = unit.fault
                if isinstance(moved, Moved) and moved.asking:
                    unit.asked = Endpoint(host=moved.host or node.host, port=moved.port)

    def _by_node(self, units: Sequence[Unit]) -> dict[Endpoint, list[Unit]]:
        if not self._masters:
            self._masters = masters_now(self._address)
        found: dict[Endpoint, list[Unit]] = {}
        for unit in units:
            node = unit.asked or self._serving(unit.slot)
            if node is not None:
                found.setdefault(node, []).append(unit)
            else:
                sentence = f"No node of the cluster serves slot {unit.slot}."
                unit.fault = StoreUnavailable(sentence, again=True)
        return found

    def _serving(self, slot: int) -> Endpoint | None:
        return next((node for slots, node in self._masters.items() if slot in slots), None)

    def _link(self, node: Endpoint) -> SyncLink:
        if node not in self._nodes:
            client = connect(self._address.of_node(node), decode=False)
            self._nodes[node] = SyncLink(client)
        return self._nodes[node]

    def statistics(self) -> Statistics:
        return add_up([link.statistics() for link in self._nodes.values()], connected=True)

    def close(self) -> None:
        for link in self._nodes.values():
            link.close()


def _read(connection: Any) -> Any:
    """One reply as it came; an error reply is a value, so that the others are still read."""
    try:
        return _as_errors(connection.read_response(disable_decoding=True))
    except ResponseError as refused:
        return _as_error(refused)


def _as_errors(reply: Any) -> Any:
    """The reply of an EXEC can hold error replies."""
    if isinstance(reply, list) and any(isinstance(item, ResponseError) for item in reply):
        return [_as_error(item) if isinstance(item, ResponseError) else item for item in reply]
    return reply


def _as_error(refused: ResponseError) -> ErrorReply:
    """The words of the server, of which the client has taken some away."""
    words = str(refused)
    if isinstance(refused, AskError):
        moved = "MOVED" if isinstance(refused, MovedError) else "ASK"
        return ErrorReply(f"{moved} {refused.slot_id} {refused.host}:{refused.port}")
    for kind, code in ((TryAgainError, "TRYAGAIN"), (ClusterDownError, "CLUSTERDOWN")):
        if isinstance(refused, kind):
            return ErrorReply(f"{code} {words}")
    return ErrorReply(words)
