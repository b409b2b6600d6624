"""The link to a Redis Cluster: one `SharedLink` a master, and the knowledge of who serves what.

Owns the sharing out of a call to nodes and the map of slots. It awaits only its `Driver`, so it
must not import asyncio or trio; it must not know keys or scripts.

The map is read from any node that answers: at the start, every LOOK_S, and soon after anything that
hints at a change (MOVED, CLUSTERDOWN, a node that is away), but never more often than every
REFRESH_MIN_S. What a node says in MOVED holds at once, and against the map for HINT_HOLDS_S,
because the node that tells the map may not have heard of the move yet.

A command that was refused because its slot or its master is on the move was not done, and is tried
again, it alone, MOVES_MAX times; what follows it in the call does not wait for it. A key that has
moved ahead of its slot is asked for where it is (ASK). A transaction on a slot that is half moved
works on neither node, and so it waits too. A session does not try again by itself, because what was
read on it must be read again: `transaction.commit` does. After that the caller gets
StoreUnavailable, or OutcomeUnknown when another part of its call was done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from gateway.redis.address import Address, Endpoint
from gateway.redis.client import Limits, Link, Session, Statistics, add_up, move_delay_s
from gateway.redis.cluster_slots import (
    SLOTS,
    Unit,
    batch_of,
    in_full,
    masters_of,
    share_out,
    slot_of,
)
from gateway.redis.connect import Dialler, Driver
from gateway.redis.connection import Command, Outcome, Reply, Tally, Waiter
from gateway.redis.errors import Moved, StoreError, StoreUnavailable
from gateway.redis.multiplexed import SharedLink

REFRESH_MIN_S = 0.25  # between two readings of the map
LOOK_S = 10.0  # between two without a reason
LOOK_AWAY_S = 0.5  # likewise while a master is away, or nobody tells the map
HINT_HOLDS_S = 5.0
HINT_KEEP_S = 30.0  # how long a node is kept that was named, but serves no slot by the map

Start = Callable[[Callable[[], Awaitable[None]]], None]


def make_link(address: Address, limits: Limits, driver: Driver, start: Start) -> Link:
    """The link for an address; `start` runs a task beside the link's user until that is done."""
    if not address.cluster:
        link = SharedLink(address, limits, driver)
        start(link.run)
        return link
    cluster = ClusterLink(address, limits, driver, start)
    start(cluster.run)
    return cluster


class ClusterLink:
    """Implements `gateway.redis.client.Link`; the limits hold for each node. `run` must run beside
    it."""

    def __init__(self, address: Address, limits: Limits, driver: Driver, start: Start) -> None:
        self._address = address
        self._limits = limits
        self._driver = driver
        self._start = start
        self._dialler = Dialler(address, limits, driver, Tally())
        self._map: list[SharedLink | None] = [None] * SLOTS
        self._mapped = False
        self._nodes: dict[Endpoint, SharedLink] = {}
        self._named_at: dict[Endpoint, float] = {}
        self._moved: dict[int, tuple[Endpoint, float]] = {}  # by slot: where to, and since when
        self._leaving: dict[Endpoint, SharedLink] = {}
        self._left = add_up([], connected=False)
        self._turn = 0
        self._fault = "it has not been asked yet"
        self._rung = driver.waiter()
        self._map_waiters: set[Waiter] = set()
        self._closed = False

    # Calls

    async def call(self, commands: Sequence[Command]) -> list[Reply]:
        """See `gateway.redis.client.Link.call`."""
        if len(commands) > self._limits.commands_in_flight_max:
            raise ValueError(
                f"A call of {len(commands)} commands is larger than the link allows "
                f"({self._limits.commands_in_flight_max}); split it."
            )
        return await in_full(commands, self._round, self.wait_for_move)

    async def wait_for_move(self, tries: int) -> None:
        """See `gateway.redis.client.Link.wait_for_move`."""
        await self._driver.sleep(move_delay_s(tries))

    async def _round(self, units: Sequence[Unit]) -> None:
        """Asks every node concerned at the same time; leaves replies and faults in the units."""
        await self._know_map()
        by_node: dict[SharedLink, list[Unit]] = {}
        for unit in units:
            node = self._map[unit.slot] if unit.asked is None else self._node(unit.asked)
            if node is not None:
                by_node.setdefault(node, []).append(unit)
            else:
                unit.fault = self._unserved(unit.slot)
        offers = []
        for node, theirs in by_node.items():
            batch = batch_of(theirs)
            offers.append((node, theirs, batch, node.offer(batch)))
        for node, theirs, batch, waiter in offers:
            outcome: Outcome
            try:
                outcome = await (node.call(batch) if waiter is None else waiter)
            except StoreError as fault:
                outcome = fault
            share_out(theirs, outcome)
            for unit in theirs:
                if isinstance(unit.fault, StoreUnavailable):
                    unit.asked = self.learn(node, unit.fault)

    def learn(self, node: SharedLink, fault: StoreUnavailable) -> Endpoint | None:
        """Takes from a node's refusal who serves a slot; returns whom to ask this time only."""
        self._look_soon()
        if self._closed or not isinstance(fault, Moved):
            return None
        named = Endpoint(host=fault.host or node.place.host, port=fault.port)
        now = self._named_at[named] = self._driver.now()
        if fault.asking:
            return named
        self._moved[fault.slot] = named, now
        self._map[fault.slot] = self._node(named)
        return None

    def _unserved(self, slot: int) -> StoreUnavailable:
        self._look_soon()
        return StoreUnavailable(
            f"No node of the cluster at {self._address.label} serves slot {slot}: give it to one "
            "with redis-cli --cluster fix.",
            again=True,
        )

    # Sessions

    def session(self, key: str, /) -> AbstractAsyncContextManager[Session]:
        """See `gateway.redis.client.Link.session`."""
        return _Scope(self, slot_of(key), key)

    async def node_of(self, slot: int) -> SharedLink:
        """The node that serves a slot. Raises StoreUnavailable."""
        await self._know_map()
        node = self._map[slot]
        if node is None:
            raise self._unserved(slot)
        return node

    # The map

    async def run(self) -> None:
        """Keeps the map true until it is cancelled or the link is closed."""
        while not self._closed:
            self._rung = self._driver.waiter()
            await self._refresh()
            self._close_idle()
            await self._driver.sleep(REFRESH_MIN_S)
            well = not self._fault and all(node.connected for node in self._nodes.values())
            await self._driver.wait(self._rung, LOOK_S if well else LOOK_AWAY_S)

    def _look_soon(self) -> None:
        if not self._rung.done():
            self._rung.set_result(None)

    async def _know_map(self) -> None:
        if self._mapped and not self._closed:
            return
        if not self._closed:
            waiter = self._driver.waiter()
            self._map_waiters.add(waiter)
            try:
                await self._driver.wait(waiter, self._limits.down_wait_s)
            finally:
                self._map_waiters.discard(waiter)
        if self._closed:
            raise StoreUnavailable("The link to Redis is closed.")
        if not self._mapped:
            raise StoreUnavailable(
                f"The cluster at {self._address.label} is away ({self._fault}). The link goes on "
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
                answer = await self._dialler.ask_node(place, ("CLUSTER", "SLOTS"))
            except StoreUnavailable as fault:
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
        table: list[SharedLink | None] = [None] * SLOTS
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
        self._wake()

    def _wake(self) -> None:
        for waiter in self._map_waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _node(self, place: Endpoint) -> SharedLink:
        node = self._nodes.get(place)
        if node is None:
            node = self._leaving.pop(place, None)
            if node is None:
                node = SharedLink(self._address.of_node(place), self._limits, self._driver)
                self._start(node.run)
            self._nodes[place] = node
        return node

    def _close_idle(self) -> None:
        """Closes the links to nodes that serve nothing any more, each once nobody waits for it."""
        for place, node in list(self._leaving.items()):
            if node.idle:
                del self._leaving[place]
                node.close()
                self._left = add_up([self._left, node.statistics()], connected=False)

    # End

    def statistics(self) -> Statistics:
        """The sum over all nodes; connected is who is connected to every master."""
        nodes = [*self._nodes.values(), *self._leaving.values()]
        up = self._mapped and all(node.connected for node in self._nodes.values())
        return add_up([self._left, *(node.statistics() for node in nodes)], connected=up)

    async def aclose(self) -> None:
        """See `gateway.redis.client.Link.aclose`."""
        self._closed = True
        self._look_soon()
        self._wake()
        for node in [*self._nodes.values(), *self._leaving.values()]:
            node.close()
        await self._driver.settle()


class _Session:
    __slots__ = ("_inner", "_link", "_node")

    def __init__(self, link: ClusterLink, node: SharedLink, inner: Session) -> None:
        self._link = link
        self._node = node
        self._inner = inner

    async def call(self, commands: Sequence[Command]) -> list[Reply]:
        try:
            return await self._inner.call(commands)
        except StoreUnavailable as fault:
            self._link.learn(self._node, fault)
            raise


class _Scope(AbstractAsyncContextManager[Session]):
    __slots__ = ("_inner", "_key", "_link", "_slot")

    def __init__(self, link: ClusterLink, slot: int, key: str) -> None:
        self._link = link
        self._slot = slot
        self._key = key

    async def __aenter__(self) -> Session:
        node = await self._link.node_of(self._slot)
        self._inner = node.session(self._key)
        return _Session(self._link, node, await self._inner.__aenter__())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._inner.__aexit__(kind, fault, trace)
