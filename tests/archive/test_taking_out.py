"""Messages that leave Redis behind their rows, and what happens to them afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from decimal import Decimal
from pathlib import Path

import pytest
import trio
from msgspec.structs import replace

from gateway.archive.sent import archived_messages
from gateway.archive.tables import LEDGER, MESSAGES
from gateway.core import events as ev
from gateway.core.money.days import DAY_MS, day_of
from gateway.core.money.reconciliation import Ours
from gateway.redis.errors import RedisUnavailable
from gateway.redis.trio_driver import open_client
from gateway.store.archive import closed
from gateway.store.keys import keys_of
from gateway.store.messages import reads, receipts
from gateway.store.messages.apply import Item
from gateway.store.messages.sent_lines import lines_within, sent_lines
from gateway.store.shared_keys import ARCHIVER
from gateway.store.store import Store
from gateway.store.transaction import passing_s
from providers.contract import Fault, Receipt
from tests.archive.filled_days import FilledDays, kept
from tests.worlds.archive_world import ArchiveWorld, by_revision, rows_in, with_archive


@with_archive(shards=2)
async def test_closed_messages_leave_redis_once_they_are_archived_and_old(
    world: ArchiveWorld,
) -> None:
    gone = await world.delivered(10)
    under_way = await world.send(4, "winter")
    done = await world.archived()
    assert (done.rows[MESSAGES], done.taken_out) == (10, 0)
    assert all([await reads.message(world.store, id_) for id_ in gone])
    done = await world.archived(keep_ms=0)
    assert (MESSAGES not in done.rows, done.taken_out) == (True, 10)
    assert not any([await reads.message(world.store, id_) for id_ in gone])
    assert all([await reads.message(world.store, id_) for id_ in under_way])
    assert (await world.archived(keep_ms=0)).taken_out == 0


@with_archive()
async def test_a_message_that_changed_since_gets_a_further_row_and_stays(
    world: ArchiveWorld,
) -> None:
    ids = await world.delivered(3)
    await world.archived()
    await world.tell(ids[:1], "seen")
    await world.archived(keep_ms=0)
    rows = [row for row in rows_in(world, MESSAGES) if row["id"] == ids[0]]
    assert [(row["revision"], row["status"]) for row in rows] == [(1, "delivered"), (2, "seen")]
    assert (await world.archived(keep_ms=0)).rows == {}


@with_archive(shards=2)
async def test_a_receipt_for_an_archived_message_settles_from_its_row(world: ArchiveWorld) -> None:
    ids = await world.delivered(4)
    await world.archived(keep_ms=0)
    assert not await reads.readable_messages(world.store, ids)
    dearer = Receipt("delivered", f"{ids[0]}.0", cost=Decimal("0.0090"), currency="EUR")
    await receipts.take_receipts(world.store, "viber", [dearer], world.now_ms)
    await world.tell(ids[1:2], "seen")
    await world.tell(ids[2:3], "delivered")  # says nothing new
    done = await world.archived(keep_ms=0)
    assert done.brought_back == 3
    await world.archived(keep_ms=0)
    await world.archived(keep_ms=0)
    assert not await reads.readable_messages(world.store, ids)
    rows = {row["id"]: row for row in sorted(rows_in(world, MESSAGES), key=by_revision)}
    revisions = [rows[id_]["revision"] for id_ in ids]
    assert revisions == [2, 2, 1, 1]
    assert (rows[ids[0]]["cost"], rows[ids[1]]["status"]) == (Decimal("0.009000"), "seen")
    booked = [row for row in rows_in(world, LEDGER) if row["message"] == ids[0]]
    assert sum(row["amount"] for row in booked if row["kind"] == "cost") == Decimal("0.0090")
    assert sum(row["amount"] for row in booked if row["kind"] == "bill") == Decimal("0.0090")
    assert (await world.verify()).agrees


@with_archive(shards=2)
async def test_a_receipt_for_an_archived_message_waits_for_an_archive_that_is_away(
    world: ArchiveWorld,
) -> None:
    """For days, when one that names nothing of ours is long dropped."""
    ids = await world.delivered(2)
    await world.archived(keep_ms=0)
    world.now_ms += 3 * DAY_MS
    dearer = Receipt("delivered", f"{ids[0]}.0", cost=Decimal("0.0090"), currency="EUR")
    stranger = Receipt("delivered", provider_id="of somebody else")
    await receipts.take_receipts(world.store, "viber", [dearer, stranger], world.now_ms)
    world.now_ms += 3 * DAY_MS
    swept = [await receipts.sweep_unmatched(world.store, n, world.now_ms) for n in range(2)]
    assert [each.dropped for each in swept if each.dropped] == [[stranger]]
    assert sum(each.kept for each in swept) == 1
    assert (await world.archived(keep_ms=0)).brought_back == 1
    (message,) = await reads.readable_messages(world.store, ids)
    assert message.step.attempts[0].charged == 9_000


@with_archive()
async def test_a_receipt_of_a_message_that_no_archive_has_is_dropped_once_it_was_looked_for(
    world: ArchiveWorld,
) -> None:
    (id_,) = await world.delivered(1)
    await world.redis.call([("DEL", keys_of(0).message(id_))])
    await receipts.take_receipts(
        world.store, "viber", [told := Receipt("seen", f"{id_}.0")], world.now_ms
    )
    world.now_ms += 3 * DAY_MS
    assert (await receipts.sweep_unmatched(world.store, 0, world.now_ms)).kept == 1
    await world.archived()
    world.now_ms += DAY_MS
    assert (await receipts.sweep_unmatched(world.store, 0, world.now_ms)).dropped == [told]


@with_archive()
async def test_an_invoice_is_held_against_archived_messages_as_well(world: ArchiveWorld) -> None:
    async def ours() -> list[Ours]:
        span = (10**11, world.now_ms + 1)
        async with aclosing(sent_lines(world.store, "viber", *span)) as batches:
            found = [line async for batch in batches for line in batch]
        days = day_of(world.now_ms - DAY_MS), day_of(world.now_ms)
        for page in archived_messages(world.archive, *days):
            found += lines_within(page, "viber", *span)
        return found

    await world.delivered(3)
    (long,) = await world.send(1, "long")
    taken = ev.Accepted(0, "first", 2, further_ids=("second",))
    for event in (ev.Claimed(0), taken):
        await world.store.apply([Item(long, event)], world.now_ms)
    await world.tell([long], "delivered")
    before = await ours()
    assert len(before) == 4
    assert [(line.id, line.further_ids) for line in before if line.further_ids] == [
        ("first", ("second",))
    ]
    await world.archived(keep_ms=0)
    after = await ours()
    assert sorted((line.id, line.further_ids, line.at_ms, line.to) for line in after) == sorted(
        (line.id, line.further_ids, line.at_ms, "") for line in before
    )


@with_archive()
async def test_what_is_not_archived_as_it_is_is_never_taken_out(world: ArchiveWorld) -> None:
    """As a process of an earlier version would leave it: changed, and not listed."""
    await world.archived()  # what was closed before this is listed once more
    ids = await world.delivered(2)
    await world.archived()
    listed = await world.redis.call([("XRANGE", keys_of(0).closed, "-", "+")])
    await world.tell(ids[:1], "seen")
    entries = listed[0]
    assert isinstance(entries, list)
    await world.redis.call([("DEL", keys_of(0).closed)])
    await world.redis.call(
        [("XADD", keys_of(0).closed, id_, *fields) for id_, fields in entries]  # as it was before
    )
    await world.archived(keep_ms=0)
    assert await reads.message(world.store, ids[0]) is not None
    assert await reads.message(world.store, ids[1]) is None
    await world.archived(keep_ms=0)
    await world.archived(keep_ms=0)
    assert await reads.message(world.store, ids[0]) is None
    assert [row["status"] for row in rows_in(world, MESSAGES) if row["id"] == ids[0]] == [
        "delivered",
        "seen",
    ]


@with_archive(shards=2)
async def test_what_was_closed_before_there_was_an_archive_goes_with_the_second_run(
    world: ArchiveWorld,
) -> None:
    world.store.retention = replace(world.store.retention, archives=False)
    ids = await world.delivered(6)
    world.store.retention = replace(world.store.retention, archives=True)
    ids += await world.delivered(2, "winter")
    await world.archived(keep_ms=0)
    assert {m.id for m in await reads.readable_messages(world.store, ids)} == set(ids[:6])
    done = await world.archived(keep_ms=0)
    assert (done.rows[MESSAGES], done.taken_out) == (6, 6)
    assert sorted(row["id"] for row in rows_in(world, MESSAGES)) == sorted(ids)
    assert sorted(await world.search()) == sorted(ids)
    assert (await world.archived(keep_ms=0)).rows == {}


@with_archive()
async def test_redis_is_as_full_after_six_days_as_after_three(world: ArchiveWorld) -> None:
    """But for the totals, which are kept for ever, one hash a day."""
    filled = FilledDays(world, 40)
    after: list[Counter[str]] = []
    await filled.archive()  # it was there from the beginning
    for _ in range(6):
        await filled.fill()
        await filled.archive()
        entries, _ = await kept(world)
        after.append(Counter({f: n for f, n in entries.items() if f != "t"}))  # lapses in a minute
    assert after[5]["totals"] == 2 * after[2]["totals"]
    assert after[5] - after[2] == {"totals": after[2]["totals"], "days": 3}
    assert after[2] - after[5] == {}
    assert (after[5]["m"], after[5]["ledger"]) == (80, 1)


def test_what_was_read_before_a_long_standstill_is_settled_once(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run stands still between the row and bringing it back, for longer than `keep`: another
    settles the receipt, archives that and takes it out. The receipt comes once more."""
    root, bring_back, stood_s = tmp_path / "archive", closed.bring_back, 0.0

    async def settle() -> None:
        async with open_client(redis_url) as redis:
            other = ArchiveWorld(redis, root, 1)
            await redis.call([("DEL", ARCHIVER)])  # as the lease lapses
            runs = [await other.archived(keep_ms=0) for _ in range(2)]
            assert [(run.brought_back, run.taken_out) for run in runs] == [(1, 0), (0, 1)]

    async def standing_still(store: Store, ask: closed.AskArchive) -> Collection[str]:
        monkeypatch.setattr(closed, "bring_back", bring_back)

        async def asked() -> Mapping[str, bytes]:
            nonlocal stood_s
            found = await ask()
            with ThreadPoolExecutor(1) as another:
                another.submit(trio.run, settle).result()
            stood_s = 3 * DAY_MS / 1000
            return found

        return await bring_back(store, asked)

    async def main() -> None:
        nonlocal stood_s
        async with open_client(redis_url) as redis:
            world = ArchiveWorld(redis, root, 1)
            ids = await world.refused("autumn", *[Fault("EC_ABSENT_SUBSCRIBER", "", True)] * 2)
            await world.archived(keep_ms=0)
            await world.tell(ids, "delivered")
            monkeypatch.setattr(closed, "bring_back", standing_still)
            with pytest.raises(RedisUnavailable, match="stood still"):
                await world.archived(keep_ms=0)
            stood_s = 0.0
            await world.tell(ids, "delivered")
            for _ in range(2):
                await world.archived(keep_ms=0)
            assert Counter(row["kind"] for row in rows_in(world, LEDGER)) == {"bill": 1, "cost": 1}
            assert (await world.verify()).agrees

    monkeypatch.setattr(closed, "passing_s", lambda: passing_s() + stood_s)
    trio.run(main)
