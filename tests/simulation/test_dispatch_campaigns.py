"""Campaigns that are paused, resumed, cancelled and paced, by real dispatchers in virtual time."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from gateway.core.addresses import Addresses
from gateway.core.campaigns.campaigns import Campaign
from gateway.core.events import Cancelled, Reported
from gateway.core.holding import ZONE_UNKNOWN
from gateway.core.records.content import NO_WORDS
from gateway.core.records.held import Held
from gateway.core.records.message import MESSAGE_NAMES, Message
from gateway.core.records.user import StoredUser
from gateway.dispatch.jobs import feeder
from gateway.store.campaigns import cancelling, declarations
from gateway.store.campaigns.declarations import KNOWN_EVERYWHERE_MS
from gateway.store.installation.audit import Deed
from gateway.store.keys import keys_of
from gateway.store.messages import reads
from gateway.store.messages.apply import Item
from gateway.store.people import users
from gateway.store.people.users import UserChange
from gateway.store.waiting import queues, zones
from providers.contract import Receipt
from ratelimit.limiter import PACE_QUANTUM_US
from tests.simulation.pace import Pace
from tests.store.requests import test_contents as contents
from tests.worlds.cascade_world import DAYTIME, MINUTE
from tests.worlds.dispatch_limiter import SECOND
from tests.worlds.dispatch_world import sends_to

NAME = "autumn"
RATE = 100
KNOWN_S = 2.0  # everywhere


class Campaigns:
    """A world with a campaign and one that is none."""

    def __init__(self, rate: int = RATE) -> None:
        self.pace = Pace(0.005, rate=rate, batch=100)

    async def declare(self, **changes: Any) -> None:
        def decide(before: Campaign | None, words: bytes) -> tuple[Campaign, bytes]:
            return replace(before or Campaign(), **changes), words

        deed = Deed(self.pace.clock(), "shop", "campaign", NAME)
        await declarations.change(self.pace.store.redis, 1, NAME, decide, lambda _: deed)
        await self.pace.store.look_at_campaigns(self.pace.clock())

    async def cancel(self) -> None:
        await self.declare(state="cancelled", cancelled_ms=self.pace.clock())

    async def messages(self, ids: list[str]) -> list[Message]:
        found = await reads.messages(self.pace.store, 0, ids)
        return [message for message in found.values() if message is not None]

    async def statuses(self, ids: list[str]) -> Counter[str]:
        return Counter(MESSAGE_NAMES[m.status] for m in await self.messages(ids))

    async def counts(self) -> dict[str, int]:
        return dict(+(await declarations.counts(self.pace.store.redis, 1, [NAME]))[NAME])

    def sent_after(self, moment: float) -> list[str]:
        return [id_ for at, _, id_ in self.pace.arrived if at > moment]


def test_a_pause_holds_what_waits_and_a_resume_sends_it_once_and_in_order() -> None:
    world = Campaigns()
    ids: list[str] = []
    paused_at: list[float] = []

    async def work() -> None:
        await world.declare(state="running")
        ids.extend(await world.pace.admit(600))
        await trio.sleep(2.0)
        await world.declare(state="paused")
        await trio.sleep(KNOWN_S)
        paused_at.append(trio.current_time())
        ids.extend(await world.pace.admit(50))
        await trio.sleep(6.0)
        assert world.sent_after(paused_at[0]) == []
        (left,) = await world.pace.store.redis.call(
            [("XLEN", keys_of(0).lane("viber", "marketing"))]
        )
        assert left == 0, "what was in the lane waits apart and costs nothing"
        counts = await world.counts()
        assert counts["held"] + counts["sent"] == counts["accepted"] == 650
        assert counts["held"] > 300
        await world.declare(state="running")
        await trio.sleep(10.0)

    world.pace.run(work, 2)
    sent = [id_ for _, _, id_ in world.pace.arrived]
    assert sorted(sent) == sorted(ids), "each once"


def test_a_resume_fills_the_lane_no_further_than_its_provider_bears() -> None:
    world = Campaigns(rate=20)
    lengths: list[Any] = []

    async def work() -> None:
        await world.declare(state="paused")
        await world.pace.admit(1_500)
        await world.declare(state="running")
        for _ in range(8):
            await trio.sleep(1.0)
            lane = keys_of(0).lane("viber", "marketing")
            lengths.extend(await world.pace.store.redis.call([("XLEN", lane)]))

    world.pace.run(work)
    assert max(lengths) <= feeder.LANE_MIN + feeder.TOGETHER


def test_others_go_on_at_the_full_rate_behind_a_paused_campaign() -> None:
    world = Campaigns()

    async def work() -> None:
        await world.declare(state="paused")
        await world.pace.admit(1_000)
        others = await world.pace.admit(100, campaign="winter")
        await trio.sleep(1.5)
        sent = {id_ for _, _, id_ in world.pace.arrived}
        assert set(others) == sent

    world.pace.run(work)


def test_a_cancel_ends_all_that_is_not_final_and_what_is_out_still_counts() -> None:
    world = Campaigns()

    async def work() -> None:
        await world.declare(state="running")
        ids = await world.pace.admit(500)
        await trio.sleep(1.5)
        await world.cancel()
        await trio.sleep(KNOWN_S)
        told = trio.current_time()
        await trio.sleep(KNOWN_EVERYWHERE_MS / 1000 + 2.0)
        assert world.sent_after(told) == []
        assert await cancelling.left(world.pace.store.redis, 1, [NAME]) == {NAME: 0}
        assert await world.statuses(ids) == {"cancelled": 500}
        assert await world.counts() == {"accepted": 500, "cancelled": 500}
        reasons = {message.reason for message in await world.messages(ids)}
        assert reasons == {"campaign_cancelled"}
        # One that was out arrives after all: it is billed, and stays cancelled.
        first = world.pace.arrived[0][2]
        receipt = Receipt("delivered", f"{first}.0")
        await world.pace.store.apply(
            [Item(first, Reported(0, receipt, "viber"))], world.pace.clock()
        )
        (message,) = await world.messages([first])
        assert message.billed is not None

    world.pace.run(work, 2)


def test_what_waits_for_its_moment_is_cancelled_within_two_seconds() -> None:
    world = Campaigns()

    async def work() -> None:
        redis = world.pace.store.redis
        await world.declare(start_ms=world.pace.clock() + 60 * MINUTE)
        ids = await world.pace.admit(500)
        await trio.sleep(1.5)
        await world.cancel()
        await trio.sleep(KNOWN_S)
        assert await world.statuses(ids) == {"cancelled": 500}
        assert await cancelling.left(redis, 1, [NAME]) == {NAME: 1}
        await trio.sleep(KNOWN_EVERYWHERE_MS / 1000)
        assert await cancelling.left(redis, 1, [NAME]) == {NAME: 0}

    world.pace.run(work, 2)


def test_a_cancel_that_is_broken_off_goes_on_where_somebody_else_begins() -> None:
    world = Campaigns()

    async def work() -> None:
        store = world.pace.store
        await world.declare(state="paused")
        ids = await world.pace.admit(500)
        await store.redis.call([("SET", keys_of(0).feeder(queues.KINDS), "dead", "PX", 4_000)])
        await world.cancel()
        # It dies when it has cancelled some of them.
        event = Cancelled(reason="campaign_cancelled")
        await store.apply([Item(id_, event) for id_ in ids[:100]], world.pace.clock())
        assert await cancelling.left(store.redis, 1, [NAME]) == {NAME: 1}
        await trio.sleep(4.0 + KNOWN_EVERYWHERE_MS / 1000 + 2.0)
        assert await world.statuses(ids) == {"cancelled": 500}
        assert await world.counts() == {"accepted": 500, "cancelled": 500}

    world.pace.run(work)


@pytest.mark.parametrize("redis_s", [0.0005, 0.02], ids=["a quick Redis", "a slow one"])
@pytest.mark.parametrize("per_s", [3, 60])
def test_a_pace_is_kept_by_all_dispatchers_together_and_evenly(per_s: int, redis_s: float) -> None:
    """Within 2 %, but for what goes together at either end, and in no time more than it says and a
    second's worth. Its feeder comes late where a commit takes half a second."""
    world = Campaigns(rate=1_000)

    async def work() -> None:
        await world.declare(pace_per_min=per_s * 60)
        await world.pace.admit(35 * per_s)
        world.pace.weather.least_s = redis_s
        await trio.sleep(35.0)

    world.pace.run(work, 2)
    times = sorted(at for at, _, _ in world.pace.arrived)
    together = per_s * PACE_QUANTUM_US / SECOND + 1
    assert sum(3.0 <= at < 33.0 for at in times) >= 0.98 * 30 * per_s - together
    for span_s in (0.1, 0.9, 5.0, 30.0):
        most = max(bisect_left(times, at + span_s) - n for n, at in enumerate(times))
        assert most <= per_s * (span_s + 1)


def test_a_paused_message_expires_at_its_end_and_says_why() -> None:
    world = Campaigns()

    async def work() -> None:
        await world.declare(state="paused")
        ids = await world.pace.admit(3, ttl_ms=MINUTE // 30)
        await trio.sleep(4.0)
        (message, *_) = await world.messages(ids)
        assert (MESSAGE_NAMES[message.status], message.reason) == ("expired", "paused")
        assert await world.counts() == {"accepted": 3, "expired": 3}

    world.pace.run(work)


def test_content_that_changes_while_messages_wait_changes_none_of_them() -> None:
    world = Campaigns()
    said: dict[str, str] = {}

    async def work() -> None:
        store, people = world.pace.store, iter(range(79_150_000_000, 79_160_000_000))
        await world.declare(state="paused")
        for turn in range(6):
            await contents.declare(store, NAME, content={"text": f"{turn} {{{{name}}}}"})
            plain = sends_to(store, people, 60, world.pace.clock(), content=NO_WORDS)
            wanted = [await contents.with_sayings(store, each, {"name": each.id}) for each in plain]
            await store.admit(wanted, world.pace.clock())
            said.update((each.id, f"{turn} {each.id}") for each in wanted)
            if turn == 2:
                await world.declare(state="running")
            await trio.sleep(0.5)
        await contents.declare(store, NAME)
        await trio.sleep(10.0)

    world.pace.run(work, 2)
    sent = [each for batch in world.pace.provider.batches for each in batch]
    assert {each.ref.partition(".")[0]: each.text for each in sent} == said
    assert len(sent) == len(said)


def test_while_nothing_is_due_no_lane_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Campaigns()
    looked: list[Any] = []
    room = feeder._room

    async def asked(*about: Any) -> int:
        looked.append(about)
        return await room(*about)

    monkeypatch.setattr(feeder, "_room", asked)

    async def work() -> None:
        await world.declare(state="paused")
        await world.pace.admit(2)
        at_ms = world.pace.clock() + MINUTE
        others = await world.pace.admit(2, campaign="winter", not_before_ms=at_ms)
        await trio.sleep(50.0)
        assert looked == []
        await trio.sleep(15.0)
        assert looked
        assert sorted(world.sent_after(0)) == sorted(others)

    world.pace.run(work)


def test_a_start_that_is_moved_nearer_or_away_is_asked_again_of_what_waits() -> None:
    world = Campaigns()

    async def work() -> None:
        start_ms = world.pace.clock() + 60 * MINUTE
        await world.declare(start_ms=start_ms)
        ids = await world.pace.admit(300)
        own = await world.pace.admit(20, not_before_ms=start_ms - 1)
        await trio.sleep(2.0)
        sooner_ms = world.pace.clock() + 10_000
        await world.declare(start_ms=sooner_ms, moved_ms=world.pace.clock())
        await trio.sleep(9.0)
        assert world.pace.arrived == []
        held = {message.held for message in await world.messages(ids + own)}
        assert held == {Held("scheduled", sooner_ms), Held("scheduled", start_ms - 1)}
        await trio.sleep(8.0)
        assert sorted(world.sent_after(0)) == sorted(ids)
        await world.declare(start_ms=0, moved_ms=world.pace.clock())
        await trio.sleep(8.0)
        assert len(world.pace.arrived) == 300, "the others have a moment of their own"
        calls = world.pace.weather.calls
        await trio.sleep(5.0)
        assert world.pace.weather.calls - calls < 5 * 60, "nothing is asked over and over"

    world.pace.run(work)


def test_a_window_that_is_taken_away_lets_out_what_waits_for_it() -> None:
    world = Campaigns()
    windows = replace(world.pace.store.policy, send_windows={"daytime": DAYTIME})
    world.pace.store.policy = windows

    async def work() -> None:
        await world.declare(send_window="daytime")
        ids = await world.pace.admit(10)
        others = await world.pace.admit(5)
        await world.pace.store.apply([Item(id_, Cancelled()) for id_ in others], world.pace.clock())
        await trio.sleep(2.0)
        await world.declare(send_window=None, moved_ms=world.pace.clock())
        await trio.sleep(KNOWN_EVERYWHERE_MS / 1000 + 2.0)
        assert sorted(world.sent_after(0)) == sorted(ids)

    world.pace.run(work)


def test_steps_that_follow_use_no_place_in_the_pace_when_a_pause_ends() -> None:
    world = Campaigns()

    async def work() -> None:
        await world.declare(state="running")
        tried = await world.pace.admit(60)
        await trio.sleep(2.0)
        await world.declare(state="paused", pace_per_min=60)
        await world.pace.admit(5)
        failed = [
            Item(id_, Reported(0, Receipt("undelivered", f"{id_}.0"), "viber")) for id_ in tried
        ]
        await world.pace.store.apply(failed, world.pace.clock())
        await world.declare(state="running")
        await trio.sleep(3.0)
        lane = keys_of(0).lane("sms", "marketing")
        first = keys_of(0).held(queues.campaign_queue(NAME))
        followed, waiting = await world.pace.store.redis.call(
            [("XLEN", lane), ("ZRANGEBYSCORE", first, "-inf", "+inf")]
        )
        assert followed == 60, "they went on at once"
        assert isinstance(waiting, list)
        assert 0 < len(waiting) < 5, "first steps go out one a second"

    world.pace.run(work)


@pytest.mark.parametrize(
    "declared",
    [
        {"state": "paused"},
        {"send_window": "daytime"},
        {"start_ms": 2**52},
        {"pace": "6/m", "pace_per_min": 6},
        {},
    ],
    ids=["paused", "send_window", "start", "pace", "in its lane"],
)
@pytest.mark.parametrize("ahead_s", [-1, 8], ids=["past", "to come"])
def test_an_end_that_is_moved_nearer_ends_all_that_waits(
    declared: dict[str, Any], ahead_s: int
) -> None:
    world = Campaigns(rate=1)
    world.pace.store.policy = replace(world.pace.store.policy, send_windows={"daytime": DAYTIME})

    async def work() -> None:
        await world.declare(**declared)
        ids = await world.pace.admit(300)
        await trio.sleep(2.0)
        now_ms = world.pace.clock()
        await world.declare(start_ms=0, end_ms=now_ms + 1000 * ahead_s, moved_ms=now_ms)
        await trio.sleep(max(ahead_s, 0) + KNOWN_EVERYWHERE_MS / 1000 + 2.0)
        gone = world.sent_after(0)
        await trio.sleep(30.0)
        assert world.sent_after(0) == gone, "nothing leaves once it is over"
        if declared:  # what waits in a lane ends as it is met there
            waited = await world.messages([id_ for id_ in ids if id_ not in gone])
            told = {(MESSAGE_NAMES[message.status], message.reason) for message in waited}
            assert told == {("expired", "campaign_ended")}

    world.pace.run(work)


def test_what_waits_for_a_zone_only_later_is_told_the_one_that_is_stored_by_then() -> None:
    """Found by the storms (seed 710, 2026-11-29): it waited for its campaign, or for a budget, when
    the zone was stored, and for the zone from then on."""
    world = Campaigns()
    hold = replace(DAYTIME, unknown_zone="hold", country_zones={})
    world.pace.store.policy = replace(world.pace.store.policy, send_windows={"day": hold})

    async def work() -> None:
        store, clock = world.pace.store, world.pace.clock
        await world.declare(state="paused", send_window="day")
        (waits,) = await world.pace.admit(1, user="u1", route="viber-only")
        there = StoredUser("shop", clock(), tz="Pacific/Auckland")
        change = UserChange("u1", "", Addresses(), lambda _: there)
        (kept,) = await users.change(store, [change], clock())
        await store.apply(await zones.stored(store, {"u1": kept}), clock())
        await world.declare(state="running", send_window="day")
        await trio.sleep(5.0)
        (message,) = await world.messages([waits])
        assert message.tz == "Pacific/Auckland"
        assert message.held != ZONE_UNKNOWN

    world.pace.run(work)
