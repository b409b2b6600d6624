"""The simulator's pure half: fates, parts, prices, knobs, and an exchange that lives through virtual days."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import segments as gateway_segments
from providers.simulator.book import State, charge_of
from providers.simulator.exchange import Exchange, Push
from providers.simulator.fate import Kind, fate, handling, has_viber, timeline
from providers.simulator.knobs import KnobFault, Knobs, Override, changed, explained
from providers.simulator.prices import Price, PriceList, load_prices
from providers.simulator.schedule import Schedule
from providers.simulator.segments import octet_parts, text_parts
from providers.simulator.traffic import SlidingSecond
from providers.simulator.wire import SMS_REQUEST, VIBER_REQUEST, violation

NOW = 1_790_000_000_000
HOUR = 3_600_000
GRIN = "\U0001f600"

ids = st.text("abcdefghij0123456789-", min_size=1, max_size=20)
phones = st.integers(79_000_000_000, 79_999_999_999).map(str)
shares = st.floats(0, 1)


@st.composite
def any_knobs(draw: st.DrawFn) -> Knobs:
    return Knobs(
        seed=draw(st.integers(0, 2**53)),
        viber_share=draw(shares),
        viber_delivered=draw(st.floats(0, 0.5)),
        viber_undelivered=draw(st.floats(0, 0.5)),
        sms_delivered=draw(st.floats(0, 0.5)),
        sms_undelivered=draw(st.floats(0, 0.5)),
        seen_share=draw(shares),
        non_viber=draw(st.sampled_from(["receipt", "reject"])),
        unreached=draw(st.sampled_from(["expired", "silent"])),
        expiry_ms=draw(st.sampled_from([0, 1, 700])),
        revive_share=draw(shares),
        reject_share=draw(st.floats(0, 0.3)),
        receipt_lost_share=draw(shares),
        repeat_share=draw(shares),
        repeat_times=draw(st.integers(0, 3)),
        repeat_gap_ms=draw(st.sampled_from([0, 20])),
        reordered_share=draw(shares),
        early_share=draw(shares),
        late_share=draw(shares),
        sms_charged_on=draw(st.sampled_from(["sent", "delivered"])),
        viber_charged_on=draw(st.sampled_from(["sent", "delivered"])),
    )


# --- parts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("a" * 159 + "€", 2),
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("a" * 152 + "[" + "a" * 153, 3),
        ("a" * 152 + "[" + "a" * 151, 2),
        ("[" * 76 + "a" + "[" * 76, 2),
        ("я" * 70, 1),
        ("я" * 71, 2),
        ("я" * 134, 2),
        ("я" * 135, 3),
        ("я" * 202, 4),
        (GRIN * 35, 1),
        (GRIN * 36, 2),
        ("я" * 66 + GRIN + "я" * 66, 3),
        ("я" * 66 + GRIN + "я" * 65, 2),
        ("Ç", 1),
        ("ç", 1),
        ("ç" * 71, 2),
        ("[я]", 1),
        ("", 1),
    ],
)
def test_parts_are_those_of_the_test_vectors(text: str, parts: int) -> None:
    assert text_parts(text) == parts


@given(st.text(st.sampled_from("a€[я`" + GRIN), max_size=500))
def test_the_provider_and_the_gateway_count_the_same_parts(text: str) -> None:
    assert text_parts(text) == gateway_segments.parts(text)


def test_binary_parts_hold_140_octets_alone_and_134_together() -> None:
    assert [octet_parts(n) for n in (1, 140, 141, 268, 269)] == [1, 1, 2, 2, 3]


# --- fates ---------------------------------------------------------------------------------------


@given(any_knobs(), ids, ids, phones)
def test_a_person_has_viber_or_not_whatever_is_sent(
    knobs: Knobs, one: str, other: str, to: str
) -> None:
    member = has_viber(knobs, to)
    knobs = msgspec.structs.replace(
        knobs, reject_share=0.0, viber_delivered=1.0, viber_undelivered=0.0
    )
    for key in (one, other):
        assert (fate(knobs, "viber", key, to, None).ending == "delivered") is member


@given(any_knobs(), ids, phones)
def test_another_knob_does_not_change_how_a_message_ends(knobs: Knobs, key: str, to: str) -> None:
    calm = msgspec.structs.replace(
        knobs, early_share=0.0, late_share=0.0, repeat_share=0.0, receipt_lost_share=0.0
    )
    one, other = fate(knobs, "sms", key, to, None), fate(calm, "sms", key, to, None)
    assert (one.ending, one.status, one.receipt_ms) == (
        other.ending,
        other.status,
        other.receipt_ms,
    )


def test_shares_hold_over_many_numbers() -> None:
    knobs = Knobs()
    members = sum(has_viber(knobs, str(79_160_000_000 + n)) for n in range(20_000))
    assert 0.52 < members / 20_000 < 0.54


def test_another_seed_gives_other_people() -> None:
    numbers = [str(79_160_000_000 + n) for n in range(200)]
    one = [has_viber(Knobs(seed=1), to) for to in numbers]
    assert one != [has_viber(Knobs(seed=2), to) for to in numbers]
    assert one == [has_viber(Knobs(seed=1), to) for to in numbers]


@given(any_knobs(), st.sampled_from(["viber", "sms"]), ids, phones, st.booleans())
def test_a_message_ends_once_and_no_report_outruns_what_it_tells(
    knobs: Knobs, channel: str, key: str, to: str, intermediate: bool
) -> None:
    destiny = fate(knobs, channel, key, to, None)
    happenings = timeline(destiny, knobs, NOW, 900_000, intermediate=intermediate)
    kinds = [kind for _, kind in happenings]
    assert [at for at, _ in happenings] == sorted(at for at, _ in happenings)
    if destiny.ending == "rejected":
        assert kinds == []
        return
    assert kinds.count(Kind.FINISH) == (destiny.ending != "silent")
    for change, report in (
        (Kind.FINISH, Kind.REPORT),
        (Kind.SEE, Kind.SEEN_REPORT),
        (Kind.REVIVE, Kind.REVIVE_REPORT),
    ):
        if change in kinds and not destiny.lost:
            assert kinds.count(report) == destiny.repeats + 1
            assert kinds.index(change) < kinds.index(report)
        else:
            assert report not in kinds
    if destiny.reordered and Kind.SEEN_REPORT in kinds:
        assert kinds.index(Kind.SEEN_REPORT) < kinds.index(Kind.REPORT)
    if Kind.FINISH in kinds:
        assert (happenings[kinds.index(Kind.FINISH)][0] == NOW) is destiny.early


def test_an_override_wins_over_every_share() -> None:
    knobs = Knobs(viber_share=0.0, reject_share=1.0)
    destiny = fate(knobs, "viber", "m", "79160000001", Override(ending="delivered", seen=True))
    assert (destiny.ending, destiny.status, destiny.error) == ("delivered", 5, 0)
    assert destiny.seen_ms is not None


def test_a_repeated_request_can_fare_better() -> None:
    knobs = Knobs(lost_share=0.5)
    fates = {handling(knobs, "m1", attempt).fate for attempt in range(20)}
    assert fates == {"lost", "good"}
    assert handling(knobs, "m1", 3) == handling(knobs, "m1", 3)


# --- prices --------------------------------------------------------------------------------------


def amount(prices: PriceList, channel: str, to: str, category: str, day: str) -> str | None:
    tag = prices.find(channel, to, category, day)
    return None if tag is None else str(tag.amount)


def test_longest_prefix_then_named_category_then_latest_date_not_to_come() -> None:
    prices = PriceList(
        [
            Price("viber", "0.9", prefix=""),
            Price("viber", "0.5", prefix="7"),
            Price("viber", "0.4", prefix="7", category="marketing"),
            Price("viber", "0.3", prefix="7", category="marketing", valid_from="2026-06-01"),
            Price("viber", "0.2", prefix="7", category="marketing", valid_from="2027-01-01"),
            Price("viber", "0.1", prefix="7916"),
        ]
    )
    assert amount(prices, "viber", "4479", "marketing", "2026-11-01") == "0.9"
    assert amount(prices, "viber", "7900", "transactional", "2026-11-01") == "0.5"
    assert amount(prices, "viber", "7900", "marketing", "2026-05-31") == "0.4"
    assert amount(prices, "viber", "7900", "marketing", "2026-06-01") == "0.3"
    assert amount(prices, "viber", "7900", "marketing", "2027-01-01") == "0.2"
    assert amount(prices, "viber", "79161", "marketing", "2027-01-01") == "0.1"
    assert amount(prices, "sms", "7900", "", "2026-11-01") is None


def test_the_gateways_price_file_is_read_for_the_providers_named(tmp_path) -> None:
    file = tmp_path / "prices.csv"
    file.write_text(
        "provider,prefix,category,cost,sell,currency,valid_from\n"
        "infobip-viber,7,marketing,0.0123,0.02,EUR,2026-01-01\n"
        "infobip-sms,7,,0.0450,0.06,EUR,\n"
        "someone-else,7,,9,9,EUR,\n"
    )
    prices = load_prices(file, {"infobip-viber": "viber", "infobip-sms": "sms"})
    assert prices == (
        Price("viber", "0.0123", "7", "marketing", "EUR", "2026-01-01"),
        Price("sms", "0.0450", "7", "", "EUR", ""),
    )


@pytest.mark.parametrize("line", ["infobip-sms,7,,cheap,1,EUR,", "infobip-sms,7,gift,1,1,EUR,"])
def test_a_bad_price_line_is_named(tmp_path, line: str) -> None:
    file = tmp_path / "prices.csv"
    file.write_text(f"provider,prefix,category,cost,sell,currency,valid_from\n{line}\n")
    with pytest.raises(ValueError, match=r"prices\.csv, line 2"):
        load_prices(file, {"infobip-sms": "sms"})


# --- knobs ---------------------------------------------------------------------------------------


def test_every_knob_has_a_sentence() -> None:
    lines = explained(Knobs())
    assert [line.key for line in lines] == list(Knobs.__struct_fields__)
    assert all(line.sentence.endswith(".") for line in lines)


@pytest.mark.parametrize(
    ("patch", "key"),
    [
        ({"viber_share": 1.5}, "viber_share"),
        ({"viber_share": "half"}, "viber_share"),
        ({"nonsense": 1}, "nonsense"),
        ({"answer_ms_min": 500}, "answer_ms_min"),
        ({"viber_delivered": 0.7, "viber_undelivered": 0.7}, "viber_undelivered"),
        ({"reject_status": 5}, "reject_status"),
        ({"reject_status": 99_999}, "reject_status"),
        ({"non_viber_error": 99_999}, "non_viber_error"),
        ({"by_phone": {"seven": {}}}, "by_phone.seven"),
        (
            {"by_phone": {"+7": {"sms": {"status": 9, "ending": "rejected"}}}},
            "by_phone.+7.sms.status",
        ),
        ({"prices": [{"channel": "sms", "price": "-1"}]}, "prices[0]"),
        ([], ""),
    ],
)
def test_a_bad_knob_is_named(patch: object, key: str) -> None:
    with pytest.raises(KnobFault) as caught:
        changed(Knobs(), patch)
    assert caught.value.key == key
    assert caught.value.sentence


def test_a_change_leaves_the_other_knobs_alone() -> None:
    first = Knobs(seed=7, by_phone={})
    assert changed(first, {"viber_share": 1}) == msgspec.structs.replace(first, viber_share=1.0)


# --- schedule and traffic ------------------------------------------------------------------------


@given(st.lists(st.integers(0, 50)))
def test_a_schedule_gives_everything_once_in_order(times: list[int]) -> None:
    schedule: Schedule[tuple[int, int]] = Schedule()
    for number, at in enumerate(times):
        schedule.add(at, (at, number))
    first = schedule.take(25)
    assert all(at <= 25 for at, _ in first)
    assert len(schedule) == len(times) - len(first)
    assert first + schedule.take(None) == sorted((at, n) for n, at in enumerate(times))
    assert schedule.next_ms() is None


@given(st.lists(st.tuples(st.integers(0, 3_000), st.integers(1, 100))))
def test_the_busiest_second_is_found(arrivals: list[tuple[int, int]]) -> None:
    window = SlidingSecond()
    arrivals.sort()
    for at, messages in arrivals:
        window.add(at, messages)
    sums = [sum(n for at, n in arrivals if end - 1_000 < at <= end) for end, _ in arrivals]
    assert window.peak == max(sums, default=0)


# --- the exchange --------------------------------------------------------------------------------


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
    answer = msgspec.json.decode(exchange.send(VIBER_REQUEST.decode(body), now_ms).answer)
    return [item["status"]["name"] for item in answer["messages"]]


def send_sms(exchange: Exchange, body: bytes, now_ms: int = NOW) -> list[str]:
    answer = msgspec.json.decode(exchange.send(SMS_REQUEST.decode(body), now_ms).answer)
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
    sent = exchange.send(VIBER_REQUEST.decode(viber(("m", "79160000001"))), NOW)
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
    shape = msgspec.json.decode(push.report, type=dict[str, msgspec.Raw])
    parsed = msgspec.json.decode(shape["price"], type=dict[str, Decimal | str])
    assert Decimal(str(parsed["pricePerMessage"])) == price
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


refs = st.lists(st.tuples(ids, phones), min_size=1, max_size=30, unique_by=lambda pair: pair[0])


@given(any_knobs(), refs, st.data())
def test_order_and_batching_change_neither_fates_nor_bill(
    knobs: Knobs, messages: list[tuple[str, str]], data: st.DataObject
) -> None:
    at_once, one_by_one = Exchange(knobs), Exchange(knobs)
    send_viber(at_once, viber(*messages))
    for number, message in enumerate(data.draw(st.permutations(messages))):
        send_viber(one_by_one, viber(message), NOW + number * 17)
        one_by_one.tick(NOW + number * 17)
    reports = [sorted(told(x.tick(NOW + 99 * HOUR))) for x in (at_once,)]
    one_by_one.tick(NOW + 99 * HOUR)
    assert reports
    bills = [x.book.bill(limit=None) for x in (at_once, one_by_one)]
    assert bills[0].messages == bills[1].messages
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
        return [msgspec.json.decode(raw)["status"]["name"] for raw in found]

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
    with pytest.raises(msgspec.MsgspecError) as caught:
        SMS_REQUEST.decode(body)
    assert violation(caught.value)[0] == where
