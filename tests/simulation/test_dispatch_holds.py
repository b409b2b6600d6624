"""What is held costs nothing while it waits and goes out in order, in virtual time."""

from __future__ import annotations

import pytest
import trio
from msgspec.structs import replace

from gateway.core.campaigns.send_windows import Hours
from gateway.core.events import Released
from gateway.dispatch.jobs import feeder
from gateway.redis.replies import as_list
from gateway.store.keys import keys_of
from gateway.store.messages.apply import Item
from gateway.store.shared_keys import QUEUES
from gateway.store.waiting import queues
from gateway.store.waiting.lines import FORMER_MAX, Lines
from gateway.store.waiting.queues import lane_queue
from tests.simulation.memory_client import MemoryClient
from tests.simulation.pace import Pace
from tests.worlds.cascade_world import DAYTIME, HOUR, MINUTE, T0, policy

OPENS_S = 5.0
RATE = 200
MANY = 1_200
LATER = T0 + 2 * HOUR
QUEUE = lane_queue("viber", "marketing", "shop")
# Opens five seconds after the worlds begin.
SOON = Hours(MINUTE // 12, 12 * 60 * MINUTE, frozenset(range(7)))


def held_world(**provider: int) -> Pace:
    pace = Pace(0.005, **({"rate": RATE, "batch": 100} | provider))
    pace.store.lines.most = FORMER_MAX  # as where there are many shards
    pace.store.policy = policy(send_window=replace(DAYTIME, hours=SOON))
    return pace


async def lane_length(pace: Pace) -> int:
    (length,) = await pace.store.redis.call([("XLEN", keys_of(0).lane("viber", "marketing"))])
    assert isinstance(length, int)
    return length


@pytest.mark.parametrize("dispatchers", [1, 2])
def test_what_opens_at_one_moment_goes_out_in_order_and_no_faster_than_lanes_bear(
    dispatchers: int,
) -> None:
    pace = held_world()
    ids: list[str] = []
    lengths: list[int] = []

    async def work() -> None:
        ids.extend(await pace.admit(MANY))
        await trio.sleep(OPENS_S - 1)
        assert pace.arrived == []
        assert await lane_length(pace) == 0
        for _ in range(10):
            await trio.sleep(0.5)
            lengths.append(await lane_length(pace))
        await trio.sleep(MANY / RATE)

    pace.run(work, dispatchers)
    sent = [id_ for _, _, id_ in pace.arrived]
    assert sorted(sent) == sorted(ids), "each once"
    assert min(at for at, _, _ in pace.arrived) >= OPENS_S
    assert max(lengths) <= RATE * feeder.AHEAD_S
    if dispatchers == 1:  # of two each has some at hand
        assert sent == sorted(ids)


def test_what_opens_of_one_app_waits_a_turn_and_not_for_all_that_opened_of_another() -> None:
    pace = held_world()
    small: list[str] = []

    async def work() -> None:
        await trio.sleep(1.5)  # a dispatcher has looked at the lines
        await pace.admit(MANY, app="shop")
        small.extend(await pace.admit(10, app="bank"))
        await trio.sleep(OPENS_S + MANY / RATE)

    pace.run(work)
    assert max(places_of(small, pace)) < MANY / 4


def test_apps_that_share_a_line_take_turns_in_what_opens() -> None:
    """There are more apps than lines, so that several stand in one."""
    pace, apps = held_world(), FORMER_MAX + 16
    ids: dict[int, list[str]] = {}

    async def work() -> None:
        await trio.sleep(1.5)
        for app in range(apps):
            count = 3 if app == apps - 1 else MANY // 12
            ids[app] = await pace.admit(count, app=f"app-{app:02}")
        await trio.sleep(OPENS_S + 6)

    pace.run(work)
    sent = {id_ for _, _, id_ in pace.arrived}
    counts = [len(sent.intersection(of_app)) for of_app in ids.values()]
    assert counts[-1] == 3, "who had little waited for none of another's lot"
    assert min(counts[:-1]) >= 10, "nobody waited for all of another's"


def test_what_comes_into_a_shared_line_waits_for_what_its_lane_sends_within_seconds() -> None:
    pace, apps = held_world(), FORMER_MAX + 1
    late: list[str] = []

    async def work() -> None:
        await trio.sleep(1.5)
        for app in range(FORMER_MAX):
            await pace.admit(MANY // 8, app=f"app-{app:02}")
        await trio.sleep(OPENS_S)
        late.extend(await pace.admit(3, app=f"app-{apps:02}"))
        await trio.sleep(feeder.AHEAD_S + 2)

    pace.run(work)
    assert {id_ for _, _, id_ in pace.arrived}.issuperset(late)


def test_what_waits_of_many_apps_is_looked_at_together() -> None:
    pace = held_world()
    calls: dict[int, int] = {}

    async def count(apps: int) -> None:
        for app in range(apps):
            at_ms = pace.clock() + HOUR
            await pace.admit(1, app=f"app-{app}", not_before_ms=at_ms)
        await trio.sleep(1.0)
        before = pace.weather.calls
        await trio.sleep(10.0)
        calls[apps] = pace.weather.calls - before

    async def work() -> None:
        await trio.sleep(0.5)
        await count(1)
        await count(60)

    pace.run(work)
    assert calls[60] < 1.2 * calls[1]


@pytest.mark.parametrize("app", ["shop: eu", "lane:viber:marketing", "магазин", ":"])
def test_what_opens_of_an_app_goes_out_whatever_it_is_called(app: str) -> None:
    pace = held_world()
    ids: list[str] = []

    async def work() -> None:
        ids.extend(await pace.admit(3, app=app))
        await trio.sleep(OPENS_S + 2)

    pace.run(work)
    assert sorted(id_ for _, _, id_ in pace.arrived) == sorted(ids)


def test_what_opens_does_not_wait_for_what_another_app_has_in_the_lane() -> None:
    pace = Pace(0.005, rate=RATE, batch=100)
    small: list[str] = []

    async def work() -> None:
        await trio.sleep(1.5)
        await pace.admit(2 * MANY, app="shop")
        at_ms = pace.clock() + 1_000
        small.extend(await pace.admit(10, app="bank", not_before_ms=at_ms))
        await trio.sleep(2 * MANY / RATE + 2)

    pace.run(work)
    assert max(places_of(small, pace)) < MANY


def test_what_a_dispatcher_releases_first_goes_into_the_line_of_its_app() -> None:
    """Its process has enqueued nothing of that app before."""
    pace = Pace(0.005, rate=RATE, batch=100)

    async def work() -> None:
        await trio.sleep(1.5)
        await pace.admit(1, app="shop")
        at_ms = pace.clock() + 1_000
        (held,) = await pace.admit(1, app="bank", not_before_ms=at_ms)
        pace.store.lines = Lines()
        pace.store.lines.count = 2
        await pace.store.apply([Item(held, Released())], at_ms)
        names = [keys_of(0).lane("viber", "marketing", line) for line in (0, 1)]
        found.extend(await pace.store.redis.call([("XLEN", name) for name in names]))

    found: list[object] = []
    pace.run(work)
    assert found[1] == 1


def test_what_waits_in_a_lanes_queue_of_before_is_released_and_leaves_it() -> None:
    """All apps had one queue a lane."""
    pace, before = held_world(), "lane:viber:marketing"

    async def work() -> None:
        redis = pace.store.redis
        ids = await pace.admit(3, app="shop") + await pace.admit(3, app="bank")
        for name in (QUEUE, lane_queue("viber", "marketing", "bank")):
            (moved,) = await redis.call([("ZRANGEBYSCORE", keys_of(0).held(name), "-inf", "+inf")])
            await redis.call([("DEL", keys_of(0).held(name))])
            pairs = [part for id_ in as_list(moved) for part in (T0 + int(OPENS_S * 1_000), id_)]
            await redis.call([("ZADD", keys_of(0).held(before), *pairs)])
        await redis.call([("ZADD", QUEUES, T0, before)])
        await trio.sleep(OPENS_S + 2)
        assert sorted(id_ for _, _, id_ in pace.arrived) == sorted(ids)
        assert await queues.due(redis, 0, before, LATER, 10) == []

    pace.run(work)


def places_of(ids: list[str], pace: Pace) -> list[int]:
    """Which of all that were sent they were."""
    sent = [id_ for _, _, id_ in pace.arrived]
    return [sent.index(id_) for id_ in ids]


def test_nothing_is_asked_of_redis_for_what_waits() -> None:
    """A look a dispatcher and second at what is due, however many wait."""
    pace = held_world()
    calls: dict[int, int] = {}

    async def count(more: int) -> None:
        await pace.admit(more)
        before = pace.weather.calls
        await trio.sleep(1.5)
        calls[more] = pace.weather.calls - before

    async def work() -> None:
        await trio.sleep(0.5)
        await count(1)
        await count(2_000)

    pace.run(work)
    assert calls[2_000] < 1.5 * calls[1]


def test_a_dispatcher_that_dies_is_followed_by_another_that_feeds() -> None:
    pace = held_world()

    async def work() -> None:
        await pace.store.redis.call([("SET", keys_of(0).feeder(queues.KINDS), "dead", "PX", 7_000)])
        await pace.admit(10)
        await trio.sleep(OPENS_S + 1.5)
        assert pace.arrived == []
        await trio.sleep(2.0)

    pace.run(work)
    assert len(pace.arrived) == 10


def test_a_message_that_is_gone_leaves_the_queue() -> None:
    pace = held_world()

    async def work() -> None:
        (id_,) = await pace.admit(1)
        await pace.store.redis.call([("DEL", keys_of(0).message(id_))])
        await trio.sleep(OPENS_S + 2)
        assert await queues.due(pace.store.redis, 0, QUEUE, pace.clock(), 1) == []

    pace.run(work)


def test_the_name_of_a_queue_that_nobody_uses_is_dropped_once_it_is_empty() -> None:
    pace = held_world()

    async def names() -> object:
        (found,) = await pace.store.redis.call([("ZRANGEBYSCORE", QUEUES, "-inf", "+inf")])
        return found

    async def work() -> None:
        await pace.admit(1)
        assert await names() == [QUEUE.encode()]
        await pace.store.queues.forget(pace.store.redis, 1, LATER)
        assert await names() == [QUEUE.encode()], "something is held there"
        await trio.sleep(OPENS_S + 2)
        await pace.store.queues.forget(pace.store.redis, 1, LATER)
        assert await names() == []

    pace.run(work)


def test_the_name_of_a_queue_that_is_used_again_while_it_is_looked_at_stays() -> None:
    pace = held_world()
    calls = 0

    async def learns_elsewhere() -> None:
        """Another process puts something in, after the looks and before the drop."""
        nonlocal calls
        calls += 1
        if calls == 4:
            await pace.store.redis.call([("ZADD", QUEUES, LATER, QUEUE)])
        await trio.lowlevel.checkpoint()

    async def work() -> None:
        redis = MemoryClient(pace.weather, learns_elsewhere)
        await pace.store.redis.call([("ZADD", QUEUES, T0, QUEUE)])
        await pace.store.queues.forget(redis, 1, LATER)
        await pace.store.queues.look(pace.store.redis, LATER)
        assert pace.store.queues.names == [QUEUE]

    pace.run(work)


def test_names_that_nobody_uses_are_dropped_while_others_are_said_all_the_time() -> None:
    """As where hundreds of apps hold messages, each in queues of its own."""
    pace, calls = held_world(), 0
    other = lane_queue("viber", "otp", "bank")

    async def says_elsewhere() -> None:
        nonlocal calls
        calls += 1
        if calls % 10 == 0:
            await pace.store.redis.call([("ZADD", QUEUES, LATER + calls, other)])
        await trio.lowlevel.checkpoint()

    async def work() -> None:
        redis = MemoryClient(pace.weather, says_elsewhere)
        names = [lane_queue("viber", "marketing", f"app-{n}") for n in range(50)]
        pairs = [part for name in names for part in (T0, name)]
        await pace.store.redis.call([("ZADD", QUEUES, *pairs), ("ZADD", QUEUES, LATER, other)])
        await pace.store.queues.forget(redis, 1, LATER)
        await pace.store.queues.look(pace.store.redis, pace.clock())
        assert pace.store.queues.names == [other]

    pace.run(work)


@pytest.mark.parametrize("name", ["batch:viber", "lane:viber", "lane:viber:marketing:shop:3", ""])
def test_a_queue_of_a_kind_that_is_not_known_stops_nobody(name: str) -> None:
    pace = held_world()

    async def work() -> None:
        await pace.store.redis.call([("ZADD", QUEUES, T0, name)])
        await pace.admit(10)
        await trio.sleep(OPENS_S + 1.5)

    pace.run(work)
    assert len(pace.arrived) == 10
