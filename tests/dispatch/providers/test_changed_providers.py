"""A provider is removed, renamed or retired, and other rows go, while messages are under way."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core import events as ev
from gateway.core.policy import Policy
from gateway.dispatch.jobs import removed_providers
from gateway.dispatch.pauses import Pauses
from gateway.store.keys import keys_of
from gateway.store.messages.apply import Item
from gateway.store.messages.receipts import note_provider_ids, sweep_unmatched, take_receipts
from gateway.store.providers import pauses, providers
from gateway.store.providers.pauses import Pause
from gateway.store.store import Store
from gateway.store.waiting import lanes
from providers.contract import Fault, Receipt
from ratelimit.caps import Cap
from tests.worlds.cascade_world import DAY, MINUTE
from tests.worlds.dispatch_world import (
    DispatchWorld,
    ScriptedProvider,
    dispatching,
    under_trio,
    world,
)

ONE_A_DAY = Cap("one-a-day", 1, DAY, "1d", "marketing", None)


@pytest.fixture(autouse=True)
def sure_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removed_providers, "SURE_S", 0.0)


def under(w: DispatchWorld, rules: Policy) -> Store:
    """The store as a process with another configuration has it."""
    return Store(w.redis, rules, shards=w.store.shards)


def without_viber(w: DispatchWorld) -> dict[str, Any]:
    known = w.store.policy
    steps = {n: tuple(s for s in r if s.providers != ("viber",)) for n, r in known.routes.items()}
    routes = {name: route for name, route in steps.items() if route}
    rules = replace(known, providers={"sms": known.providers["sms"]}, routes=routes)
    return {"store": under(w, rules), "providers": {"sms": w.sms}}


def with_viber_retired(w: DispatchWorld) -> dict[str, Any]:
    known = w.store.policy.providers
    retired = {"viber": replace(known["viber"], retired=True)}
    return {"store": under(w, replace(w.store.policy, providers=known | retired))}


def renamed(rules: Policy, former: str = "viber") -> Policy:
    names = {name: f"{name}-new" if name == former else name for name in rules.providers}
    known = {names[name]: rule for name, rule in rules.providers.items()}
    routes = {
        name: tuple(replace(step, providers=(names[step.providers[0]],)) for step in steps)
        for name, steps in rules.routes.items()
    }
    return replace(rules, providers=known, routes=routes, former={former: names[former]})


def with_viber_renamed(w: DispatchWorld) -> tuple[dict[str, Any], ScriptedProvider]:
    heir = ScriptedProvider("viber-new")
    store = under(w, renamed(w.store.policy))
    return {"store": store, "providers": {"viber-new": heir, "sms": w.sms}}, heir


async def forget(w: DispatchWorld, provider: str) -> None:
    """Nobody has had the provider for long enough."""
    await providers.announce(w.redis, [provider], w.clock() - providers.GONE_AFTER_MS)


@under_trio
async def test_what_waits_for_a_removed_provider_goes_on_with_the_next(redis_url: str) -> None:
    async with world(redis_url, shards=2) as w:
        ids = await w.admit(4)
        ids += await w.admit(2, category="otp", campaign=None)
        await forget(w, "viber")
        await pauses.change(w.redis, "viber", lambda _: Pause("E402", "No credit.", 1_000, 6_000))
        async with dispatching(w, **without_viber(w)):
            await w.until(ids, "rejected", "sent")
        assert await w.lane_entries() == 0
        assert await pauses.read(w.redis) == {}
        message = await w.message(ids[0])
        assert message.steps[0].latest_fault == Fault("provider_removed", "provider_removed", True)
        assert set(w.sms.sent) == set(ids)


@under_trio
async def test_a_provider_that_another_process_has_is_not_removed(redis_url: str) -> None:
    async with world(redis_url) as w:
        deps = w.deps(**without_viber(w))
        await providers.announce(w.redis, ["viber"], w.clock())
        assert await removed_providers.find(deps, sure=True) == []
        w.go_ahead(providers.GONE_AFTER_MS)
        assert await removed_providers.find(deps, sure=True) == ["viber"]
        assert await removed_providers.find(w.deps(), sure=True) == []


@under_trio
async def test_who_is_not_sure_takes_nobody_for_removed(redis_url: str) -> None:
    async with world(redis_url) as w:
        deps = w.deps(**without_viber(w))
        await forget(w, "viber")
        await pauses.change(w.redis, "viber", lambda _: Pause("E402", "No credit.", 1_000, 6_000))
        assert await removed_providers.find(deps, sure=False) == []
        assert await pauses.read(w.redis) != {}


def test_who_just_began_to_look_or_could_not_for_a_while_is_not_sure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While a new provider goes round, who has it may say so a moment after who has it not."""
    monkeypatch.setattr(removed_providers, "SURE_S", 30.0)
    lookout = removed_providers.Lookout(100.0)
    for at in range(100, 130):
        assert not lookout.is_sure(at)
        lookout.looked(at)
    assert lookout.is_sure(130.0)
    lookout.looked(130.0)
    assert not lookout.is_sure(170.0), "Redis was away for 40 s"
    lookout.looked(170.0)
    for at in range(171, 200):
        assert not lookout.is_sure(at)
        lookout.looked(at)
    assert lookout.is_sure(200.0)


@under_trio
async def test_what_a_dead_dispatcher_sent_to_a_removed_provider_ends_by_its_timer(
    redis_url: str,
) -> None:
    async with world(redis_url) as w:
        (id_,) = await w.admit()
        await lanes.ensure_groups(w.redis, 0, [("viber", "marketing")])
        lane = keys_of(0).lane("viber", "marketing")
        (waiting,) = (await lanes.read(w.redis, "dead", [(lane, 1)]))[lane]
        await w.store.apply([Item(id_, ev.Claimed(0), waiting.at)], w.clock())
        await forget(w, "viber")
        async with dispatching(w, **without_viber(w)):
            await w.until([id_], "unknown", "planned")
            assert await w.lane_entries() == 0
            w.go_ahead(16 * MINUTE)
            await w.until([id_], "unknown", "sent")


@under_trio
async def test_a_retired_provider_sends_nothing_and_answers_what_it_is_asked(
    redis_url: str,
) -> None:
    async with world(redis_url) as w:
        waiting, lost = await w.admit(2)
        await w.store.apply([Item(lost, ev.Claimed(0)), Item(lost, ev.LostAnswer(0))], w.clock())
        w.viber.knows[f"{lost}.0"] = Receipt("delivered", ref=f"{lost}.0")
        w.go_ahead(6_000)
        async with dispatching(w, **with_viber_retired(w)):
            await w.until([waiting], "rejected", "sent")
            await w.until([lost], "delivered", "skipped")
        assert w.viber.batches == []


@under_trio
async def test_a_renamed_provider_sends_what_waits_under_its_former_name(redis_url: str) -> None:
    async with world(redis_url, shards=2) as w:
        ids = await w.admit(4)
        ids += await w.admit(2, category="otp", campaign=None)
        changes, heir = with_viber_renamed(w)
        async with dispatching(w, **changes):
            await w.until(ids, "sent", "planned")
            assert await w.lane_entries() == 0
            assert set(heir.sent) == set(ids)
            ref = f"{ids[0]}.0"
            taken = await take_receipts(
                changes["store"], "viber-new", [Receipt("delivered", ref=ref)], w.clock()
            )
            assert taken.applied == 1
            assert (await w.message(ids[0])).steps[0].provider == "viber-new"


@under_trio
async def test_what_waits_under_a_former_name_is_sent_whoever_changed_it_meanwhile(
    redis_url: str,
) -> None:
    """A change goes round: who has the new name takes a receipt of an earlier step, and who has the
    former one still works on the lane."""
    async with world(redis_url) as w:
        (id_,) = await w.admit()
        await w.store.apply([Item(id_, ev.Claimed(0)), Item(id_, ev.LostAnswer(0))], w.clock())
        for _ in range(2):
            w.go_ahead(16 * MINUTE)
            await w.store.apply([Item(id_, ev.TimerDue())], w.clock())
        assert await w.steps(id_) == ["unknown", "queued"]
        store = under(w, renamed(w.store.policy, "sms"))
        receipt = Receipt("undelivered", ref=f"{id_}.0")
        await take_receipts(store, "viber", [receipt], w.clock())

        async def read() -> bool:
            return await w.lane_entries("sms") == 0

        async with dispatching(w):
            await w.until_asked(read)
        heir = ScriptedProvider("sms-new")
        async with dispatching(w, store=store, providers={"viber": w.viber, "sms-new": heir}):
            await w.until([id_], "undelivered", "sent")
        assert w.sms.sent + heir.sent == {id_: 1}


@under_trio
async def test_a_pause_goes_on_under_the_new_name(redis_url: str) -> None:
    async with world(redis_url) as w:
        pause = Pause("E402", "No credit.", w.clock(), w.clock() + DAY)
        await pauses.change(w.redis, "viber", lambda _: pause)
        changes, heir = with_viber_renamed(w)
        ids = await w.admit(2)
        async with dispatching(w, **changes):
            former = changes["store"].policy.former
            assert await pauses.read(w.redis, former) == {"viber-new": pause}
            assert heir.batches == []
        assert await w.steps(ids[0]) == ["queued", "planned"]


@under_trio
async def test_who_has_only_the_former_name_keeps_to_what_operators_say_of_the_new_one(
    redis_url: str,
) -> None:
    """It went on to send by a provider that was paused as soon as the first had the new name."""
    async with world(redis_url) as w:
        await pauses.hold(w.redis, "viber", "billed twice", "ann", w.clock())
        changes, _ = with_viber_renamed(w)
        former = changes["store"].policy.former
        known = Pauses(w.deps())
        async with dispatching(w, **changes):
            await known.refresh()
            assert known.of("viber") is not None
            await pauses.resume(w.redis, "viber-new", "mended", "ann", w.clock(), former)
            await known.refresh()
            assert known.of("viber") is None
            await pauses.hold(w.redis, "viber-new", "again", "ann", w.clock(), former)
            await known.refresh()
            held = known.of("viber")
            assert held is not None
            assert held.detail == "again"
            assert await pauses.read(w.redis, former) == {"viber-new": held}


@under_trio
async def test_a_receipt_by_an_id_that_was_noted_under_the_former_name_is_matched(
    redis_url: str,
) -> None:
    async with world(redis_url, shards=4) as w:
        (id_,) = await w.admit()
        await w.store.apply([Item(id_, ev.Claimed(0)), Item(id_, ev.Accepted(0, "theirs"))], 1)
        await note_provider_ids(w.store, "viber", [("theirs", f"{id_}.0")])
        store = under(w, renamed(w.store.policy))
        for name in ("viber", "viber-new"):
            receipt = Receipt("delivered", provider_id="theirs")
            assert (await take_receipts(store, name, [receipt], w.clock())).applied == 1
        assert await w.steps(id_) == ["delivered", "skipped"]


@under_trio
async def test_a_receipt_that_comes_where_the_new_name_is_not_known_yet_waits_for_who_knows_it(
    redis_url: str,
) -> None:
    """It was dropped: what had arrived was `expired` for good, and its cost in no ledger."""
    async with world(redis_url) as w:
        (id_,) = await w.admit()
        await w.store.apply([Item(id_, ev.Claimed(0)), Item(id_, ev.Accepted(0, "theirs"))], 1)
        store = under(w, renamed(w.store.policy))
        w.go_ahead(16 * MINUTE)
        await store.apply([Item(id_, ev.TimerDue())], w.clock())
        assert await w.steps(id_) == ["expired", "queued"]
        receipt = Receipt("delivered", ref=f"{id_}.0")
        taken = await take_receipts(w.store, "viber", [receipt], w.clock())
        assert (taken.applied, taken.kept, taken.absent) == (0, 1, [])
        w.go_ahead(1_000)
        assert (await sweep_unmatched(w.store, 0, w.clock())).kept == 1
        w.go_ahead(2_000)
        assert (await sweep_unmatched(store, 0, w.clock())).applied == 1
        assert await w.steps(id_) == ["delivered", "skipped"]


@under_trio
async def test_what_is_under_way_needs_no_route_category_cap_or_price(redis_url: str) -> None:
    async with world(redis_url, caps=(ONE_A_DAY,)) as w:
        (id_,) = await w.admit()
        bare = replace(
            w.store.policy, routes={}, categories={}, caps=(), slot_ms={}, quote=lambda *_: None
        )
        store = under(w, bare)
        async with dispatching(w, store=store):
            await w.until([id_], "sent", "planned")
            failed = Receipt("undelivered", ref=f"{id_}.0")
            await take_receipts(store, "viber", [failed], w.clock())
            await w.until([id_], "undelivered", "sent")
            arrived = Receipt("delivered", ref=f"{id_}.1")
            await take_receipts(store, "sms", [arrived], w.clock())
            assert await w.status(id_) == "delivered"
