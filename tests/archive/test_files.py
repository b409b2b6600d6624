"""What a run writes: files that the manifest names, and rows that name nobody."""

from __future__ import annotations

import json
from collections import Counter

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.archive.tables import COLUMNS, MESSAGES
from gateway.core.addresses import Addresses
from gateway.core.archive.hashing import hash_of
from gateway.core.archive.messages import row_of
from gateway.core.records.attempt import Attempt, Candidate
from gateway.core.records.message import Message, Step, StepStatus
from gateway.core.records.message_codec import unpack_message
from gateway.store.messages import reads
from providers.contract import Fault
from tests.archive import filled_days
from tests.worlds.archive_world import KEY, ArchiveWorld, rows_in, with_archive

LEDGER_COLUMNS = [
    *("id", "booked_at", "kind", "message", "step", "app", "campaign", "category", "route"),
    *("channel", "provider", "country", "parts", "amount", "list_amount", "currency", "reason"),
]
SECRETS = (b"7916000", b"somebody", b"user-1", b"order", b"secret", "Привет".encode())


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


def test_no_table_has_a_column_that_could_name_somebody() -> None:
    names = {column.name for columns in COLUMNS.values() for column in columns}
    assert names.isdisjoint({"user", "to", "phone", "email", "metadata", "text", "content"})


def test_filled_days_can_be_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert filled_days.main(["--days", "2", "--messages", "20"]) == 0
    assert "- messages: 40, in files" in capsys.readouterr().out
