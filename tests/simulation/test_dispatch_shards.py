"""A shard whose Redis is unavailable stops its own messages only: in virtual time, with two shards.

Every call with a key of that shard fails for a while, and a call for both fails as a whole, as over
a cluster. The messages of the other shard are delivered meanwhile, this one's afterwards, and none
twice.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Literal

import pytest
import trio

from gateway import telemetry
from gateway.core.ids import shard_of_id
from gateway.core.records.message import StepStatus, names_of
from gateway.dispatch.deps import DispatchDeps
from gateway.dispatch.dispatcher import dispatch
from gateway.dispatch.metrics import DispatchMetrics
from gateway.redis.client import Command, RedisReply, Session, Statistics
from gateway.redis.errors import OutcomeUnknown, RedisUnavailable
from gateway.settings.tables import Lanes
from gateway.store.keys import keys_of
from gateway.store.messages import reads
from gateway.store.store import Store
from gateway.store.waiting import lanes
from providers.contract import Outcome, Receipt, Submission, Submitted, Unknown
from tests.simulation.memory_client import MemoryClient, Weather
from tests.simulation.memory_redis import MemoryRedis
from tests.worlds.cascade_world import T0, policy, request
from tests.worlds.dispatch_world import ScriptedProvider
from tests.worlds.virtual_clock import VirtualClock

SHARDS = 2
SICK = 1
TAG = keys_of(SICK).tag
RATE = 30
CLAIM_MAX = 20
OUTAGE_S = 10.0
FOUND_OUT_S = 2.0  # a shard that says nothing is known to be unavailable by then
RECOVERED_S = 12.0  # a call that hangs ends, a delay passes, and what was held up is sent
How = Literal["refuses", "refuses its part", "hangs"]


class SickLink:
    """A Redis client that fails calls with a key of the sick shard while `how` is set."""

    def __init__(self, redis: MemoryClient) -> None:
        self._redis = redis
        self.how: How | None = None

    async def call(self, commands: Sequence[Command]) -> list[RedisReply]:
        if self.how is None or not any(map(is_sick, commands)):
            return await self._redis.call(commands)
        well = [command for command in commands if not is_sick(command)]
        if self.how == "hangs":
            await trio.sleep(5.0)
        if well and self.how != "refuses":
            await self._redis.call(well)
            raise OutcomeUnknown("Some of it was done.")
        await trio.lowlevel.checkpoint()
        raise RedisUnavailable("The master is unavailable.")

    @asynccontextmanager
    async def session(self, key: str, /) -> AsyncIterator[Session]:
        async with self._redis.session(key) as session:
            yield SickSession(self, session, sick=key.startswith(TAG))

    async def wait_for_move(self, tries: int) -> None:
        raise AssertionError("Nothing moves here.")

    def statistics(self) -> Statistics:
        raise NotImplementedError

    async def aclose(self) -> None:
        await self._redis.aclose()


class SickSession:
    def __init__(self, redis: SickLink, session: Session, *, sick: bool) -> None:
        self._redis = redis
        self._session = session
        self._sick = sick

    async def call(self, commands: Sequence[Command]) -> list[RedisReply]:
        if self._sick and self._redis.how is not None:
            await trio.sleep(5.0 if self._redis.how == "hangs" else 0.0)
            raise OutcomeUnknown("The master went away.")
        return await self._session.call(commands)


def is_sick(command: Command) -> bool:
    return any(isinstance(word, str) and word.startswith(TAG) for word in command)


class TwoShards:
    """One dispatcher at one provider; `arrived` is (seconds, message id) in order."""

    def __init__(self) -> None:
        self.provider = ScriptedProvider("viber", rate=RATE, batch=10)
        self.provider.otherwise = self._answer
        self.arrived: list[tuple[float, str]] = []
        self.metrics = DispatchMetrics(telemetry.new_registries())
        server = MemoryRedis(lambda: T0 * 1_000 + round(trio.current_time() * 1e6))
        weather = Weather(server, random.Random(1), lambda _s, _work: None, 0.0005)
        self.redis = SickLink(MemoryClient(weather))
        self.store = Store(MemoryClient(weather), policy(), shards=SHARDS)  # which is never sick
        self._people = itertools.count(79_160_000_000)

    def clock(self) -> int:
        return T0 + round(trio.current_time() * 1000)

    async def _answer(self, batch: Sequence[Submission]) -> list[Outcome]:
        self.arrived += [(trio.current_time(), s.ref.partition(".")[0]) for s in batch]
        await trio.sleep(0.02)
        return [Submitted(s.ref) for s in batch]

    async def admit(self, count: int, shard: int) -> list[str]:
        """Accepts so many messages of a shard."""
        sends = []
        for to in map(str, self._people):
            if self.store.shard_of_home(to) == shard:
                id_ = self.store.new_message_id(to, self.clock())
                sends.append(request(id=id_, to=to))
            if len(sends) == count:
                break
        await self.store.admit(sends, self.clock())
        return [send.id for send in sends]

    def run(self, work: Callable[[], Awaitable[None]]) -> None:
        deps = DispatchDeps(
            store=Store(self.redis, policy(), shards=SHARDS),
            wake_up_link=self.redis,
            providers={"viber": self.provider},
            clock=self.clock,
            consumer="d",
            metrics=self.metrics,
            terms=Lanes(claim_max=CLAIM_MAX),
            stopping=trio.Event(),
        )

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                await nursery.start(dispatch, deps)
                await work()
                deps.stopping.set()

        VirtualClock().run(main)

    def sent(self, shard: int, begin: float, end: float) -> int:
        return sum(begin <= at < end and shard_of_id(id_) == shard for at, id_ in self.arrived)

    async def statuses(self, ids: Sequence[str]) -> Counter[str]:
        found = [await reads.message(self.store, id_) for id_ in ids]
        return Counter(names_of(StepStatus)[m.steps[0].status] for m in found if m is not None)

    def claimed(self) -> float:
        named = {"provider": "viber"}
        return self.metrics.registries.own.get_sample_value("kaskad_dispatch_claimed", named) or 0.0


OUTAGES: list[How] = ["refuses", "refuses its part", "hangs"]


@pytest.mark.parametrize("how", OUTAGES)
def test_the_other_shard_goes_on_and_this_one_follows(how: How) -> None:
    world = TwoShards()
    ids: list[str] = []

    async def work() -> None:
        ids.extend(await world.admit(3 * RATE, SICK))
        ids.extend(await world.admit(14 * RATE, 0))
        await trio.sleep(1.0)
        world.redis.how = how
        await trio.sleep(FOUND_OUT_S)
        found_out = trio.current_time()
        await trio.sleep(OUTAGE_S - FOUND_OUT_S)
        now = trio.current_time()
        assert world.sent(SICK, found_out, now) == 0
        assert world.sent(0, found_out, now) >= 0.95 * RATE * (now - found_out)
        assert world.claimed() <= 2 * CLAIM_MAX
        world.redis.how = None
        await trio.sleep(RECOVERED_S)

    world.run(work)
    assert Counter(id_ for _, id_ in world.arrived) == dict.fromkeys(ids, 1)
    assert trio.run(world.statuses, ids) == {"sent": len(ids)}


@pytest.mark.parametrize("how", OUTAGES)
def test_a_dispatcher_begins_with_the_shards_that_answer(how: How) -> None:
    world = TwoShards()
    world.redis.how = how
    ids: list[str] = []

    async def work() -> None:
        here, there = await world.admit(20, 0), await world.admit(20, SICK)
        ids.extend(here + there)
        await trio.sleep(FOUND_OUT_S)
        assert {id_ for _, id_ in world.arrived} == set(here)
        world.redis.how = None
        await trio.sleep(RECOVERED_S)

    world.run(work)
    assert Counter(id_ for _, id_ in world.arrived) == dict.fromkeys(ids, 1)


def test_lost_answers_of_the_other_shard_are_looked_up_meanwhile() -> None:
    async def lose(batch: Sequence[Submission]) -> list[Outcome]:
        raise Unknown("answer_timeout", "Too slow.")

    world = TwoShards()
    world.provider.otherwise = lose

    async def work() -> None:
        here, there = await world.admit(2, 0), await world.admit(2, SICK)
        for id_ in here + there:
            world.provider.knows[id_ + ".0"] = Receipt(status="sent", ref=id_ + ".0")
        await trio.sleep(2.0)
        assert await world.statuses(here + there) == {"unknown": 4}
        asked_there = trio.Event()
        look_up = world.provider.look_up

        async def look_up_until_sick(refs: Sequence[str]) -> list[Receipt]:
            """The shard goes while the provider is asked about its messages."""
            if any(ref.partition(".")[0] in there for ref in refs) and not asked_there.is_set():
                world.redis.how = "refuses"
                asked_there.set()
            return await look_up(refs)

        world.provider.look_up = look_up_until_sick  # type: ignore[method-assign]
        await asked_there.wait()
        await trio.sleep(20.0)
        assert await world.statuses(here) == {"sent": 2}
        assert await world.statuses(there) == {"unknown": 2}
        world.redis.how = None
        await trio.sleep(20.0)
        assert await world.statuses(there) == {"sent": 2}

    world.run(work)
    assert len(world.provider.refs) == 4


def test_what_the_dead_held_of_the_other_shard_is_taken_over_meanwhile() -> None:
    world = TwoShards()
    ids: list[str] = []

    async def work() -> None:
        for shard in range(SHARDS):
            ids.extend(await world.admit(1, shard))
            lane = keys_of(shard).lane("viber", "marketing")
            await lanes.ensure_groups(world.store.redis, shard, [("viber", "marketing")])
            await lanes.read(world.store.redis, "dead", [(lane, 1)])
        world.redis.how = "hangs"
        await trio.sleep(RECOVERED_S)
        assert [id_ for _, id_ in world.arrived] == ids[:1]
        world.redis.how = None
        await trio.sleep(RECOVERED_S)

    world.run(work)
    assert [id_ for _, id_ in world.arrived] == ids
