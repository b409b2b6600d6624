"""Every kind of record, as each schema wrote it, is read today; the bytes lie in `golden/`.

`<kind>.2.hex` was written by the last version of schema 2. A new schema adds its files; no file is
ever changed.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from gateway.core.addresses import Addresses
from gateway.core.channels import Button, EmailContent, SmsContent, ViberContent
from gateway.core.records.attempt import Attempt, Candidate
from gateway.core.records.codec import (
    NEWEST,
    RESERVING,
    SCHEMA,
    Codec,
    NewerRecordError,
    UnreadableRecordError,
)
from gateway.core.records.content import Content, content_codec, content_with
from gateway.core.records.entries import (
    Clicked,
    ClickEntry,
    Group,
    LedgerEntry,
    Post,
    StatusChange,
    StatusChanges,
    Total,
    UnmatchedReceipt,
    changes_codec,
    clicked_codec,
    ledger_codec,
    total_codec,
    unmatched_codec,
)
from gateway.core.records.links import (
    LinkTargets,
    OwnLink,
    StepLinks,
    own_link_codec,
    targets_codec,
)
from gateway.core.records.message import Message, Step
from gateway.core.records.message_codec import message_codec, pack_message, unpack_message
from gateway.core.records.person import DedupeClaim, Person, claim_codec, person_codec
from gateway.core.records.request import (
    Answer,
    CapRefusal,
    RememberedAnswer,
    remembered_codec,
)
from gateway.core.records.user import Consent, StoredUser, user_codec
from providers.contract import Fault, FcmAddress, Receipt
from ratelimit.caps import Slot

GOLDEN = Path(__file__).parent / "golden"
T = 1_795_262_400_000
ID = "1M7Q5CQG0000000000AB"
SMS_GROUP = Group("shop", "autumn", "marketing", "sms", "infobip-sms", "RU")

CONTENT = content_with(
    "Осень",
    {
        "viber": ViberContent(
            "Вайбер",
            "https://shop.example/a.png",
            Button("Купить", "https://shop.example/"),
        ),
        "sms": SmsContent("SMS text", "Shop"),
    },
)
CODECS: dict[str, Codec[Any]] = {
    "message": message_codec,
    "content": content_codec,
    "person": person_codec,
    "remembered_answer": remembered_codec,
    "ledger_entry": ledger_codec,
    "running_total": total_codec,
    "status_changes": changes_codec,
    "unmatched_receipt": unmatched_codec,
}
# Kinds that schema 2 did not have.
NEWER: dict[str, Codec[Any]] = {
    "stored_user": user_codec,
    "link_targets": targets_codec,
    "own_link": own_link_codec,
    "click_entry": clicked_codec,
}


def golden(kind: str, schema: int) -> bytes:
    return bytes.fromhex((GOLDEN / f"{kind}.{schema}.hex").read_text())


def message_of_2() -> Message:
    return Message(
        app="shop",
        addresses=Addresses("79161234567"),
        country="RU",
        category="marketing",
        route="viber-then-sms",
        created_ms=T,
        updated_ms=T + 9,
        expires_ms=T + 259_200_000,
        steps=[
            Step(
                "viber",
                [Candidate("infobip-viber", 5_000)],
                9_000,
                900_000,
                10_000,
                chosen=0,
                status=41,
                done_ms=T + 4,
                attempts=[
                    Attempt(
                        series=1,
                        first_claimed_ms=T + 1,
                        claimed_ms=T + 2,
                        sent_ms=T + 3,
                        provider_id="pid-1",
                        fault=Fault("7002", "EC_UNKNOWN_USER", True),
                        claims=2,
                        refusals=2,
                        lost=2,
                        look_ups=1,
                    )
                ],
            ),
            Step(
                "sms",
                [Candidate("infobip-sms", 40_000)],
                70_000,
                86_400_000,
                10_000,
                parts=2,
                chosen=0,
                status=20,
                attempts=[
                    Attempt(
                        first_claimed_ms=T + 5,
                        claimed_ms=T + 5,
                        sent_ms=T + 6,
                        charged=80_000,
                        priced=True,
                        claims=1,
                        lost=1,
                    )
                ],
            ),
        ],
        status=1,
        current=1,
        due_ms=T + 99,
        baseline_cost=80_000,
        user="u-1",
        campaign="autumn",
        metadata={"order": "7"},
        holds=True,
        content=golden("content", 2),
    )


def message_of_3() -> Message:
    message = message_of_2()
    message.addresses = Addresses("79161234567", "anna@shop.example", (FcmAddress("token-1"),))
    message.content = golden("content", 3)
    message.finished = True
    message.billed = 140_000
    message.delivered_step = 1
    message.reason = "cancelled"
    first, second = message.steps
    first.fault = Fault("no_address", "phone", True)
    first.attempts[0].put_backs = first.attempts[0].unreachable = 1
    second.until = "seen"
    second.delivered_ms, second.seen_ms = T + 7, T + 8
    second.candidates.append(Candidate("smsc", 41_000))
    return message


EXPECTED: dict[tuple[str, int], Any] = {
    ("message", 2): message_of_2,
    ("message", 3): message_of_3,
    ("content", 2): lambda: CONTENT,
    ("content", 3): lambda: content_with("Осень", {"email": EmailContent(subject="Осень")}),
    ("remembered_answer", 2): lambda: RememberedAnswer(
        b"\x07" * 16,
        Answer("suppressed", reason="frequency_cap", cap=CapRefusal("day", 2, "1d", 2, T)),
        open=True,
    ),
    ("person", 2): lambda: Person(
        claims={"autumn": DedupeClaim(ID, 0), "spring": DedupeClaim("1M7Q5CQG0000000000ZZ", T)},
        slots=[Slot(ID, T, "marketing", "sms")],
    ),
    ("person", 3): lambda: Person(
        home="p:79160000001",
        aliases=["u:u1", "e:anna@shop.example"],
        former=["u:u1"],
        slots=[Slot(ID, T, "marketing", "sms")],
        keep_ms=T,
        linked_ms=T + 1,
    ),
    ("ledger_entry", 2): lambda: LedgerEntry(
        T,
        [
            Post(Group("shop", "autumn", "marketing", "", "", "RU"), {"accepted": 1}),
            Post(
                SMS_GROUP,
                {"sent": 1, "cost": 80_000},
                ID,
                1,
                {"list": 80_000, "charged": 80_000},
                {"order": "7"},
            ),
        ],
    ),
    ("running_total", 2): lambda: Total.of(SMS_GROUP, "cost"),
    ("status_changes", 2): lambda: StatusChanges(
        [StatusChange("shop", ID, "autumn", "sent", "sms", None, T, {"order": "7"})]
    ),
    ("stored_user", 3): lambda: StoredUser(
        "shop",
        T,
        Addresses("79161234567", "anna@shop.example", (FcmAddress("token-1"),)),
        "Europe/Moscow",
        "ru-RU",
        (Consent("marketing", T - 1, "checkout", "sms"), Consent("transactional", T, "call")),
    ),
    ("link_targets", 3): lambda: LinkTargets(
        "shop",
        (StepLinks("viber", ("https://shop.example/",)), StepLinks("sms", ())),
        "autumn",
        bytes(range(13)),
        16,
    ),
    ("click_entry", 3): lambda: ClickEntry(
        [
            Clicked("AbCdEfGh", "shop", T, "phone", "person", 2, "autumn", "sms", ID, 1),
            Clicked("autumn", "shop", T, "other", "previewer", 1),
        ]
    ),
    ("own_link", 3): lambda: OwnLink(
        "shop", "https://shop.example/autumn", T, "autumn", "Poster", T + 1
    ),
    ("unmatched_receipt", 2): lambda: UnmatchedReceipt(
        "infobip-sms",
        Receipt(
            "undelivered",
            ref="x.0",
            provider_id="p",
            at_ms=T,
            cost=Decimal("0.04"),
            currency="EUR",
            fault=Fault("1", "EC_X", False),
            to="79161234567",
        ),
        T,
    ),
}


def expected(kind: str, schema: int) -> Any:
    """What a golden record says; a kind that schema 3 did not change says the same as before."""
    return (EXPECTED.get((kind, schema)) or EXPECTED[kind, 2])()


@pytest.mark.parametrize("schema", [2, 3])
@pytest.mark.parametrize("kind", CODECS)
def test_a_record_of_every_schema_is_read(kind: str, schema: int) -> None:
    found, wanted = CODECS[kind].decode(golden(kind, schema)), expected(kind, schema)
    if isinstance(found, Content):
        for channel in ("viber", "sms", "email"):
            assert found.of(channel) == wanted.of(channel)
        return
    assert found == wanted


def plain(record: bytes) -> str:
    """The record with each map's length in as few bytes as it needs: msgspec takes more for a kind
    of more than 15 fields, though those left out are not counted."""
    return (record[:1] + msgspec.msgpack.encode(msgspec.msgpack.decode(record[1:]))).hex()


@pytest.mark.parametrize("kind", [*CODECS, *NEWER])
def test_today_writes_todays_schema_byte_for_byte(kind: str) -> None:
    codec = (CODECS | NEWER)[kind]
    assert plain(codec.encode(expected(kind, SCHEMA))) == plain(golden(kind, SCHEMA))


@pytest.mark.parametrize("kind", NEWER)
def test_a_kind_that_schema_2_did_not_have_is_read(kind: str) -> None:
    assert NEWER[kind].decode(golden(kind, SCHEMA)) == expected(kind, SCHEMA)
    with pytest.raises(UnreadableRecordError):
        NEWER[kind].decode(golden("person", 2))


@pytest.mark.parametrize("kind", CODECS)
def test_an_upgraded_record_is_written_in_todays_schema(kind: str) -> None:
    codec = CODECS[kind]
    upgraded = codec.decode(golden(kind, 2))
    again = codec.encode(upgraded)
    assert again[0] == SCHEMA
    assert codec.decode(again) == upgraded


@pytest.mark.parametrize("kind", CODECS)
def test_a_newer_record_is_refused_with_a_sentence_and_rubbish_is_no_record(kind: str) -> None:
    newest = NEWEST if kind == "message" else SCHEMA
    newer = bytes((newest + 1,)) + golden(kind, SCHEMA)[1:]
    with pytest.raises(NewerRecordError, match=rf"schema {newest + 1}.*reads up to {newest}"):
        CODECS[kind].decode(newer)
    for rubbish in (b"", b"\x01\x80", golden(kind, SCHEMA)[:-1]):
        with pytest.raises(msgspec.DecodeError):
            CODECS[kind].decode(rubbish)


@pytest.mark.parametrize("kind", CODECS)
def test_a_field_that_this_schema_does_not_know_is_passed_over(kind: str) -> None:
    fields = msgspec.msgpack.decode(golden(kind, SCHEMA)[1:])
    more = bytes((SCHEMA,)) + msgspec.msgpack.encode(fields | {"??": 1})
    assert CODECS[kind].decode(more) == CODECS[kind].decode(golden(kind, SCHEMA))


def message_with(**fields: Any) -> Message:
    """One to a phone, with these fields beside what each has."""
    return Message(
        id=ID,
        app="shop",
        addresses=Addresses("79161234567"),
        country="RU",
        category="marketing",
        created_ms=T,
        updated_ms=T,
        expires_ms=T + 1,
        **fields,
    )


def test_a_message_of_a_campaigns_content_is_for_those_to_change_who_know_that() -> None:
    """Who only knows up to schema 3 would write it back without its content."""
    known = bytes.fromhex((GOLDEN / "message_of_a_content.4.hex").read_text())
    message = message_with(
        route="viber-then-sms",
        steps=[Step("sms", [Candidate("infobip-sms", 40_000)], 70_000, 900_000, 10_000)],
        campaign="autumn",
        variant="urgent",
        content_of=bytes(range(12)),
        vars={"name": "Анна"},
    )
    assert unpack_message(ID, known) == message
    assert plain(pack_message(message)) == plain(known)
    with pytest.raises(NewerRecordError, match=r"schema 4.*reads up to 3"):
        Codec(Message, "message").decode(known)
    message.content_of, message.vars, message.variant = b"", None, ""
    assert pack_message(message)[0] == SCHEMA, "it is anybody's again"


def test_a_message_with_loose_parts_is_for_those_to_change_who_know_them() -> None:
    """Who only knows up to schema 5 would write it back without what they cost, and an invoice that
    is accepted would book that again."""
    known = bytes.fromhex((GOLDEN / "message_with_loose_parts.6.hex").read_text())
    attempt = Attempt(claims=1, claimed_ms=T, loose_ids=("a", "b"), loose_cost=80_000)
    message = message_with(
        route="sms-only",
        steps=[
            Step(
                *("sms", [Candidate("infobip-sms", 40_000)], 70_000, 900_000, 10_000),
                attempts=[attempt],
            )
        ],
        loose=True,
    )
    assert unpack_message(ID, known) == message
    assert plain(pack_message(message)) == plain(known)
    assert message.charged == 80_000
    with pytest.raises(NewerRecordError, match=r"schema 6.*reads up to 5"):
        Codec(Message, "message", newest=RESERVING).decode(known)


def test_a_total_names_its_route_step_and_variant_since_some_have_one() -> None:
    group = replace(SMS_GROUP, route="viber-then-sms", step=1)
    for kind, named in (("step", group), ("variant", replace(group, variant="urgent"))):
        known = bytes.fromhex((GOLDEN / f"total_of_a_{kind}.3.hex").read_text())
        total = Total.of(named, "cost")
        assert total_codec.decode(known) == total
        assert total_codec.encode(total) == known


def test_a_total_names_its_hour_where_it_is_of_what_people_do() -> None:
    known = bytes.fromhex((GOLDEN / "total_of_an_hour.3.hex").read_text())
    total = Total.of(SMS_GROUP, "clicked", 9)
    assert total_codec.decode(known) == total
    assert total_codec.encode(total) == known


def test_a_person_of_schema_3_holds_claims_since_some_of_them_do() -> None:
    known = bytes.fromhex((GOLDEN / "person_with_claims.3.hex").read_text())
    claims = {"autumn": DedupeClaim(ID, 0), "spring": DedupeClaim("1M7Q5CQG0000000000ZZ", T)}
    person = Person(claims=claims, keep_ms=T + 1, apart_ms=T)
    assert person_codec.decode(known) == person
    assert plain(person_codec.encode(person)) == plain(known)


def test_a_claim_is_a_record_of_its_own_since_schema_3() -> None:
    for kept, claim in (("live", DedupeClaim(ID, 0)), ("delivered", DedupeClaim(ID, T))):
        known = bytes.fromhex((GOLDEN / f"claim_{kept}.3.hex").read_text())
        assert claim_codec.decode(known) == claim
        assert claim_codec.encode(claim) == known
    with pytest.raises(NewerRecordError):
        claim_codec.decode(bytes((SCHEMA + 1,)) + known[1:])
    with pytest.raises(msgspec.DecodeError):
        claim_codec.decode(golden("person", 2))
