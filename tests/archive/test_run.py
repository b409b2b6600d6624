"""A run of the archiver: what it writes, what it takes out of Redis, and that both together are
still all there was."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import aclosing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.archive.archive import Archive
from gateway.archive.place import Folder
from gateway.archive.sent import archived_messages
from gateway.archive.tables import BOOKED, COLUMNS, LEDGER, MESSAGES
from gateway.core.addresses import Addresses
from gateway.core.archive.hashing import hash_of
from gateway.core.archive.manifest import ArchiveFault, reached
from gateway.core.archive.messages import row_of
from gateway.core.days import DAY_MS, day_of
from gateway.core.reconciliation import Ours
from gateway.core.records.attempt import Attempt, Candidate
from gateway.core.records.message import Message, Step, StepStatus
from gateway.core.records.message_codec import unpack_message
from gateway.store import archiving, reads, receipts
from gateway.store.keys import keys_of, shard_of
from gateway.store.sent_lines import lines_within, sent_lines
from gateway.store.shared_keys import ARCHIVE, ARCHIVER
from providers.contract import Fault, Receipt
from tests.archive import filled_days
from tests.archive.filled_days import FilledDays, kept
from tests.worlds.archive_world import KEY, ArchiveWorld, with_archive
from tests.worlds.cascade_world import request

LEDGER_COLUMNS = [
    *("id", "booked_at", "kind", "message", "step", "app", "campaign", "category", "route"),
    *("channel", "provider", "country", "parts", "amount", "list_amount", "currency", "reason"),
]
SECRETS = (b"7916000", b"somebody", b"user-1", b"order", b"secret", "Привет".encode())


def by_revision(row: dict[str, Any]) -> int:
    return int(row["revision"])


def rows_in(world: ArchiveWorld, table: str) -> list[dict[str, Any]]:
    names = [file.file for file in world.archive.files() if file.table == table]
    return [row for name in names for row in pq.read_table(world.root / name).to_pylist()]


@with_archive(shards=3)
async def test_the_ledger_is_the_archive_and_what_is_left_in_redis(world: ArchiveWorld) -> None:
    await world.delivered(50)
    before = await world.verify()
    await world.archived()
    after = await world.verify()
    assert before.agrees
    assert after.agrees
    assert after.entries == before.entries
    await world.delivered(20, "winter")
    assert (await world.verify()).agrees
    await world.archived()
    assert (await world.verify()).agrees
    assert (await world.verify(full=False)).agrees
    for shard in range(3):
        (left,) = await world.redis.call([("XLEN", keys_of(shard).ledger)])
        assert left == 1, "the last entry says where the ledger is"


@with_archive()
async def test_a_run_leaves_what_the_contract_says(world: ArchiveWorld) -> None:
    ids = await world.delivered(5)
    await world.archived()
    text = (world.root / "manifest.ndjson").read_text()
    manifest = [json.loads(line) for line in text.splitlines()]
    lying = {path.relative_to(world.root).as_posix() for path in world.root.rglob("*.parquet")}
    assert {line["file"] for line in manifest} == lying
    (money,) = [line for line in manifest if line["file"].startswith("ledger/day=2100-01-01/")]
    assert money["sums"] == {"EUR": {"billed": "0.0450", "cost": "0.0250"}}
    assert money["rows"] == 10
    found = pq.read_table(world.root / money["file"])
    assert found.column_names == [*LEDGER_COLUMNS, "variant"]
    assert str(found.schema.field("amount").type) == "decimal128(18, 6)"
    assert found["id"][0].as_py() == money["first_id"]
    assert found["id"][-1].as_py() == money["last_id"]
    assert Counter(found["kind"].to_pylist()) == {"cost": 5, "bill": 5}
    assert set(found["message"].to_pylist()) == set(ids)


@with_archive()
async def test_nothing_in_the_archive_says_who_it_was_or_what_was_said(world: ArchiveWorld) -> None:
    ids = await world.delivered(12)
    ids += await world.refused(
        "winter",
        Fault("5.7.1", "somebody12@example.com wrote 'secret'", True),
        Fault("79160000000", "EC_ABSENT_SUBSCRIBER", True),
    )
    await world.archived()
    for path in world.root.rglob("*.parquet"):
        octets = path.read_bytes()
        for row in pq.read_table(path).to_pylist():
            octets += repr(row).encode()
        assert not [secret for secret in SECRETS if secret in octets], path
    rows = {row["id"]: row for row in rows_in(world, MESSAGES)}
    assert rows.keys() == set(ids)
    first = rows[ids[0]]
    assert first["phone_hash"] == hash_of(KEY, "p:79160000000")
    assert first["mail_hash"] == hash_of(KEY, "e:somebody0@example.com")
    assert rows[ids[1]]["mail_hash"] is None
    refused = unpack_message(ids[-1], rows[ids[-1]]["record"])
    assert [step.latest_fault for step in refused.steps] == [
        Fault("5.7.1", "5.7.1", True),
        Fault("withheld", "EC_ABSENT_SUBSCRIBER", True),
    ]
    assert [step["error"] for step in rows[ids[-1]]["steps"]] == ["5.7.1", "withheld"]


@given(
    *(st.from_regex(r"[ -~]{0,12}(\+?79161234567|a@example\.com|Hello you)[ -~]{0,12}"),) * 2,
    st.booleans(),
)
def test_what_a_provider_said_never_brings_an_address_or_text_along(
    code: str, name: str, skipped: bool
) -> None:
    fault = Fault(code, name, True)
    said = {"fault": fault} if skipped else {"attempts": [Attempt(fault=fault)]}
    step = Step("sms", [Candidate("sms", 1)], 1, 1, 1, status=StepStatus.REJECTED, **said)
    message = Message(
        *("shop", Addresses("79161234567"), "RU", "otp", "sms", 1, 1, 1, [step]),
        id="0123456789ABCDEFGHJK",
        reason=name,
    )
    row = row_of(message, 1, KEY, "EUR")
    octets = repr(row).encode() + row.record
    assert not [word for word in (b"79161234567", b"a@example.com", b"Hello you") if word in octets]
    assert unpack_message(message.id, row.record).steps[0].status == StepStatus.REJECTED


@with_archive()
async def test_a_messages_row_is_the_message_without_its_person(world: ArchiveWorld) -> None:
    (id_,) = await world.delivered(1)
    message = await reads.message(world.store, id_)
    assert message is not None
    await world.archived(keep_ms=0)
    (row,) = rows_in(world, MESSAGES)
    kept = unpack_message(id_, row["record"])
    assert (kept.user, kept.metadata, kept.addresses.shown(), kept.holder) == (None, None, None, "")
    assert kept.steps == message.steps
    assert (kept.status, kept.billed, kept.campaign) == (
        message.status,
        message.billed,
        message.campaign,
    )


@with_archive(shards=2)
async def test_closed_messages_leave_redis_once_they_are_archived_and_old(
    world: ArchiveWorld,
) -> None:
    closed = await world.delivered(10)
    under_way = await world.send(4, "winter")
    done = await world.archived()
    assert (done.rows[MESSAGES], done.taken_out) == (10, 0)
    assert all([await reads.message(world.store, id_) for id_ in closed])
    done = await world.archived(keep_ms=0)
    assert (MESSAGES not in done.rows, done.taken_out) == (True, 10)
    assert not any([await reads.message(world.store, id_) for id_ in closed])
    assert all([await reads.message(world.store, id_) for id_ in under_way])
    assert (await world.archived(keep_ms=0)).taken_out == 0


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
    assert sorted(await world.search(campaign=None)) == sorted(ids)
    assert (await world.archived(keep_ms=0)).rows == {}


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

    await world.delivered(4)
    before = await ours()
    assert len(before) == 4
    await world.archived(keep_ms=0)
    after = await ours()
    assert sorted((line.id, line.at_ms, line.to) for line in after) == sorted(
        (line.id, line.at_ms, "") for line in before
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


@with_archive()
async def test_a_file_that_was_changed_stops_the_trimming(world: ArchiveWorld) -> None:
    await world.delivered(5)
    await world.archived()
    await world.delivered(5, "winter")
    (before,) = await world.redis.call([("XLEN", keys_of(0).closed)])
    for file in world.archive.files():
        damage(world.root / file.file)
    world.archive = Archive(Folder(world.root), "there", KEY)
    with pytest.raises(ArchiveFault, match="not as it was written"):
        await world.archived(keep_ms=0)
    assert await world.redis.call([("XLEN", keys_of(0).closed)]) == [before]
    state = await archiving.state(world.redis)
    assert "not as it was written" in state.reason
    wrong = [file.file for file, reason in world.archive.verify() if reason]
    assert len(wrong) == 4


def damage(path: Path) -> None:
    octets = bytearray(path.read_bytes())
    octets[len(octets) // 3] ^= 1
    path.chmod(0o644)
    path.write_bytes(octets)


@with_archive()
async def test_verify_of_the_report_names_a_file_that_is_wrong(world: ArchiveWorld) -> None:
    await world.delivered(5)
    await world.archived()
    (file,) = [f for f in world.archive.files() if f.table == "ledger"]
    damage(world.root / file.file)
    with pytest.raises(ArchiveFault, match=file.file):
        await ArchiveWorld(world.redis, world.root, 1).verify()


@with_archive()
async def test_another_key_is_refused_and_so_is_another_installation(world: ArchiveWorld) -> None:
    await world.delivered(1)
    await world.archived()
    manifest = (world.root / "manifest.ndjson").read_bytes()
    world.archive = Archive(Folder(world.root), "there", b"another key of these hashes")
    with pytest.raises(ArchiveFault, match="begun with another hash key"):
        await world.archived()
    world.archive = Archive(Folder(world.root), "there", KEY)
    await world.redis.call([("DEL", ARCHIVE)])
    with pytest.raises(ArchiveFault, match="of another installation"):
        await world.archived()
    assert (world.root / "manifest.ndjson").read_bytes() == manifest


@with_archive()
async def test_an_archive_that_is_gone_is_not_begun_anew(world: ArchiveWorld) -> None:
    await world.delivered(1)
    await world.archived()
    world.archive = Archive(Folder(world.root / "elsewhere"), "elsewhere", KEY)
    with pytest.raises(ArchiveFault, match="there was one: put it back"):
        await world.archived()


@with_archive()
async def test_an_older_manifest_is_not_gone_on_with(world: ArchiveWorld) -> None:
    """There would be a hole in the books between it and Redis."""
    await world.delivered(2)
    await world.archived()
    manifest = world.root / "manifest.ndjson"
    older = manifest.read_bytes()
    await world.delivered(2, "winter")
    await world.archived()
    newest = manifest.read_bytes()
    await world.delivered(2, "spring")
    manifest.write_bytes(older)
    with pytest.raises(ArchiveFault, match="names less than was archived"):
        await world.archived()
    manifest.write_bytes(newest)
    await world.archived()
    assert (await world.verify()).agrees


@with_archive()
async def test_a_run_waits_for_the_one_under_way(world: ArchiveWorld) -> None:
    await world.delivered(1)
    other = archiving.Lease(world.redis)
    assert await other.take()
    waits = 0

    async def meanwhile() -> None:
        nonlocal waits
        waits += 1
        if waits == 3:
            await other.give_back()

    world.pause = meanwhile
    assert (await world.archived()).rows["ledger"] == 2
    assert waits == 3
    assert await world.redis.call([("GET", ARCHIVER)]) == [None]


@with_archive()
async def test_a_run_that_took_too_long_goes_on_behind_the_other(world: ArchiveWorld) -> None:
    await world.delivered(4)
    waited = []

    async def meanwhile() -> None:
        waited.append(1)
        await world.redis.call([("DEL", ARCHIVER)])

    world.pause = meanwhile
    keep = archiving.Lease.keep

    async def late(lease: archiving.Lease) -> None:
        if not waited:  # it lapsed, and another run has it, which ends later
            await world.redis.call([("SET", ARCHIVER, "another", "PX", 60_000)])
        await keep(lease)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archiving.Lease, "keep", late)
        done = await world.archived()
    assert (waited, done.rows[LEDGER], done.rows[MESSAGES]) == ([1], 8, 4)
    assert (await archiving.state(world.redis)).failed_ms == 0
    assert (await world.verify()).agrees


@with_archive(shards=4)
async def test_the_first_booking_of_a_shard_waits_for_the_archive_as_any_other(
    world: ArchiveWorld,
) -> None:
    """So no month is closed while it does."""
    assert await archiving.waiting_since(world.redis, range(4)) == 0
    (id_,) = await world.delivered(1)
    assert await archiving.waiting_since(world.redis, range(4)) > 0
    await world.archived()
    assert await archiving.waiting_since(world.redis, range(4)) == 0
    shard = (world.store.shard_of_message(id_) + 1) % 4
    home = next(f"7917{n:07}" for n in range(99) if shard_of(f"p:7917{n:07}", 4) == shard)
    sent = request(
        id=world.store.new_id_in(shard, world.now_ms),
        addresses=Addresses(home),
        campaign="another",
    )
    await world.store.admit([sent], world.now_ms)
    assert await archiving.waiting_since(world.redis, range(4)) > 0
    await world.archived()
    assert await archiving.waiting_since(world.redis, range(4)) == 0


@with_archive(shards=2)
async def test_many_small_steps_are_one_archive(world: ArchiveWorld) -> None:
    for number in range(4):
        await world.delivered(6, f"c{number}")
    done = await world.archived(keep_ms=0, rows_a_step=7)
    assert done.rows["ledger"] == 48
    assert done.taken_out == 24
    assert (await world.verify()).agrees
    files = world.archive.files()
    assert len({file.file for file in files}) == len(files)
    assert reached(files, BOOKED).keys() == {0, 1}


def test_no_table_has_a_column_that_could_name_somebody() -> None:
    names = {column.name for columns in COLUMNS.values() for column in columns}
    assert names.isdisjoint({"user", "to", "phone", "email", "metadata", "text", "content"})


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


def test_filled_days_can_be_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert filled_days.main(["--days", "2", "--messages", "20"]) == 0
    assert "- messages: 40, in files" in capsys.readouterr().out
