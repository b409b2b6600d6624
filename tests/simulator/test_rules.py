"""The simulator's rules, each by itself: parts, fates, prices, knobs, schedule, traffic."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core import segments as gateway_segments
from providers.simulator.fate import Kind, fate, handling, has_channel, timeline
from providers.simulator.infobip.catalogue import CATALOGUE
from providers.simulator.knobs import KnobFault, Knobs, Override, changed, explained
from providers.simulator.mail.smtp import CATALOGUE as MAIL_CATALOGUE
from providers.simulator.prices import Price, PriceList, load_prices
from providers.simulator.schedule import Schedule
from providers.simulator.segments import octet_parts, text_parts
from providers.simulator.traffic import SlidingSecond
from tests.worlds.simulator_world import any_knobs, ids, phones

NOW = 1_790_000_000_000
GRIN = "\U0001f600"

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
    member = has_channel(knobs, "viber", to)
    knobs = msgspec.structs.replace(
        knobs, reject_share=0.0, viber_delivered=1.0, viber_undelivered=0.0
    )
    for key in (one, other):
        assert (fate(knobs, CATALOGUE, "viber", key, to, None).ending == "delivered") is member


@given(any_knobs(), ids, phones)
def test_another_knob_does_not_change_how_a_message_ends(knobs: Knobs, key: str, to: str) -> None:
    calm = msgspec.structs.replace(
        knobs, early_share=0.0, late_share=0.0, repeat_share=0.0, receipt_lost_share=0.0
    )
    one, other = (
        fate(knobs, CATALOGUE, "sms", key, to, None),
        fate(calm, CATALOGUE, "sms", key, to, None),
    )
    assert (one.ending, one.status, one.receipt_ms) == (
        other.ending,
        other.status,
        other.receipt_ms,
    )


def test_shares_hold_over_many_numbers() -> None:
    knobs = Knobs()
    members = sum(has_channel(knobs, "viber", str(79_160_000_000 + n)) for n in range(20_000))
    assert 0.52 < members / 20_000 < 0.54


def test_another_seed_gives_other_people() -> None:
    numbers = [str(79_160_000_000 + n) for n in range(200)]
    one = [has_channel(Knobs(seed=1), "viber", to) for to in numbers]
    assert one != [has_channel(Knobs(seed=2), "viber", to) for to in numbers]
    assert one == [has_channel(Knobs(seed=1), "viber", to) for to in numbers]


@given(any_knobs(), st.sampled_from(["viber", "sms"]), ids, phones, st.booleans())
def test_a_message_ends_once_and_no_report_outruns_what_it_tells(
    knobs: Knobs, channel: str, key: str, to: str, intermediate: bool
) -> None:
    destiny = fate(knobs, CATALOGUE, channel, key, to, None)
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


def test_a_share_of_the_mails_that_arrive_is_reported_as_spam_and_no_other_message() -> None:
    knobs = Knobs(email_share=1.0, email_delivered=0.5, email_undelivered=0.5, email_complained=0.2)
    silent = replace(knobs, email_complained=0.0)
    refs, to = [f"m{n}" for n in range(4_000)], "anna@example.com"
    mails = [fate(knobs, MAIL_CATALOGUE, "email", each, to, None) for each in refs]
    arrived = [each for each in mails if each.ending == "delivered"]
    complaints = [each for each in mails if each.complaint_ms is not None]
    assert 0.17 < len(complaints) / len(arrived) < 0.23
    assert {each.ending for each in complaints} == {"delivered"}
    assert [replace(each, complaint_ms=None) for each in mails] == [
        fate(silent, MAIL_CATALOGUE, "email", each, to, None) for each in refs
    ]
    texts = [fate(knobs, CATALOGUE, "sms", each, "79160000001", None) for each in refs]
    assert all(each.complaint_ms is None for each in texts)


def test_who_complains_does_so_of_what_an_override_delivers() -> None:
    knobs = Knobs(email_share=0.0, email_complained=1.0)
    for override in (Override(ending="delivered"), Override(ending="undelivered")):
        destiny = fate(knobs, MAIL_CATALOGUE, "email", "m", "anna@example.com", override)
        assert (destiny.complaint_ms is not None) is (override.ending == "delivered")


def test_an_override_wins_over_every_share() -> None:
    knobs = Knobs(viber_share=0.0, reject_share=1.0)
    destiny = fate(
        knobs, CATALOGUE, "viber", "m", "79160000001", Override(ending="delivered", seen=True)
    )
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


def test_the_gateways_price_file_is_read_for_the_providers_named(tmp_path: Path) -> None:
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
def test_a_bad_price_line_is_named(tmp_path: Path, line: str) -> None:
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
