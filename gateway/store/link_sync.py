"""A link to Redis without a loop: for commands, which do one thing after the other and end.

Owns one blocking connection of redis-py and the running of a coroutine that awaits nothing but the
link: such a coroutine never really waits here, so it needs no asyncio and no trio. It keeps what
`Link` promises as far as one caller can tell: replies in order, the same exceptions. There is no
reconnecting; a server that is away is StoreUnavailable, and the command ends with its sentence.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import redis
from redis.exceptions import RedisError as ClientError
from redis.exceptions import ResponseError

from gateway.store.errors import StoreReplyError, StoreUnavailable
from gateway.store.link import Command, Link, Reply, Session, Statistics, move_delay_s
from gateway.store.meta import open_client

T = TypeVar("T")


@contextmanager
def open_link(url: str) -> Iterator[Link]:
    """A link as long as the block. Raises ConfigurationError for a URL that cannot be used."""
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


class SyncLink:
    """`gateway.store.link.Link` over one blocking client."""

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
        for index, reply in enumerate(replies):
            refusal = _refusal(reply)
            if refusal is not None:
                raise StoreReplyError(str(commands[index][0]), str(refusal), index, replies)
        return replies

    @asynccontextmanager
    async def session(self, _key: str, /) -> AsyncIterator[Session]:
        """The one connection: nobody else uses it."""
        yield self

    async def wait_for_move(self, tries: int) -> None:
        """See `gateway.store.link.Link.wait_for_move`."""
        time.sleep(move_delay_s(tries))  # noqa: ASYNC251  # no loop runs here

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

    async def aclose(self) -> None:
        self._client.close()


def _read(connection: Any) -> Any:
    """One reply as it came; an error reply is a value, so that the others are still read."""
    try:
        return connection.read_response(disable_decoding=True)
    except ResponseError as refused:
        return refused


def _refusal(reply: Any) -> ResponseError | None:
    if isinstance(reply, ResponseError):
        return reply
    if isinstance(reply, list):
        return next((item for item in reply if isinstance(item, ResponseError)), None)
    return None
