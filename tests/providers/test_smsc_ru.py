"""What is SMSC.ru's own: its two tables of reasons, its dates, amounts and lives."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest

from providers.contract import About, PersonReply, Refused, Submitted, Throttled, Unknown
from providers.smsc_ru.adapter import SmscRu
from tests.worlds.provider_examples import config, reply, submission

ADAPTER = SmscRu(config("smsc-ru"))
SENT = submission("m-0.1", to="+79161234567")


def refusal(code: int) -> Refused:
    body = json.dumps({"error": "so", "error_code": code}).encode()
    (outcome,) = ADAPTER.outcomes([SENT], reply(200, body))
    assert isinstance(outcome, Refused)
    return outcome


def receipt(**form: object):  # type: ignore[no-untyped-def]
    told = {"id": "m-0.1", "phone": "79161234567", "status": 1, **form}
    (found,) = ADAPTER.receipts(urlencode(told).encode(), "").receipts
    return found


def test_a_request_is_one_message_in_unicode_with_our_id() -> None:
    request = ADAPTER.submit([SENT])
    assert (request.method, request.path) == ("POST", "/rest/send/")
    assert json.loads(request.body) == {
        "apikey": "k3y",
        "phones": "79161234567",
        "mes": SENT.text,
        "sender": "Shop",
        "id": "m-0.1",
        "valid": "00:15",
        "charset": "utf-8",
        "fmt": 3,
    }


@pytest.mark.parametrize(
    ("validity_ms", "valid"),
    [(0, "00:01"), (59_999, "00:01"), (5_400_000, "01:30"), (10**12, "24:00")],
)
def test_a_life_is_between_a_minute_and_a_day(validity_ms: int, valid: str) -> None:
    request = ADAPTER.submit([submission("m-0.1", validity_ms=validity_ms)])
    assert json.loads(request.body)["valid"] == valid


@pytest.mark.parametrize(
    ("code", "about", "unreachable"),
    [
        (1, "message", False),
        (5, "message", False),
        (6, "account", False),
        (7, "person", True),
        (8, "person", False),
        (77, "account", False),
    ],
)
def test_a_refused_request_speaks_of_somebody(
    code: int, about: About, *, unreachable: bool
) -> None:
    refused = refusal(code)
    assert (refused.about, refused.unreachable) == (about, unreachable)
    assert (refused.fault.code, refused.fault.permanent) == (str(code), True)


def test_too_many_requests_wait_and_burn_nothing() -> None:
    with pytest.raises(Throttled) as raised:
        refusal(9)
    assert raised.value.retry_after_ms == 10_000


def test_an_id_of_its_own_is_kept() -> None:
    (outcome,) = ADAPTER.outcomes([SENT], reply(200, b'{"id": 1234, "cnt": 2}'))
    assert outcome == Submitted("m-0.1", "1234", 2)
    with pytest.raises(Unknown):
        ADAPTER.outcomes([SENT], reply(200, b'{"cnt": 2}'))
    for told, parts in (('"2"', 2), ("0", None), ("-1", None), ("9" * 9, None)):
        (outcome,) = ADAPTER.outcomes([SENT], reply(200, f'{{"id": 1, "cnt": {told}}}'.encode()))
        assert outcome == Submitted("m-0.1", "1", parts)


@pytest.mark.parametrize(
    ("status", "error", "told", "about", "unreachable"),
    [
        (3, 0, "expired", "person", False),
        (20, 0, "undelivered", "person", False),
        (20, 1, "undelivered", "person", True),
        (20, 6, "undelivered", "person", False),
        (20, 11, "undelivered", "person", True),
        (20, 253, "undelivered", "message", False),
        (22, 0, "rejected", "person", True),
        (23, 254, "rejected", "account", False),
        (24, 0, "rejected", "account", False),
        (25, 21, "undelivered", "person", True),
        (20, 999, "undelivered", "account", False),
    ],
)
def test_a_failed_message_speaks_of_somebody(
    status: int, error: int, told: str, about: About, *, unreachable: bool
) -> None:
    found = receipt(status=status, err=error)
    assert (found.status, found.about, found.unreachable) == (told, about, unreachable)
    assert found.fault is not None
    assert found.fault.permanent


def test_amounts_are_roubles_for_all_parts() -> None:
    found = receipt(cost="5.20", cnt=2, ts=1_793_527_200)
    assert (found.cost, found.currency, found.parts) == (Decimal("5.20"), "RUB", 2)
    assert (found.at_ms, found.to) == (1_793_527_200_000, "79161234567")
    plain = receipt(cost="free", cnt="x", ts="x")
    assert (plain.cost, plain.currency, plain.parts, plain.at_ms) == (None, None, None, None)
    assert receipt(cost="-1").cost is None
    assert [receipt(cnt=odd).parts for odd in ("-5", "0", "9" * 9)] == [None] * 3
    assert receipt(cost="NaN").cost is None


def test_a_written_date_is_of_moscow() -> None:
    assert receipt(time="01.11.2026 13:00:00").at_ms == 1_793_527_200_000


@pytest.mark.parametrize(
    "told",
    [
        {"ts": 999_999_999_999},
        {"ts": -1},
        {"time": "31.12.9999 23:59:59"},
        {"time": "01.01.0001 00:00:00"},
    ],
)
def test_a_moment_that_no_day_has_is_none(told: dict[str, Any]) -> None:
    """No day could be told for it where the messages behind a report's figure are sought."""
    assert receipt(**told).at_ms is None


def test_what_is_read_or_clicked_arrived() -> None:
    assert [receipt(status=status).status for status in (-1, 0, 1, 2, 4)] == [
        "sent",
        "sent",
        "delivered",
        "delivered",
        "delivered",
    ]


def test_an_unknown_status_is_told() -> None:
    read = ADAPTER.receipts(b"id=m-0.1&status=77", "")
    assert read.receipts == []
    assert "unknown status 77" in read.faults[0]


def test_what_somebody_wrote_is_a_reply() -> None:
    form = {"sms_id": "7", "phone": "79161234567", "to": "79150000000", "mes": "СТОП", "ts": 5}
    read = ADAPTER.receipts(urlencode(form).encode(), "")
    assert read.receipts == []
    (reply,) = read.replies
    assert reply == PersonReply(reply.id, "79161234567", "79150000000", "СТОП", 5_000)
    ids = [
        ADAPTER.receipts(urlencode(form | other).encode(), "").replies[0].id
        for other in ({}, {"to": ""}, {"mes": "СТАРТ"}, {"ts": 6}, {"sms_id": "8"})
    ]
    assert [ids.index(each) for each in ids] == [0, 0, 2, 3, 4], "what comes twice is the same"
    with pytest.raises(ValueError, match="report"):
        ADAPTER.receipts(urlencode(form | {"phone": "Shop"}).encode(), "")
