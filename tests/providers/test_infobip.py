"""What is Infobip's own: its request, its status tables, its prices and dates, its foreign ids."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.contract import (
    About,
    BadRequest,
    Fault,
    LinkButton,
    NotTaken,
    Receipt,
    Refused,
    Submitted,
    Unknown,
)
from providers.http import json_text
from providers.http.replies import retry_after_ms
from providers.infobip.reports import read_envelope, read_reports
from tests.worlds.provider_examples import (
    CALLBACK_URL,
    INFOBIP_STATUSES,
    NO_ERROR,
    PENDING,
    ROWS,
    infobip_answer,
    infobip_report_item,
    infobip_wrap,
    reply,
    submission,
)

SMS, VIBER = (row.adapter() for row in ROWS[:2])


def messages(adapter: Any, *batch: Any) -> list[dict[str, Any]]:
    body = json.loads(adapter.submit(batch).body)
    return list(body["messages"])


def receipt(**changes: object) -> Receipt:
    item = infobip_report_item("m-1.1", "delivered") | changes
    (only,) = SMS.receipts(infobip_wrap([item]), "application/json").receipts
    return only


def test_an_sms_is_written_to_the_letter() -> None:
    request = SMS.submit([submission("m-1.1", to="+79161234567", text="Привет")])
    assert (request.method, request.path) == ("POST", "/sms/3/messages")
    assert ("Authorization", "App k3y") in request.headers
    assert ("Content-Type", "application/json") in request.headers
    assert json.loads(request.body) == {
        "messages": [
            {
                "sender": "Shop",
                "destinations": [{"to": "79161234567", "messageId": "m-1.1"}],
                "content": {"text": "Привет"},
                "options": {"validityPeriod": {"amount": 900, "timeUnit": "SECONDS"}},
                "webhooks": {"delivery": {"url": CALLBACK_URL}, "callbackData": "m-1.1"},
            }
        ],
        "options": {"includeSmsCountInResponse": True},
    }


def test_a_viber_text_is_written_to_the_letter() -> None:
    request = VIBER.submit([submission("m-1.1", to="+79161234567", text="Привет")])
    assert (request.method, request.path) == ("POST", "/viber/2/messages")
    assert json.loads(request.body) == {
        "messages": [
            {
                "sender": "Shop",
                "destinations": [{"to": "79161234567", "messageId": "m-1.1"}],
                "content": {"type": "TEXT", "text": "Привет"},
                "options": {
                    "validityPeriod": {"amount": 900, "timeUnit": "SECONDS"},
                    "label": "PROMOTIONAL",
                },
                "webhooks": {
                    "delivery": {"url": CALLBACK_URL},
                    "seen": {"url": CALLBACK_URL},
                    "callbackData": "m-1.1",
                },
            }
        ]
    }


def test_a_viber_picture_carries_text_and_button() -> None:
    sent = submission(
        "m", text="Go", image_url="https://a/b.png", button=LinkButton("Shop now", "https://a/")
    )
    (message,) = messages(VIBER, sent)
    assert message["content"] == {
        "type": "IMAGE",
        "mediaUrl": "https://a/b.png",
        "text": "Go",
        "button": {"title": "Shop now", "action": "https://a/"},
    }
    (message,) = messages(VIBER, submission("m", text="Go", button=LinkButton("b", "https://a/")))
    assert message["content"] == {
        "type": "TEXT",
        "text": "Go",
        "button": {"title": "b", "action": "https://a/"},
    }


@pytest.mark.parametrize(
    ("category", "label"),
    [("marketing", "PROMOTIONAL"), ("transactional", "TRANSACTIONAL"), ("otp", "TRANSACTIONAL")],
)
def test_the_label_follows_the_category(category: str, label: str) -> None:
    (message,) = messages(VIBER, submission("m", category=category))
    assert message["options"]["label"] == label


@pytest.mark.parametrize("adapter", [SMS, VIBER])
@pytest.mark.parametrize(
    ("asked_ms", "seconds"),
    [(1, 10), (10_000, 10), (10_999, 10), (59_999, 59), (172_800_000, 172_800), (10**12, 172_800)],
)
def test_the_validity_is_kept_within_what_infobip_takes(
    adapter: Any, asked_ms: int, seconds: int
) -> None:
    (message,) = messages(adapter, submission("m", validity_ms=asked_ms))
    assert message["options"]["validityPeriod"] == {"amount": seconds, "timeUnit": "SECONDS"}


def status(group: int, status_id: int, name: str = "SOME_NAME") -> dict[str, object]:
    return {"groupId": group, "id": status_id, "name": name}


def outcome(group: int, status_id: int) -> Submitted | Refused:
    sent, other = submission("m"), submission("other")
    body = json.loads(infobip_answer([(sent, "accepted"), (other, "accepted")]))
    body["messages"][0]["status"] = status(group, status_id)
    told = SMS.outcomes([sent, other], reply(200, json.dumps(body).encode()))[0]
    assert not isinstance(told, NotTaken)
    return told


@pytest.mark.parametrize(
    ("group", "status_id"), [(0, 0), (1, 3), (1, 7), (1, 26), (3, 2), (3, 5), (5, 23)]
)
def test_statuses_that_mean_accepted(group: int, status_id: int) -> None:
    assert isinstance(outcome(group, status_id), Submitted)


@pytest.mark.parametrize(
    ("group", "status_id", "permanent", "account", "about"),
    [
        *((2, i, True, False, "person") for i in (4, 9, 31)),
        *((4, i, True, False, "person") for i in (15, 29, 87)),
        *((5, i, True, False, "person") for i in (8, 10, 14, 51, 52, 87)),
        *((5, i, True, False, "message") for i in (24, 25)),
        *((5, i, True, False, "account") for i in (6, 11, 13, 18, 19, 100, 12345)),
        (5, 20, False, False, "person"),
        (5, 21, False, False, "account"),
        *((5, i, False, True, "account") for i in (12, 17)),
    ],
)
def test_statuses_that_mean_refused(
    group: int, status_id: int, permanent: bool, account: bool, about: About
) -> None:
    """One that nobody knows speaks of the account: nearly all cannot get it for the persons."""
    fault = Fault(str(status_id), "SOME_NAME", permanent)
    unreachable = status_id == 52
    assert outcome(group, status_id) == Refused("m", fault, account, about, unreachable)


@pytest.mark.parametrize(
    ("group", "status_id", "error", "about", "unreachable"),
    [
        (2, 9, None, "person", False),
        (2, 9, 7002, "person", True),
        (2, 9, 7201, "person", True),
        (2, 9, 1, "person", True),
        (2, 9, 27, "person", False),
        (2, 9, 603, "person", False),
        (2, 9, 99_999, "person", False),
        (2, 9, 7011, "account", False),
        (2, 9, 355, "message", False),
        (5, 13, None, "account", False),
        (5, 13, 7003, "person", True),
        (5, 52, None, "person", True),
        (5, 6, 99_999, "account", False),
        (5, 14, 368, "person", False),
        (4, 15, None, "person", False),
        (3, 5, 7002, "person", False),
    ],
)
def test_whom_a_failure_speaks_of_and_whether_anybody_is_there(
    group: int, status_id: int, error: int | None, about: About, unreachable: bool
) -> None:
    item: dict[str, object] = {"messageId": "m", "status": status(group, status_id)}
    if error is not None:
        item["error"] = {"id": error, "name": "EC", "permanent": True}
    (receipt,) = SMS.receipts(json.dumps({"results": [item]}).encode(), "").receipts
    assert (receipt.about, receipt.unreachable) == (about, unreachable)


@pytest.mark.parametrize(
    ("violated", "about"),
    [("messages[0].sender", "account"), ("messages[0].content.text", "message"), (None, "message")],
)
def test_a_request_refused_for_its_sender_speaks_of_the_account(
    violated: str | None, about: About
) -> None:
    violations = [{"property": violated, "violation": "is unknown"}] if violated else []
    body = {"errorCode": "E400", "description": "Bad.", "violations": violations}
    with pytest.raises(BadRequest) as caught:
        SMS.outcomes([submission("m")], reply(400, json.dumps(body).encode()))
    assert caught.value.about == about


def test_a_status_of_no_known_group_leaves_the_message_unknown() -> None:
    assert outcome(42, 1).ref == "other"


def test_parts_are_infobips_own_count() -> None:
    sent = submission("m")
    answer = infobip_answer([(sent, "accepted")])
    assert SMS.outcomes([sent], reply(200, answer)) == [Submitted("m", None, 2)]


def foreign(*entries: tuple[str | int | None, str | None]) -> bytes:
    told = [{"messageId": i, "destination": to, "status": PENDING} for i, to in entries]
    return json.dumps({"messages": told}).encode()


A = submission("a", to="+15550101")
B = submission("b", to="+15550102")
TWIN = submission("twin", to="+15550101")


def pairs(batch: list[Any], body: bytes) -> list[tuple[str, str | None]]:
    outcomes = SMS.outcomes(batch, reply(200, body))
    assert all(isinstance(o, Submitted) for o in outcomes)
    return [(o.ref, o.provider_id) for o in outcomes if isinstance(o, Submitted)]


def test_ids_of_infobips_own_are_matched_by_place_and_kept() -> None:
    body = foreign((31270416627523500044401, "15550101"), ("x-2", "15550102"))
    assert pairs([A, B], body) == [("a", "31270416627523500044401"), ("b", "x-2")]


def test_two_messages_to_one_number_are_told_apart_by_place() -> None:
    body = foreign(("x-1", "15550101"), ("x-2", "15550101"))
    assert pairs([A, TWIN], body) == [("a", "x-1"), ("twin", "x-2")]


def test_ids_of_infobips_own_in_another_order_are_matched_by_number() -> None:
    body = foreign(("x-2", "15550102"), ("x-1", "15550101"))
    assert pairs([A, B], body) == [("a", "x-1"), ("b", "x-2")]
    assert pairs([A, B], foreign(("x-2", "15550102"))) == [("b", "x-2")]


def test_a_number_that_could_be_either_message_is_nobodys() -> None:
    assert pairs([A, TWIN, B], foreign(("x-1", "15550101"), ("b", "15550102"))) == [("b", None)]
    with pytest.raises(Unknown):
        SMS.outcomes([A, TWIN], reply(200, foreign(("x-1", "15550101"))))


def test_an_unreadable_entry_does_not_shift_its_neighbours() -> None:
    body = json.loads(foreign(("x-0", "1"), ("x-1", "15550101"), ("x-2", "15550102")))
    body["messages"][0] = 7
    batch = [submission("z"), A, B]
    assert pairs(batch, json.dumps(body).encode()) == [("a", "x-1"), ("b", "x-2")]


@pytest.mark.parametrize(
    ("group", "status_id", "expected"),
    [
        (1, 26, "sent"),
        (1, 7, "sent"),
        (3, 2, "sent"),
        (3, 5, "delivered"),
        (2, 4, "undelivered"),
        (4, 15, "expired"),
        (4, 29, "expired"),
        (4, 87, "expired"),
        (5, 12, "rejected"),
        (5, 87, "rejected"),
        (5, 23, "sent"),
    ],
)
def test_report_statuses_are_read_by_group_and_id(
    group: int, status_id: int, expected: str
) -> None:
    assert receipt(status=status(group, status_id)).status == expected


def test_an_unknown_id_in_the_group_delivered_is_not_a_delivery() -> None:
    body = infobip_wrap([infobip_report_item("m", "delivered") | {"status": status(3, 77)}])
    read = SMS.receipts(body, "application/json")
    assert read.receipts == []
    assert "3, id 77" in read.faults[0]


def test_a_delivery_report_is_read_whole() -> None:
    assert receipt() == Receipt(
        "delivered",
        "m-1.1",
        at_ms=1_793_527_201_500,
        parts=2,
        cost=Decimal("0.02"),
        currency="EUR",
        to="79000000001",
        network="25001",
    )


def test_a_seen_report_is_read_whole() -> None:
    body = infobip_wrap([infobip_report_item("m-1.1", "seen") | {"to": "+79000000002"}])
    assert VIBER.receipts(body, "application/json").receipts == [
        Receipt("seen", "m-1.1", at_ms=1_793_527_500_250, to="79000000002")
    ]


@pytest.mark.parametrize("to", [None, "", "the shop", 12, 7.9e10, {"number": "79"}, "7" * 40])
def test_a_number_that_is_none_costs_the_report_nothing(to: object) -> None:
    body = infobip_wrap([infobip_report_item("m-1.1", "delivered") | {"to": to}])
    read = VIBER.receipts(body, "application/json")
    assert read.faults == []
    assert [(r.status, r.to) for r in read.receipts] == [("delivered", None)]


@pytest.mark.parametrize(
    "text", ["soon", "0001-01-01T00:00:00", "0001-01-01T00:00:00+0100", "9999-12-31T23:00:00-0500"]
)
def test_a_time_that_is_none_is_left_out_of_the_report_with_a_sentence(text: str) -> None:
    body = infobip_wrap([infobip_report_item("m-1.1", "delivered") | {"doneAt": text}])
    read = VIBER.receipts(body, "application/json")
    assert [(r.status, r.at_ms) for r in read.receipts] == [("delivered", None)]
    assert read.faults == [
        "The time of message m-1.1 was left out: it is no ISO 8601 date of 1970 to 2099."
    ]


def test_the_time_falls_back_to_when_it_was_sent() -> None:
    assert receipt(doneAt=None).at_ms == 1_793_527_200_000


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("1970-01-01T00:00:01.234+0000", 1_234),
        ("1970-01-01T01:00:01.234+0100", 1_234),
        ("1970-01-01T00:00:01.234Z", 1_234),
        ("1970-01-01T00:00:01+00:00", 1_000),
        ("1970-01-01T00:00:01", 1_000),
    ],
)
def test_dates(text: str, at_ms: int) -> None:
    assert receipt(doneAt=text).at_ms == at_ms


@pytest.mark.parametrize("text", ["yesterday", "", "2026-13-01T00:00:00.000+0000", 1_793_527_200])
def test_a_date_that_is_none_does_not_lose_the_delivery(text: object) -> None:
    body = infobip_wrap([infobip_report_item("m", "delivered") | {"doneAt": text, "sentAt": text}])
    read = SMS.receipts(body, "application/json")
    assert [(r.status, r.at_ms) for r in read.receipts] == [("delivered", None)]
    assert len(read.faults) == 1


@pytest.mark.parametrize(
    ("price", "count", "cost"),
    [
        ("0.1", 3, "0.3"),
        ("0.0072", 7, "0.0504"),
        ("0.30000000000000004", None, None),
        ("123456789.123456789012", 999, "123333332334.333332222988"),
        ("0", 1, "0"),
        ("1E-7", 2, "2E-7"),
        ('"0.25"', 2, "0.50"),
    ],
)
def test_prices_are_exact(price: str, count: int | None, cost: str | None) -> None:
    item = json.dumps(infobip_report_item("m", "delivered") | {"messageCount": count})
    body = f'{{"results":[{item.replace("0.01", price)}]}}'.encode()
    (read,) = SMS.receipts(body, "application/json").receipts
    assert read.cost == (None if cost is None else Decimal(cost))
    assert read.currency == "EUR"


@pytest.mark.parametrize(
    ("price", "count", "cost", "part_cost"),
    [
        ("0.0072", None, None, "0.0072"),
        ("0.30000000000000004", None, None, "0.3"),
        ("0.30000000000000004", 2, "0.6", None),
        ("0.07200000000000001", 1, "0.072", None),
    ],
)
def test_a_price_is_read_without_its_parts_and_without_the_noise_of_a_float(
    price: str, count: int | None, cost: str | None, part_cost: str | None
) -> None:
    item = json.dumps(infobip_report_item("m", "delivered") | {"messageCount": count})
    body = f'{{"results":[{item.replace("0.01", price)}]}}'.encode()
    read = SMS.receipts(body, "application/json")
    assert read.faults == []
    (only,) = read.receipts
    assert only.cost == (None if cost is None else Decimal(cost))
    assert only.part_cost == (None if part_cost is None else Decimal(part_cost))
    assert only.currency == "EUR"


@pytest.mark.parametrize(
    "price", ["-0.01", '"NaN"', '"Infinity"', "1e999999", "1e-999999", '"dear"', "1234567890"]
)
def test_a_price_that_is_none_does_not_lose_the_delivery(price: str) -> None:
    item = json.dumps(infobip_report_item("m", "delivered")).replace("0.01", price)
    read = SMS.receipts(f'{{"results":[{item}]}}'.encode(), "application/json")
    assert [(r.status, r.cost) for r in read.receipts] == [("delivered", None)]
    assert [(r.part_cost, r.currency) for r in read.receipts] == [(None, None)]
    assert len(read.faults) == 1


def test_signals_blocked_is_free_when_rejected_and_charged_when_expired() -> None:
    assert receipt(status=status(5, 87)).cost == 0
    assert receipt(status=status(4, 87)).cost == Decimal("0.02")


_UNDELIVERED = INFOBIP_STATUSES["undelivered"]
# Without an error of its own a failure is named by its status.
BY_STATUS = Fault(str(_UNDELIVERED["id"]), str(_UNDELIVERED["name"]), True)


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (NO_ERROR, BY_STATUS),
        (None, BY_STATUS),
        ({"id": 27, "name": "EC_ABSENT", "permanent": False}, Fault("27", "EC_ABSENT", False)),
        ({"id": 1, "name": "EC_UNKNOWN", "permanent": True}, Fault("1", "EC_UNKNOWN", True)),
        ({"id": 7002, "name": "EC_X", "permanent": False}, Fault("7002", "EC_X", True)),
        ({"id": 7003}, Fault("7003", "ERROR_7003", True)),
        ({"id": 7201, "name": "EC_Y"}, Fault("7201", "EC_Y", True)),
    ],
)
def test_errors(error: object, fault: Fault | None) -> None:
    assert receipt(status=INFOBIP_STATUSES["undelivered"], error=error).fault == fault


@pytest.mark.parametrize(
    ("named", "meaning"),
    [
        ({"groupName": "DELIVERED", "name": "DELIVERED_TO_HANDSET"}, "delivered"),
        ({"groupName": "DELIVERED", "name": "DELIVERED_TO_OPERATOR"}, "sent"),
        ({"groupId": 3, "name": "DELIVERED_TO_HANDSET"}, "delivered"),
        ({"groupName": "REJECTED", "name": "REJECTED_NETWORK"}, "rejected"),
        ({"groupName": "Expired"}, "expired"),
    ],
)
def test_a_status_may_be_told_by_its_names_alone(named: dict[str, object], meaning: str) -> None:
    assert receipt(status=named).status == meaning


@pytest.mark.parametrize(
    ("message_id", "echo", "ref", "provider_id"),
    [
        ("m-1.1", "m-1.1", "m-1.1", None),
        ("m-1.1", None, "m-1.1", None),
        ("31270", "m-1.1", "m-1.1", "31270"),
        (31270416627523500044401, None, "31270416627523500044401", None),
        (None, "m-1.1", "m-1.1", None),
        ("m-1.1", "Callback data", "m-1.1", None),
        ("m-1.1", "", "m-1.1", None),
    ],
)
def test_our_id_is_found_wherever_it_is(
    message_id: object, echo: object, ref: str, provider_id: str | None
) -> None:
    read = receipt(messageId=message_id, callbackData=echo)
    assert (read.ref, read.provider_id) == (ref, provider_id)


GOOD = infobip_report_item("m-1.1", "delivered")
ITEMS: list[object] = [
    GOOD,
    infobip_report_item("m-2.0", "undelivered"),
    {"messageId": "m-3.0", "seenAt": "2026-11-01T12:34:56.789+0000"},
    GOOD | {"doneAt": "never"},
    GOOD | {"price": {"pricePerMessage": -1, "currency": "EUR"}},
    GOOD | {"messageCount": "many"},
    GOOD | {"status": {"groupId": 99, "id": 1}},
    GOOD | {"messageId": None, "callbackData": None},
    {"messageId": "m-4.0"},
    None,
    [],
    7,
]


@given(items=st.lists(st.sampled_from(ITEMS), max_size=6))
def test_a_body_is_read_as_its_items_are_one_by_one(items: list[object]) -> None:
    body = infobip_wrap(items)
    assert SMS.receipts(body, "application/json") == read_reports(read_envelope(body).results or ())


def test_words_that_are_kept_with_a_step_are_short() -> None:
    """A name of a megabyte would be kept with each message that fails for it."""
    status = {"groupId": 5, "groupName": "REJECTED", "id": 6, "name": "X" * 100_000}
    found = receipt(status=status, error={"id": 1, "name": "Y" * 100_000}).fault
    assert found == Fault("1", "Y" * 200, found is not None and found.permanent)
    assert msgspec.convert({"c": "Z" * 300, "n": "", "p": True}, Fault).code == "Z" * 200


def test_a_click_report_is_harmless() -> None:
    body = json.dumps({"notificationType": "CLICKED", "messageId": "m", "url": "https://a/"})
    read = VIBER.receipts(body.encode(), "application/json")
    assert (read.receipts, read.faults) == ([], [])


def test_an_object_that_is_no_report_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="no results"):
        SMS.receipts(b'{"messages": []}', "application/json")


@pytest.mark.parametrize(
    ("headers", "wish_ms"),
    [
        ({}, None),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "120"}, 120_000),
        ({"retry-after": "9" * 5000}, 3_600_000),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "١٢"}, None),
        ({"retry-after": "Sun, 01 Nov 2026 10:00:30 GMT"}, None),
        (
            {
                "retry-after": "Sun, 01 Nov 2026 10:00:30 GMT",
                "date": "Sun, 01 Nov 2026 10:00:00 GMT",
            },
            30_000,
        ),
        (
            {
                "retry-after": "Sun, 01 Nov 2026 09:00:00 GMT",
                "date": "Sun, 01 Nov 2026 10:00:00 GMT",
            },
            0,
        ),
        (
            {
                "retry-after": "Sun Nov  1 10:00:30 2026",
                "date": "Sunday, 01-Nov-26 10:00:00 GMT",
            },
            30_000,
        ),
        (
            {"retry-after": "Sun, 01 Nov 2026 10:00:30 -0000", "date": "Sun Nov  1 10:00:00 2026"},
            30_000,
        ),
    ],
)
def test_retry_after(headers: dict[str, str], wish_ms: int | None) -> None:
    assert retry_after_ms(headers) == wish_ms


@pytest.mark.parametrize("damage", [rb'"\ud83d"', rb'"\udc00 x"', b'"\xff\xfe"'])
def test_a_damaged_text_costs_no_receipt(damage: bytes) -> None:
    good = b'{"messageId":"a","status":{"groupId":3,"id":5,"name":"DELIVERED"}}'
    bad = good.replace(b'"a"', b'"b"').replace(b'"DELIVERED"', damage)
    read = VIBER.receipts(b'{"results":[' + good + b"," + bad + b"]}", "application/json")
    assert [(r.ref, r.status) for r in read.receipts] == [("a", "delivered"), ("b", "delivered")]


def test_a_whole_pair_and_an_escaped_backslash_are_kept() -> None:
    body = rb'{"a":"\ud83d\ude00 \\ud83d \ud83d"}'
    assert json.loads(json_text.mended(body)) == {"a": "\U0001f600 \\ud83d \ufffd"}
