"""The client of a Redis Cluster: one `MultiplexedClient` a master, and the map of slots.

A call is split by node, and its replies are put together again. It awaits only its `Driver`, so it
runs on any loop.

The map is read from any node that answers: at the start, every REFRESH_S, and soon after anything
that hints at a change (MOVED, CLUSTERDOWN, a node that is away), but never more often than every
REFRESH_MIN_S. What a node says in MOVED holds at once, and against the map for HINT_HOLDS_S,
because the node that tells the map may not have heard of the move yet.

A command that was refused because its slot or its master is on the move was not done, and is tried
again, it alone, MOVES_MAX times; what follows it in the call does not wait for it. A key that has
moved ahead of its slot is asked for where it is (ASK). A transaction on a slot that is half moved
works on neither node, and so it waits too. A session does not try again by itself, because what was
read on it must be read again: `transaction.commit` does. After that the caller gets
RedisUnavailable, or OutcomeUnknown when another part of its call was done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from gateway.redis.address import Address, Endpoint
from gateway.redis.client import Limits, RedisClient, Session, Statistics, add_up, move_delay_s
from gateway.redis.cluster_slots import (
    SLOTS,
    Unit,
    batch_of,
    in_full,
    masters_of,
    slot_of,
    split_replies,
)
from gateway.redis.connect import Connector, Driver
from gateway.redis.connection import CallOutcome, Command, Counters, Future, RedisReply
from gateway.redis.errors import Moved, RedisError, RedisUnavailable
from gateway.redis.multiplexed import MultiplexedClient

REFRESH_MIN_S = 0.25  # between two readings of the map
REFRESH_S = 10.0  # between two without a reason
REFRESH_UNAVAILABLE_S = 0.5  # likewise while a master is away, or nobody tells the map
HINT_HOLDS_S = 5.0
HINT_KEEP_S = 30.0  # how long a node is kept that was named, but serves no slot by the map

Start = Callable[[Callable[[], Awaitable[None]]], None]


def make_client(address: Address, limits: Limits, driver: Driver, start: Start) -> RedisClient:
    """The client for an address; `start` runs a task beside the client's user."""
    if not address.cluster:
        client = MultiplexedClient(address, limits, driver)
        start(client.run)
        return client
    cluster = ClusterClient(address, limits, driver, start)
    start(cluster.run)
    return cluster


class ClusterClient:
    """Implements `gateway.redis.client.RedisClient`; the limits hold for each node. `run` must run
    beside it."""

    def __init__(self, address: Address, limits: Limits, driver: Driver, start: Start) -> None:
        self._address = address
        self._limits = limits
        self._driver = driver
        self._start = start
        self._connector = Connector(address, limits, driver, Counters())
        self._map: list[MultiplexedClient | None] = [None] * SLOTS
        self._mapped = False
        self._nodes: dict[Endpoint, MultiplexedClient] = {}
        self._named_at: dict[Endpoint, float] = {}
        self._moved: dict[int, tuple[Endpoint, float]] = {}  # by slot: where to, and since when
        self._leaving: dict[Endpoint, MultiplexedClient] = {}
        self._closed_statistics = add_up([], connected=False)
        self._turn = 0
        self._fault = "it has not been asked yet"
        self._refresh_wanted = driver.new_future()
        self._waiting_for_map: set[Future] = set()
        self._closed = False

    # Calls

    async def call(self, commands: Sequence[Command]) -> list[RedisReply]:
        """See `gateway.redis.client.RedisClient.call`."""
        if len(commands) > self._limits.commands_in_flight_max:
            raise ValueError(
                f"A call of {len(commands)} commands is larger than the client allows "
                f"({self._limits.commands_in_flight_max}); split it."
            )
        return await in_full(commands, self._round, self.wait_for_move)

    async def wait_for_move(self, tries: int) -> None:
        """See `gateway.redis.client.RedisClient.wait_for_move`."""
        await self._driver.sleep(move_delay_s(tries))

    async def _round(self, units: Sequence[Unit]) -> None:
        """Asks every node concerned at the same time; leaves replies and faults in the units."""
        await self._know_map()
        by_node: dict[MultiplexedClient, list[Unit]] = {}
        for unit in units:
            node = self._map[unit.slot] if unit.asked is None else self._node(unit.asked)
            if node is not None:
                by_node.setdefault(node, []).append(unit)
            else:
                unit.fault = self._unserved(unit.slot)
        asked = []
        for node, theirs in by_node.items():
            batch = batch_of(theirs)
            asked.append((node, theirs, batch, node.try_call(batch)))
        for node, theirs, batch, future in asked:
            outcome: CallOutcome
            try:
                outcome = await (node.call(batch) if future is None else future)
            except RedisError as fault:
                outcome = fault
            split_replies(theirs, outcome)
            for unit in theirs:
                if isinstance(unit.fault, RedisUnavailable):
                    unit.asked = self.learn(node, unit.fault)

    def learn(self, node: MultiplexedClient, fault: RedisUnavailable) -> Endpoint | None:
        """Takes from a node's refusal who serves a slot; returns whom to ask this time only."""
        self._refresh_soon()
        if self._closed or not isinstance(fault, Moved):
            return None
        named = Endpoint(host=fault.host or node.place.host, port=fault.port)
        now = self._named_at[named] = self._driver.now()
        if fault.asking:
            return named
        self._moved[fault.slot] = named, now
        self._map[fault.slot] = self._node(named)
        return None

    def _unserved(self, slot: int) -> RedisUnavailable:
        self._refresh_soon()
        return RedisUnavailable(
            f"No node of the cluster at {self._address.label} serves slot {slot}: give it to one "
            "with redis-cli --cluster fix.",
            again=True,
        )

    # Sessions

    def session(self, key: str, /) -> AbstractAsyncContextManager[Session]:
        """See `gateway.redis.client.RedisClient.session`."""
        return _SessionScope(self, slot_of(key), key)

    async def node_of(self, slot: int) -> MultiplexedClient:
        """The node that serves a slot. Raises RedisUnavailable."""
        await self._know_map()
        node = self._map[slot]
        if node is None:
            raise self._unserved(slot)
        return node

    # The map

    async def run(self) -> None:
        """Keeps the map true until it is cancelled or the client is closed."""
        while not self._closed:
            self._refresh_wanted = self._driver.new_future()
            await self._refresh()
            self._close_idle()
            await self._driver.sleep(REFRESH_MIN_S)
            well = not self._fault and all(node.connected for node in self._nodes.values())
            await self._driver.wait(
                self._refresh_wanted, REFRESH_S if well else REFRESH_UNAVAILABLE_S
            )

    def _refresh_soon(self) -> None:
        if not self._refresh_wanted.done():
            self._refresh_wanted.set_result(None)

    async def _know_map(self) -> None:
        if self._mapped and not self._closed:
            return
        if not self._closed:
            future = self._driver.new_future()
            self._waiting_for_map.add(future)
            try:
                await self._driver.wait(future, self._limits.down_wait_s)
            finally:
                self._waiting_for_map.discard(future)
        if self._closed:
            raise RedisUnavailable("The client to Redis is closed.")
        if not self._mapped:
            raise RedisUnavailable(
                f"The cluster at {self._address.label} is away ({self._fault}). The client goes on "
                "trying; start Redis or correct redis.url."
            )

    async def _refresh(self) -> None:
        """Reads the map from the first node that tells it, another one first each time: one that is
        cut off from the others goes on telling an old one."""
        places = list(dict.fromkeys((*self._nodes, *self._address.endpoints)))
        self._turn += 1
        first = self._turn % len(places)
        reasons = []
        for place in (*places[first:], *places[:first]):
            try:
                answer = await self._connector.ask_node(place, ("CLUSTER", "SLOTS"))
            except RedisUnavailable as fault:
                reasons.append(str(fault))
                continue
            if answer:
                self._take(masters_of(answer, place))
                return
            reasons.append(f"Redis at {place.label} has no slots and knows nobody who has")
        self._fault = "; ".join(reasons)

    def _take(self, masters: dict[range, Endpoint]) -> None:
        if self._closed:
            return
        self._fault = ""
        table: list[MultiplexedClient | None] = [None] * SLOTS
        for slots, place in masters.items():
            table[slots.start : slots.stop] = [self._node(place)] * len(slots)
        now = self._driver.now()
        for slot, (place, since) in list(self._moved.items()):
            # One that is away since may have been replaced by its replica.
            if now - since < HINT_HOLDS_S and self._node(place).connected:
                table[slot] = self._node(place)
            else:
                del self._moved[slot]
        self._map = table
        self._mapped = True
        needed_since = now - HINT_KEEP_S
        for place in self._nodes.keys() - set(masters.values()):
            if self._named_at.get(place, needed_since) <= needed_since:
                self._named_at.pop(place, None)
                self._leaving[place] = self._nodes.pop(place)
        self._tell_waiting()

    def _tell_waiting(self) -> None:
        for future in self._waiting_for_map:
            if not future.done():
                future.set_result(None)

    def _node(self, place: Endpoint) -> MultiplexedClient:
        node = self._nodes.get(place)
        if node is None:
            node = self._leaving.pop(place, None)
            if node is None:
                node = MultiplexedClient(self._address.of_node(place), self._limits, self._driver)
                self._start(node.run)
            self._nodes[place] = node
        return node

    def _close_idle(self) -> None:
        """Closes clients of nodes that serve nothing any more, each once nobody waits for it."""
        for place, node in list(self._leaving.items()):
            if node.idle:
                del self._leaving[place]
                node.close()
                self._closed_statistics = add_up(
                    [self._closed_statistics, node.statistics()], connected=False
                )

    # End

    def statistics(self) -> Statistics:
        """The sum over all nodes; connected is who is connected to every master."""
        nodes = [*self._nodes.values(), *self._leaving.values()]
        up = self._mapped and all(node.connected for node in self._nodes.values())
        return add_up(
            [self._closed_statistics, *(node.statistics() for node in nodes)], connected=up
        )

    async def aclose(self) -> None:
        """See `gateway.redis.client.RedisClient.aclose`."""
        self._closed = True
        self._refresh_soon()
        self._tell_waiting()
        for node in [*self._nodes.values(), *self._leaving.values()]:
            node.close()
        await self._driver.wait_closed()


class _Session:
    __slots__ = ("_client", "_inner", "_node")

    def __init__(self, client: ClusterClient, node: MultiplexedClient, inner: Session) -> None:
        self._client = client
        self._node = node
        self._inner = inner

    async def call(self, commands: Sequence[Command]) -> list[RedisReply]:
        try:
            return await self._inner.call(commands)
        except RedisUnavailable as fault:
            self._client.learn(self._node, fault)
            raise


class _SessionScope(AbstractAsyncContextManager[Session]):
    __slots__ = ("_client", "_inner", "_key", "_slot")

    def __init__(self, client: ClusterClient, slot: int, key: str) -> None:
        self._client = client
        self._slot = slot
        self._key = key

    async def __aenter__(self) -> Session:
        node = await self._client.node_of(self._slot)
        self._inner = node.session(self._key)
        return _Session(self._client, node, await self._inner.__aenter__())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._inner.__aexit__(kind, fault, trace)
