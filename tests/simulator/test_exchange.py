"""The simulator's exchange under a virtual clock: the stories of numbers, the bill, the logs."""

from __future__ import annotations

import json
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from providers.simulator.book import Bill, MessageBill, charge_of
from providers.simulator.exchange import Exchange, Push
from providers.simulator.infobip.twin import Infobip
from providers.simulator.knobs import Knobs, changed
from providers.simulator.prices import Price
from providers.simulator.segments import text_parts
from providers.simulator.twin import Unreadable
from providers.simulator.vocabulary import State
from tests.worlds.simulator_world import any_knobs, ids, phones

INFOBIP = Infobip()
NOW = 1_790_000_000_000
HOUR = 3_600_000


def viber(*to: tuple[str, str], **options: object) -> bytes:
    return msgspec.json.encode(
        {
            "messages": [
                {
                    "sender": "Shop",
                    "destinations": [{"to": phone, "messageId": ref}],
                    "content": {"type": "TEXT", "text": "Hello"},
                    "options": options,
                    "webhooks": {"delivery": {"url": "d"}, "seen": {"url": "s"}},
                }
                for ref, phone in to
            ]
        }
    )


def sms(*to: tuple[str, str], text: str = "Hello", **delivery: object) -> bytes:
    return msgspec.json.encode(
        {
            "messages": [
                {
                    "sender": "Shop",
                    "destinations": [{"to": phone, "messageId": ref}],
                    "content": {"text": text},
                    "webhooks": {"delivery": {"url": "d", **delivery}},
                }
                for ref, phone in to
            ]
        }
    )


def send_viber(exchange: Exchange, body: bytes, now_ms: int = NOW) -> list[str]:
    answer = msgspec.json.decode(
        exchange.send(INFOBIP, INFOBIP.read_send("viber", body), now_ms).answer.body
    )
    return [item["status"]["name"] for item in answer["messages"]]


def send_sms(exchange: Exchange, body: bytes, now_ms: int = NOW) -> list[str]:
    answer = msgspec.json.decode(
        exchange.send(INFOBIP, INFOBIP.read_send("sms", body), now_ms).answer.body
    )
    return [item["status"]["name"] for item in answer["messages"]]


def told(pushes: list[Push]) -> list[tuple[str, str, object]]:
    """What reports say: message id, status name or `seen`, and error id."""
    lines: list[tuple[str, str, object]] = []
    for push in pushes:
        shape = msgspec.json.decode(push.report)
        if push.kind == "seen":
            lines.append((shape["messageId"], "seen", 0))
        else:
            lines.append((shape["messageId"], shape["status"]["name"], shape["error"]["id"]))
    return lines


def for_phone(channel: str, **override: object) -> Knobs:
    return changed(Knobs(), {"by_phone": {"+79160000001": {channel: override}}})


def viber_story(**override: object) -> list[tuple[str, object]]:
    exchange = Exchange(for_phone("viber", **override))
    sent = exchange.send(INFOBIP, INFOBIP.read_send("viber", viber(("m", "79160000001"))), NOW)
    pushes = sent.early + exchange.tick(NOW + 100 * HOUR)
    return [line[1:] for line in told(pushes)]


@pytest.mark.parametrize(
    ("override", "story"),
    [
        ({"ending": "delivered", "seen": False}, [("DELIVERED_TO_HANDSET", 0)]),
        (
            {"ending": "delivered", "seen": True},
            [("DELIVERED_TO_HANDSET", 0), ("seen", 0)],
        ),
        (
            {"ending": "delivered", "seen": True, "reordered": True},
            [("seen", 0), ("DELIVERED_TO_HANDSET", 0)],
        ),
        ({"ending": "undelivered", "error": 7002}, [("UNDELIVERABLE_NOT_DELIVERED", 7002)]),
        ({"ending": "undelivered", "status": 6}, [("REJECTED_NETWORK", 7003)]),
        ({"ending": "expired"}, [("EXPIRED_EXPIRED", 4101)]),
        ({"ending": "silent"}, []),
        ({"ending": "delivered", "seen": True, "lost": True}, []),
        (
            {"ending": "delivered", "seen": False, "repeats": 2},
            [("DELIVERED_TO_HANDSET", 0)] * 3,
        ),
        (
            {"ending": "expired", "then_delivered_ms": 5},
            [("EXPIRED_EXPIRED", 4101), ("DELIVERED_TO_HANDSET", 0)],
        ),
        ({"ending": "silent", "then_delivered_ms": 5}, [("DELIVERED_TO_HANDSET", 0)]),
        ({"ending": "rejected", "status": 14}, []),
    ],
)
def test_a_number_can_be_given_its_story(override: dict[str, object], story: object) -> None:
    assert viber_story(**override) == story


def test_an_expiry_comes_at_the_requests_own_validity_period() -> None:
    exchange = Exchange(for_phone("viber", ending="expired"))
    send_viber(exchange, viber(("m", "79160000001"), validityPeriod={"amount": 90}))
    assert exchange.tick(NOW + 90 * 60_000 - 1) == []
    assert told(exchange.tick(NOW + 90 * 60_000)) == [("m", "EXPIRED_EXPIRED", 4101)]


def test_validity_is_clamped_to_48_hours() -> None:
    exchange = Exchange(for_phone("viber", ending="expired"))
    period = {"amount": 72, "timeUnit": "HOURS"}
    send_viber(exchange, viber(("m", "79160000001"), validityPeriod=period))
    assert exchange.next_ms() == NOW + 48 * HOUR


def test_a_late_report_tells_when_the_message_was_delivered() -> None:
    knobs = for_phone("viber", ending="delivered", seen=False, receipt_ms=100, late_ms=5_000)
    exchange = Exchange(knobs)
    send_viber(exchange, viber(("m", "79160000001")))
    assert exchange.tick(NOW + 100) == []
    assert exchange.book.bill().channels[0].charged == 1
    [push] = exchange.tick(NOW + 5_100)
    assert msgspec.json.decode(push.report)["doneAt"] == "2026-09-21T14:13:20.100+0000"


def test_an_intermediate_report_is_in_group_delivered_though_nobody_has_the_sms() -> None:
    exchange = Exchange(for_phone("sms", ending="undelivered", receipt_ms=100))
    send_sms(exchange, sms(("m", "79160000001"), intermediateReport=True))
    [push] = exchange.tick(NOW + 50)
    status = msgspec.json.decode(push.report)["status"]
    assert (status["groupName"], status["name"]) == ("DELIVERED", "DELIVERED_TO_OPERATOR")
    assert told(exchange.tick(NOW + 100)) == [("m", "UNDELIVERABLE_NOT_DELIVERED", 27)]


def test_without_notify_nothing_is_pushed() -> None:
    exchange = Exchange(for_phone("sms", ending="delivered"))
    send_sms(exchange, sms(("m", "79160000001"), notify=False))
    assert exchange.tick(NOW + HOUR) == []
    assert exchange.book.bill().channels[0].delivered == 1


@pytest.mark.parametrize(
    ("to", "status"),
    [
        ("", "MISSING_TO"),
        ("+79160000001", "REJECTED_DESTINATION"),
        ("abc", "REJECTED_DESTINATION"),
        ("1234", "REJECTED_DESTINATION"),
        ("79160000001", "PENDING_ACCEPTED"),
    ],
)
def test_a_destination_is_digits(to: str, status: str) -> None:
    assert send_sms(Exchange(Knobs()), sms(("m", to))) == [status]


def test_an_sms_of_26_parts_is_too_long() -> None:
    exchange = Exchange(Knobs())
    assert send_sms(exchange, sms(("a", "79160000001"), text="я" * 67 * 25)) == ["PENDING_ACCEPTED"]
    assert send_sms(exchange, sms(("b", "79160000001"), text="я" * 67 * 26)) == [
        "REJECTED_MESSAGE_TOO_LONG"
    ]


def test_a_number_without_a_price_has_no_route_and_costs_nothing() -> None:
    exchange = Exchange(Knobs(prices=(Price("sms", "0.04", prefix="7"),)))
    assert send_sms(exchange, sms(("m", "447900000001"))) == ["REJECTED_ROUTE_NOT_AVAILABLE"]
    assert exchange.book.bill().charge == {"EUR": "0"}


def test_a_repeated_id_is_refused_and_changes_nothing() -> None:
    exchange = Exchange(for_phone("viber", ending="delivered", seen=False))
    body = viber(("m", "79160000001"), ("m", "79160000001"))
    assert send_viber(exchange, body) == ["PENDING_ACCEPTED", "REJECTED_DUPLICATE_MESSAGE_ID"]
    exchange.tick(NOW + HOUR)
    assert send_viber(exchange, body) == ["REJECTED_DUPLICATE_MESSAGE_ID"] * 2
    assert exchange.tick(NOW + 2 * HOUR) == []
    bill = exchange.book.bill()
    assert bill.messages["m"].requests == 4
    assert bill.messages["m"].charge == "0.0100"
    assert exchange.book.duplicates == 3


# --- the bill ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("charged_on", "ending", "charge"),
    [
        ("sent", "delivered", "0.0800"),
        ("sent", "undelivered", "0.0800"),
        ("delivered", "delivered", "0.0800"),
        ("delivered", "undelivered", "0"),
        ("sent", "rejected", "0"),
    ],
)
def test_an_sms_is_charged_by_the_part_when_the_knob_says(
    charged_on: str, ending: str, charge: str
) -> None:
    knobs = changed(for_phone("sms", ending=ending), {"sms_charged_on": charged_on})
    exchange = Exchange(knobs)
    send_sms(exchange, sms(("m", "79160000001"), text="я" * 71))
    exchange.tick(NOW + HOUR)
    assert exchange.book.bill().messages["m"].charge == charge


@pytest.mark.parametrize(("always", "price"), [(True, Decimal("0.0100")), (False, Decimal(0))])
def test_a_free_end_may_still_show_the_list_price(always: bool, price: Decimal) -> None:
    knobs = changed(for_phone("viber", ending="undelivered"), {"price_when_free": always})
    exchange = Exchange(knobs)
    send_viber(exchange, viber(("m", "79160000001")))
    [push] = exchange.tick(NOW + HOUR)
    shape = json.loads(push.report, parse_float=Decimal)
    assert shape["price"] == {"pricePerMessage": price, "currency": "EUR"}
    assert exchange.book.bill().messages["m"].charge == "0"


def test_a_label_chooses_the_price_of_a_viber_message() -> None:
    prices = (
        Price("viber", "0.03", category="marketing"),
        Price("viber", "0.01", category="transactional"),
    )
    exchange = Exchange(Knobs(prices=prices, viber_charged_on="sent", reject_share=0.0))
    send_viber(exchange, viber(("a", "79160000001"), label="TRANSACTIONAL"))
    send_viber(exchange, viber(("b", "79160000002"), label="PROMOTIONAL"))
    bill = exchange.book.bill()
    assert [bill.messages[ref].charge for ref in ("a", "b")] == ["0.01", "0.03"]


def test_a_delivery_after_the_expiry_is_charged_once() -> None:
    exchange = Exchange(for_phone("viber", ending="expired", then_delivered_ms=5, repeats=3))
    send_viber(exchange, viber(("m", "79160000001")))
    exchange.tick(NOW + 48 * HOUR)
    assert exchange.book.bill().messages["m"].charge == "0"
    exchange.tick(NOW + 49 * HOUR)
    bill = exchange.book.bill()
    assert (bill.messages["m"].outcome, bill.messages["m"].charge) == ("delivered", "0.0100")
    assert bill.charge == {"EUR": "0.0100"}


def test_the_bill_comes_in_pages() -> None:
    exchange = Exchange(Knobs())
    send_sms(exchange, sms(*((f"m{n}", "79160000001") for n in range(5))))
    first = exchange.book.bill(limit=3)
    assert (list(first.messages), first.next_offset) == (["m0", "m1", "m2"], 3)
    last = exchange.book.bill(offset=3, limit=3)
    assert (list(last.messages), last.next_offset) == (["m3", "m4"], None)


def whoever_was_sent_when(bill: Bill) -> dict[str, MessageBill]:
    """What became of the messages, whatever the moment of it."""
    return {ref: replace(one, accepted_ms=0, delivered_ms=0) for ref, one in bill.messages.items()}


refs = st.lists(st.tuples(ids, phones), min_size=1, max_size=30, unique_by=lambda pair: pair[0])


@given(any_knobs(), refs, st.data())
def test_order_and_batching_change_neither_fates_nor_bill(
    knobs: Knobs, messages: list[tuple[str, str]], data: st.DataObject
) -> None:
    at_once, one_by_one = Exchange(knobs), Exchange(knobs)
    whole = at_once.send(INFOBIP, INFOBIP.read_send("viber", viber(*messages)), NOW).early
    whole += at_once.tick(NOW + 99 * HOUR)
    parts: list[Push] = []
    for number, message in enumerate(data.draw(st.permutations(messages))):
        now_ms = NOW + number * 17
        parts += one_by_one.send(INFOBIP, INFOBIP.read_send("viber", viber(message)), now_ms).early
        parts += one_by_one.tick(now_ms)
    parts += one_by_one.tick(NOW + 99 * HOUR)
    assert sorted(told(whole)) == sorted(told(parts))
    bills = [x.book.bill(limit=None) for x in (at_once, one_by_one)]
    assert whoever_was_sent_when(bills[0]) == whoever_was_sent_when(bills[1])
    assert bills[0].charge == bills[1].charge


@given(any_knobs(), refs, st.integers(1, 400))
def test_the_bill_is_the_exact_sum_of_its_messages(
    knobs: Knobs, messages: list[tuple[str, str]], length: int
) -> None:
    knobs = msgspec.structs.replace(knobs, prices=(Price("sms", "0.012345"),))
    exchange = Exchange(knobs)
    send_sms(exchange, sms(*messages, text="я" * length))
    exchange.tick(NOW + 99 * HOUR)
    bill = exchange.book.bill(limit=None)
    lines = [Decimal(line.charge) for line in bill.messages.values()]
    assert Decimal(bill.charge["EUR"]) == sum(lines, Decimal(0))
    for ref, _ in messages:
        entry = exchange.book.get(ref)
        assert entry is not None
        owed = entry.state is State.DELIVERED or (
            knobs.sms_charged_on == "sent" and entry.state is not State.REJECTED
        )
        wanted = Decimal("0.012345") * text_parts("я" * length) if owed else Decimal(0)
        assert charge_of(entry) == wanted


# --- the pull endpoints' source, and violations ---------------------------------------------------


def test_a_report_is_pulled_once_and_a_newer_status_makes_a_new_one() -> None:
    exchange = Exchange(for_phone("viber", ending="expired", then_delivered_ms=5))
    send_viber(exchange, viber(("m", "79160000001")))

    def pull() -> list[str]:
        found = exchange.reports("viber", ["m"], [], 50)
        body = msgspec.json.decode(INFOBIP.pulled("reports", found, price_when_free=True))
        return [item["status"]["name"] for item in body["results"]]

    assert pull() == []
    exchange.tick(NOW + 48 * HOUR)
    assert pull() == ["EXPIRED_EXPIRED"]
    assert pull() == []
    exchange.tick(NOW + 49 * HOUR)
    assert pull() == ["DELIVERED_TO_HANDSET"]


def test_logs_find_messages_by_id_bulk_and_channel() -> None:
    exchange = Exchange(Knobs())
    send_sms(exchange, sms(("a", "79160000001"), ("b", "79160000002")))
    send_sms(exchange, sms(("c", "79160000003")))

    def find(channel: str, refs: list[str], bulks: list[str], limit: int = 50) -> list[str]:
        return [line.message_id for line in exchange.logs(channel, refs, bulks, limit)]

    assert find("sms", ["c", "unknown", "a"], []) == ["c", "a"]
    assert find("sms", [], ["bulk-1"]) == ["b", "a"]
    assert find("sms", [], [], 2) == ["c", "b"]
    assert find("viber", ["a"], []) == []


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b'{"messages":[]}', "messages"),
        (
            b'{"messages":[{"destinations":[{"to":"7"}],"content":{"text":"x","hex":"0"}}]}',
            "messages[0].content",
        ),
        (b'{"messages":[{"destinations":[{"to":"7"}],"contents":{}}]}', "messages[0]"),
        (b"{", ""),
    ],
)
def test_a_violation_names_the_property(body: bytes, where: str) -> None:
    with pytest.raises(Unreadable) as caught:
        INFOBIP.read_send("sms", body)
    assert [name for name, _ in caught.value.violations] == [where]
