"""Budgets over shards and processes: never exceeded, used up to the last unit, and given back."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core import events as ev
from gateway.core.money.budgets import GONE_MS, Budget
from gateway.core.records.held import Held
from gateway.core.records.message import Message
from gateway.core.records.request import Answer, BudgetRefusal
from gateway.redis.replies import as_list
from gateway.redis.trio_driver import open_client
from gateway.store import shared_keys
from gateway.store.keys import keys_of
from gateway.store.messages import reads
from gateway.store.messages.apply import Applied, Item
from gateway.store.money import budgets as kept
from gateway.store.money.budgets import EPOCHS_KEPT, LEASE_MS, READ_MS, Budgets, Reading
from gateway.store.store import Store
from providers.contract import Receipt
from tests.simulation.pace import Pace
from tests.worlds.budget_race import ONE, SHARDS, SHARED, until_refused
from tests.worlds.cascade_world import DAY, T0, policy, request
from tests.worlds.stores import in_store
from tests.worlds.virtual_clock import VirtualClock

SPRING = Budget("spring", 10 * ONE, 30 * DAY, "30d", "refuse", campaign="autumn")
PERSONS = count()


def process(store: Store, *budgets: Budget, shards: int | None = None) -> Store:
    """Another process on the same Redis."""
    rules = replace(policy(), budgets=budgets)
    return Store(store.redis, rules, shards=shards or store.shards)


async def ask(store: Store, number: int, now_ms: int = T0, **fields: Any) -> list[Answer]:
    """So many people's messages in one batch."""
    numbers = [f"7916{next(PERSONS):07d}" for _ in range(number)]
    wanted = [request(id=store.new_message_id(to, now_ms), to=to, **fields) for to in numbers]
    return await store.admit(wanted, now_ms)


def accepted(answers: Sequence[Answer]) -> list[str]:
    return [a.id for a in answers if a.outcome == "accepted" and a.id is not None]


async def stands(store: Store, budget: Budget = SPRING, now_ms: int = T0) -> Reading:
    found = await kept.read(store.redis, [budget], store.shards, now_ms)
    return found[budget.name]._replace(of_leases={})


async def deliver(store: Store, id_: str, step: int = 0, now_ms: int = T0) -> Applied:
    provider = ("viber", "sms")[step]
    receipt = Receipt("delivered", ref=f"{id_}.{step}")
    events: list[ev.Event] = [
        ev.Claimed(step),
        ev.Accepted(step),
        ev.Reported(step, receipt, provider, 0),
    ]
    return (await store.apply([Item(id_, event) for event in events], now_ms))[-1]


async def message_of(store: Store, id_: str) -> Message:
    found = await reads.messages(store, store.shard_of_message(id_), [id_])
    message = found[id_]
    assert message is not None
    return message


def test_it_is_used_up_to_the_last_unit_and_refuses_with_its_numbers(redis_url: str) -> None:
    async def work(store: Store) -> None:
        one = process(store, SPRING)
        answers = await ask(one, 13)
        assert len(accepted(answers)) == 10
        refused = [a for a in answers if a.outcome == "suppressed"]
        assert [(a.reason, a.budget) for a in refused] == [
            ("budget", BudgetRefusal("spring", 10 * ONE, 10 * ONE))
        ] * 3
        assert await stands(one) == Reading(10 * ONE, 0)
        assert accepted(await ask(one, 1, campaign="another")), "it counts its campaign alone"

    in_store(redis_url, work, shards=3)


def test_a_limit_between_two_messages_leaves_the_rest_to_whoever_fits(redis_url: str) -> None:
    async def work(store: Store) -> None:
        budget = replace(SPRING, limit=ONE + 40_000)
        one, other = process(store, budget), process(store, budget)
        assert len(accepted(await ask(one, 2))) == 1
        assert len(accepted(await ask(other, 1, route="sms-only"))) == 1, "what was left is free"
        assert not accepted(await ask(one, 1, route="viber-only"))

    in_store(redis_url, work)


def test_eight_that_race_accept_what_there_is_and_no_more(redis_url: str) -> None:
    """In whatever order their commands come: each goes on until it is refused."""

    async def work(store: Store) -> None:
        budget = replace(SPRING, limit=100 * ONE)
        told: list[str] = []

        async def race(index: int) -> None:
            async with open_client(redis_url) as redis:
                mine = Store(redis, replace(policy(), budgets=(budget,)), shards=store.shards)
                while True:
                    answers = await ask(mine, 1 + index)
                    told.extend(accepted(answers))
                    assert (await stands(mine, budget)).spent <= budget.limit
                    if len(accepted(answers)) < len(answers):
                        return

        async with trio.open_nursery() as nursery:
            for index in range(8):
                nursery.start_soon(race, index)
        assert len(told) == len(set(told)) == 100
        assert await stands(store, budget) == Reading(100 * ONE, 0)

    in_store(redis_url, work, shards=3)


def test_eight_processes_accept_what_there_is_and_no_more(redis_url: str) -> None:
    forks = multiprocessing.get_context("forkserver")  # of a process that has loaded the race
    forks.set_forkserver_preload([until_refused.__module__])
    with ProcessPoolExecutor(8, mp_context=forks) as pool:
        people = [n * 1_000_000 for n in range(8)]
        told = list(pool.map(until_refused, [redis_url] * 8, people))
    assert sum(told) == 60

    async def work(store: Store) -> None:
        assert await stands(store, SHARED) == Reading(SHARED.limit, 0)

    in_store(redis_url, work, shards=SHARDS)


def test_what_former_shards_hold_counts_after_a_copy_with_fewer(redis_url: str) -> None:
    async def work(store: Store) -> None:
        await ask(process(store, SPRING), 10)
        await store.redis.call([("HSET", shared_keys.META, shared_keys.SHARDS_BEFORE_FIELD, "3")])
        fewer = process(store, SPRING, shards=1)
        assert await stands(fewer) == Reading(10 * ONE, 0)
        assert not accepted(await ask(fewer, 1))

    in_store(redis_url, work, shards=3)


def test_what_a_message_did_not_need_is_free_for_another(redis_url: str) -> None:
    async def work(store: Store) -> None:
        one, other = process(store, SPRING), process(store, SPRING)
        ids = accepted(await ask(one, 10))
        assert (await deliver(other, ids[0])).effects.changed
        assert await stands(one) == Reading(9 * ONE, 5_000)
        assert not accepted(await ask(other, 1))
        assert len(accepted(await ask(other, 2, route="sms-only"))) == 1
        await one.apply([Item(ids[1], ev.Cancelled())], T0)
        assert len(accepted(await ask(one, 1))) == 1

    in_store(redis_url, work, shards=3)


def test_a_rolling_window_moves(redis_url: str) -> None:
    async def work(store: Store) -> None:
        one = process(store, SPRING)
        (id_,) = accepted(await ask(one, 1))
        await deliver(one, id_)
        last_ms = SPRING.part_end_ms(T0) + 30 * DAY
        assert (await stands(one, now_ms=last_ms - 1)).used == 5_000
        assert (await stands(one, now_ms=last_ms)).used == 0

    in_store(redis_url, work)


def test_a_full_budget_holds_and_goes_on_when_there_is_room(redis_url: str) -> None:
    async def work(store: Store) -> None:
        holding = replace(SPRING, then="hold", limit=2 * ONE)
        one = process(store, holding)
        answers = await ask(one, 5)
        assert [a.held for a in answers] == [None] * 2 + [Held("budget", budget="spring")] * 3
        waits = sorted(a.id for a in answers if a.held is not None and a.id is not None)
        (found,) = await one.redis.call([("ZRANGE", keys_of(0).held("budget:spring"), 0, -1)])
        assert [each.decode() for each in as_list(found)] == waits
        released = [Item(id_, ev.Released()) for id_ in waits]
        assert not any(a.effects.changed for a in await one.apply(released, T0))
        raised = process(store, replace(holding, limit=4 * ONE))
        applied = await raised.apply(released, T0)
        assert [a.effects.changed for a in applied].count(True) == 2
        assert await stands(one, holding) == Reading(4 * ONE, 0)
        (left,) = await one.redis.call([("ZRANGE", keys_of(0).held("budget:spring"), 0, -1)])
        assert [each.decode() for each in as_list(left)] == waits[2:]

    in_store(redis_url, work)


def test_what_a_process_dies_with_is_free_again_when_its_epoch_is_over(redis_url: str) -> None:
    async def work(store: Store) -> None:
        budget = replace(SPRING, limit=1_000 * ONE)
        dead, other = process(store, budget), process(store, budget)
        assert len(accepted(await ask(dead, 1))) == 1
        leased = shared_keys.leased("spring")
        (fields,) = await store.redis.call([("HGETALL", leased)])
        epoch, granted = as_list(fields)
        assert int(granted) > ONE, "it leased ahead"
        free = (await other.budgets.free(other.redis, [budget], other.shards, T0))["spring"]
        assert free == budget.limit - int(granted)
        await store.redis.call([("HDEL", leased, epoch)])
        await store.redis.call([("HSET", leased, int(epoch) - 3, int(granted))])
        free = (await other.budgets.free(other.redis, [budget], other.shards, T0))["spring"]
        assert free == budget.limit - ONE

    in_store(redis_url, work)


def test_what_is_not_needed_for_a_while_is_given_back(redis_url: str) -> None:
    async def work(store: Store) -> None:
        budget = replace(SPRING, limit=1_000 * ONE)
        one, other = process(store, budget), process(store, budget)
        await ask(one, 1)
        later_ms = T0 + LEASE_MS
        await one.budgets.give_back_old(one.redis, later_ms - 1)
        assert (await other.budgets.free(other.redis, [budget], 1, T0))["spring"] < 999 * ONE
        await one.budgets.give_back_old(one.redis, later_ms)
        later_ms += READ_MS
        assert (await other.budgets.free(other.redis, [budget], 1, later_ms))["spring"] == 999 * ONE

    in_store(redis_url, work)


def test_leases_are_given_back_together_and_by_their_names(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    asked: Any = None

    async def call(commands: Sequence[Any]) -> list[Any]:
        told.append([command[3] for command in commands if command[0] == "EVALSHA"])
        replies: list[Any] = await asked(commands)
        return replies

    async def work(store: Store) -> None:
        nonlocal asked
        asked = store.redis.call
        budgets = [replace(SPRING, name=name, limit=1_000 * ONE) for name in ("b", "c", "a")]
        one, other = process(store, *budgets), process(store, *budgets)
        await ask(one, 1)
        with monkeypatch.context() as patch:
            patch.setattr(one.redis, "call", call)
            await one.budgets.give_back(one.redis, frozenset(("b", "c", "a", "gone")))
        assert told == [[shared_keys.leased(name) for name in "abc"]]
        free = await other.budgets.free(other.redis, budgets, 1, T0)
        assert free == dict.fromkeys("abc", 999 * ONE)

    in_store(redis_url, work)


def test_a_try_that_others_undid_takes_nothing_twice(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(store: Store) -> None:
        one, other = process(store, SPRING), process(store, SPRING)
        await ask(one, 1)
        left = one.budgets.funds(T0).left("spring")
        lease, wanted = one.budgets.lease, f"7916{next(PERSONS):07d}"

        async def meanwhile(*args: Any) -> frozenset[str]:
            """The same person's other campaign comes between the tries."""
            found = await lease(*args)
            between = request(id=other.new_message_id(wanted, T0), to=wanted, campaign="c2")
            await other.admit([between], T0)
            return found

        monkeypatch.setattr(one.budgets, "lease", meanwhile)
        asked = [request(id=one.new_message_id(wanted, T0), to=wanted)]
        assert accepted(await one.admit(asked, T0))
        assert left == one.budgets.funds(T0).left("spring") == 0
        assert await stands(one) == Reading(2 * ONE, 0)

    in_store(redis_url, work)


def test_a_budget_that_is_gone_keeps_its_books_until_nothing_is_reserved(redis_url: str) -> None:
    async def work(store: Store) -> None:
        one = process(store, SPRING)
        ids = accepted(await ask(one, 2))
        await store.redis.call([("HSET", shared_keys.BUDGETS, "spring", 0)])
        renamed = replace(SPRING, name="summer")
        other = process(store, renamed)
        await deliver(other, ids[0])
        assert await stands(other) == Reading(ONE, 5_000)
        assert await stands(other, renamed) == Reading(0, 5_000), "what counts now is used there"
        after_ms = T0 + GONE_MS + 2 * DAY
        await kept.tidy(store.redis, [renamed], store.shards, after_ms)
        assert (await stands(other)).reserved == ONE, "a message has it still"
        await other.apply([Item(ids[1], ev.Cancelled())], T0)
        await kept.tidy(store.redis, [renamed], store.shards, after_ms)
        (left,) = await store.redis.call([("EXISTS", keys_of(0).budget("spring"))])
        (listed,) = await store.redis.call([("HKEYS", shared_keys.BUDGETS)])
        assert (left, listed) == (0, [])

    in_store(redis_url, work)


def test_what_counts_no_more_is_dropped(redis_url: str) -> None:
    async def work(store: Store) -> None:
        one, key = process(store, SPRING), keys_of(0).budget("spring")
        (id_,) = accepted(await ask(one, 1))
        await deliver(one, id_)
        epochs = [f"epoch:{n}" for n in range(10**8, 10**8 + 3)]
        await store.redis.call([("HSET", shared_keys.BUDGETS, "spring", 0)])
        await store.redis.call([("HSET", key, *(p for e in epochs for p in (e, 1)))])
        newest = f"epoch:{10**8 + 2 + EPOCHS_KEPT}"
        await store.redis.call([("HSET", key, newest, 1)])
        part = str(SPRING.part_end_ms(T0))
        await kept.tidy(store.redis, [SPRING], 1, T0 + 40 * DAY)
        (fields,) = await store.redis.call([("HKEYS", key)])
        assert {f.decode() for f in as_list(fields)} == {"reserved", part, epochs[2], newest}
        await kept.tidy(store.redis, [SPRING], 1, T0 + 92 * DAY)
        (fields,) = await store.redis.call([("HKEYS", key)])
        assert {f.decode() for f in as_list(fields)} == {"reserved", epochs[2], newest}

    in_store(redis_url, work)


def test_without_budgets_nothing_is_asked_or_written(redis_url: str) -> None:
    async def work(store: Store) -> None:
        ids = accepted(await ask(store, 2))
        await deliver(store, ids[0])
        (found,) = await store.redis.call([("KEYS", "*budget*")])
        assert found == []
        assert (await message_of(store, ids[1])).reserved == {}
        assert store.budgets.__dict__ == Budgets().__dict__

    in_store(redis_url, work)


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "deliver", "again", "cancel", "release", "die", "later"]),
        st.integers(0, 2),
        st.integers(0, 30),
    ),
    max_size=25,
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(MOVES)
def test_whatever_three_processes_do_it_holds(
    redis_url: str, moves: list[tuple[str, int, int]]
) -> None:
    """The sums are those of the records, and the limit holds but for double deliveries."""

    async def work(store: Store) -> None:
        await store.redis.call([("FLUSHALL",)])
        budget = replace(SPRING, limit=6 * ONE, then="hold")
        running = [process(store, budget) for _ in range(3)]
        ids: list[str] = []
        now_ms, doubled = T0, 0
        for what, which, n in moves:
            one = running[which]
            id_ = ids[n % len(ids)] if ids else ""
            if what == "ask":
                ids += accepted(await ask(one, 1 + n % 4, now_ms))
            elif what == "die":
                running[which] = process(store, budget)
            elif what == "later":
                now_ms += n * 100
                await one.budgets.give_back_old(one.redis, now_ms)
            elif what == "release":
                await one.apply([Item(i, ev.Released()) for i in ids], now_ms)
            elif what == "cancel" and id_:
                await one.apply([Item(id_, ev.Cancelled())], now_ms)
            elif id_:
                was = (await message_of(store, id_)).closed
                step = int(what == "again")
                done = await deliver(one, id_, step, now_ms)
                doubled += sum(move.used for move in done.effects.moves) if was else 0
            records = [await message_of(store, each) for each in ids]
            found = await stands(store, budget, now_ms)
            assert found.reserved == sum(m.reserved.get("spring", 0) for m in records)
            booked = [step.charged or 0 for m in records for step in m.steps]
            assert found.used == sum(booked)
            assert found.spent <= budget.limit + doubled

    in_store(redis_url, work, shards=2)


class Standing(Budgets):
    """A process that stands still for so long between what it read and what it leases by that."""

    still_s = 0.0

    async def _ask(self, *asked: Any) -> Any:
        still_s, self.still_s = self.still_s, 0.0
        await trio.sleep(still_s)
        return await super()._ask(*asked)


@pytest.mark.parametrize("still_s", [1.0, 59.0, 119.0, 179.0, 200.0, 3_600.0])
def test_who_stood_still_since_it_read_a_budget_leases_nothing_that_others_have(
    still_s: float,
) -> None:
    """However long: what was leased then is reserved, and is no lease any more."""
    pace = Pace(0.005)
    redis = pace.store.redis
    standing, other = Standing(), Budgets()
    needs = {SPRING.name: SPRING.limit}
    full: list[frozenset[str]] = []

    async def stand() -> None:
        standing.still_s = still_s
        full.append(await standing.lease(redis, [SPRING], 1, needs, pace.clock()))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stand)
            await trio.sleep(0.5)
            now_ms = pace.clock()
            assert await other.lease(redis, [SPRING], 1, needs, now_ms) == frozenset()
            writes = kept.BudgetWrites(keys_of(0), [SPRING], now_ms)
            writes.reserve(needs, other.funds(now_ms))
            await redis.call(list(writes.commands()))
        assert full == [frozenset(needs)]
        found = await kept.read(redis, [SPRING], 1, pace.clock())
        assert found[SPRING.name].spent == SPRING.limit

    VirtualClock().run(main)
