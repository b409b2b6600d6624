"""People with habits: who they are follows from seed and address, and what they do from that."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from providers.simulator.book import Book, Click
from providers.simulator.exchange import Exchange, Push
from providers.simulator.fate import Kind, fate, has_channel
from providers.simulator.habits import Manner, People, person_at, read_people
from providers.simulator.infobip.catalogue import CATALOGUE
from providers.simulator.infobip.twin import Infobip
from providers.simulator.knobs import KnobFault, Knobs, changed
from providers.simulator.lines import Recalled

ROOT = Path(__file__).resolve().parents[2]
INFOBIP = Infobip()
NOW = 1_790_000_000_000
HOUR = 3_600_000
READER = People("reads", 0.5, {"viber": Manner(read_ms_min=10, read_ms_max=90), "sms": Manner()})
WITHOUT = People("has no Viber", 0.5, {"sms": Manner()})
PHONES = [f"7944{n:07d}" for n in range(400)]


SURE = Knobs(viber_delivered=1.0, viber_undelivered=0.0, sms_delivered=1.0, sms_undelivered=0.0)


def knobs_for(manner: Manner, channel: str = "viber") -> Knobs:
    return replace(SURE, people=(People("all", 1.0, {channel: manner}),))


def sent(
    knobs: Knobs, channel: str = "viber", phone: str = PHONES[0], said: str = "Hello"
) -> Exchange:
    """An exchange that was sent one message `m`."""
    exchange = Exchange(knobs, noting=True)
    text = {"type": "TEXT", "text": said} if channel == "viber" else {"text": said}
    webhooks = {"delivery": {"url": "d"}, "seen": {"url": "s"}}
    if channel == "sms":
        del webhooks["seen"]
    message = {
        "sender": "Shop",
        "destinations": [{"to": phone, "messageId": "m"}],
        "content": text,
        "webhooks": webhooks,
    }
    body = msgspec.json.encode({"messages": [message]})
    exchange.send(INFOBIP, INFOBIP.read_send(channel, body), NOW)
    return exchange


def kinds(pushes: list[Push]) -> list[str]:
    return [push.kind for push in pushes]


# --- who somebody is ---


def test_a_person_is_the_same_for_every_channel_and_message() -> None:
    knobs = replace(SURE, people=(READER, WITHOUT))
    for phone in PHONES[:50]:
        who = person_at(knobs.seed, knobs.people, phone)
        assert who == person_at(knobs.seed, knobs.people, phone)
        assert has_channel(knobs, "viber", phone) == (who.kind is READER)
        assert has_channel(knobs, "sms", phone)
        seen = {fate(knobs, CATALOGUE, "viber", f"m{n}", phone, None).seen_ms for n in range(5)}
        wanted = who.read_ms(READER.on["viber"]) if who.kind is READER else None
        assert seen == {wanted}


def test_another_seed_has_other_people_and_the_shares_stay() -> None:
    people = (READER, WITHOUT)
    one, other = ([person_at(seed, people, phone) for phone in PHONES] for seed in (1, 2))
    assert one != other
    assert 160 < Counter(person.kind.name for person in one)["reads"] < 240
    paces = {person.read_ms(READER.on["viber"]) for person in one}
    assert min(paces) < 20 < 80 < max(paces)


def test_without_habits_the_shares_decide() -> None:
    assert all(has_channel(Knobs(viber_share=1.0), "viber", phone) for phone in PHONES)
    assert not any(has_channel(Knobs(viber_share=0.0), "viber", phone) for phone in PHONES)
    drawn = [fate(Knobs(), CATALOGUE, "viber", f"m{n}", PHONES[n], None) for n in range(200)]
    assert all(one.clicked_ms is None and one.reply_ms is None for one in drawn)
    assert any(one.seen_ms is not None for one in drawn)


# --- what they do ---


def test_somebody_reads_clicks_and_writes_back() -> None:
    manner = Manner(read_ms_min=HOUR, read_ms_max=HOUR, clicks=1.0, reply="STOP")
    exchange = sent(knobs_for(manner))
    assert kinds(exchange.tick(NOW + HOUR)) == ["delivery"]
    pushes = exchange.tick(NOW + 2 * HOUR)
    assert kinds(pushes) == ["seen", "reply"]
    assert msgspec.json.decode(pushes[1].report)["message"]["text"] == "STOP"
    (click,) = exchange.book.clicks(0).clicks
    assert (click.message_id, click.channel, click.to) == ("m", "viber", PHONES[0])


def test_who_hides_it_reads_and_clicks_unseen() -> None:
    exchange = sent(knobs_for(Manner(hides=True, clicks=1.0)))
    assert kinds(exchange.tick(NOW + HOUR)) == ["delivery"]
    assert len(exchange.book.clicks(0).clicks) == 1
    assert not exchange.book.bill().messages["m"].seen


def test_an_sms_shows_no_seen_and_can_be_clicked() -> None:
    exchange = sent(knobs_for(Manner(clicks=1.0), "sms"), "sms")
    assert kinds(exchange.tick(NOW + HOUR)) == ["delivery"]
    assert len(exchange.book.clicks(0).clicks) == 1


@pytest.mark.parametrize("channel", ["viber", "sms"])
@pytest.mark.parametrize(
    ("said", "link"),
    [
        ("Hello", ""),
        ("Look (https://k.example/l/aB3dE6gH): it is new.", "https://k.example/l/aB3dE6gH"),
        ("http://a.example/x?y=1, http://b.example", "http://a.example/x?y=1"),
    ],
)
def test_a_click_says_which_link_was_followed(channel: str, said: str, link: str) -> None:
    exchange = sent(knobs_for(Manner(clicks=1.0), channel), channel, said=said)
    recalled = Recalled(Book())
    for line in exchange.take_notes():
        recalled.take(line)
    exchange.tick(NOW + HOUR)
    for line in exchange.take_notes():
        recalled.take(line)
    assert [click.link for click in exchange.book.clicks(0).clicks] == [link]
    assert recalled.book.clicks(0) == exchange.book.clicks(0)


def test_what_is_not_read_is_neither_clicked_nor_answered() -> None:
    exchange = sent(knobs_for(Manner(reads=0.0, clicks=1.0, reply="STOP")))
    assert kinds(exchange.tick(NOW + HOUR)) == ["delivery"]
    assert exchange.book.clicks(0).clicks == []


def test_what_is_not_delivered_is_not_clicked() -> None:
    knobs = replace(knobs_for(Manner(clicks=1.0)), viber_delivered=0.0)
    exchange = sent(knobs)
    exchange.tick(NOW + 100 * HOUR)
    assert exchange.book.clicks(0).clicks == []


def test_a_numbers_own_story_stands_over_its_persons_habits() -> None:
    habits = knobs_for(Manner(clicks=1.0, reply="STOP"))
    story = {"viber": {"ending": "delivered", "seen": False, "reply": "START"}}
    exchange = sent(changed(habits, {"by_phone": {PHONES[0]: story}}))
    pushes = exchange.tick(NOW + HOUR)
    assert kinds(pushes) == ["delivery", "reply"]
    assert msgspec.json.decode(pushes[1].report)["message"]["text"] == "START"
    undelivered = {"viber": {"ending": "undelivered"}}
    exchange = sent(changed(habits, {"by_phone": {PHONES[0]: undelivered}}))
    assert kinds(exchange.tick(NOW + HOUR)) == ["delivery"]
    assert exchange.book.clicks(0).clicks == []


def test_who_is_reached_by_its_story_does_what_it_usually_does() -> None:
    habits = replace(knobs_for(Manner(clicks=1.0)), viber_delivered=0.0)
    exchange = sent(changed(habits, {"by_phone": {PHONES[0]: {"viber": {"ending": "delivered"}}}}))
    assert kinds(exchange.tick(NOW + HOUR)) == ["delivery", "seen"]
    assert len(exchange.book.clicks(0).clicks) == 1


def test_a_durable_book_remembers_clicks_and_those_to_come() -> None:
    exchange = sent(knobs_for(Manner(read_ms_min=HOUR, read_ms_max=HOUR, clicks=1.0)))
    lines = exchange.take_notes()
    recalled = Recalled(Book())
    for line in lines:
        recalled.take(line)
    assert Kind.CLICK in {kind for _, kind in recalled.plans["m"]}
    exchange.tick(NOW + 2 * HOUR)
    for line in exchange.take_notes():
        recalled.take(line)
    assert recalled.book.clicks(0) == exchange.book.clicks(0)
    assert "m" not in recalled.plans or Kind.CLICK not in {k for _, k in recalled.plans["m"]}


def test_clicks_are_read_page_by_page() -> None:
    exchange = sent(knobs_for(Manner(clicks=1.0)))
    assert exchange.book.clicks(0).next_offset == 0
    exchange.tick(NOW + HOUR)
    page = exchange.book.clicks(0)
    assert isinstance(page.clicks[0], Click)
    assert page.next_offset == 1
    assert exchange.book.clicks(1).clicks == []
    exchange.clear()
    assert exchange.book.clicks(0).clicks == []


# --- how they are set ---


@pytest.mark.parametrize(
    ("people", "key"),
    [
        ([{"name": "a", "share": 0.9, "on": {}}], "people"),
        ([{"name": "a", "share": 1, "on": {"fax": {}}}], "people[0].on.fax"),
        (
            [{"name": "a", "share": 1, "on": {"sms": {"read_ms_min": 9, "read_ms_max": 1}}}],
            "people[0].on.sms.read_ms_min",
        ),
        ([{"name": "a", "share": 1, "on": {"sms": {"likes": 1}}}], "people[0].on[...]"),
    ],
)
def test_habits_that_cannot_be_are_refused_by_name(people: Any, key: str) -> None:
    with pytest.raises(KnobFault) as refused:
        changed(Knobs(), {"people": people})
    assert refused.value.key == key


def test_a_file_of_people_is_read() -> None:
    text = '[[people]]\nname = "a"\nshare = 1\non.viber = { reads = 0.5, hides = true }\n'
    assert read_people(text) == [People("a", 1, {"viber": Manner(reads=0.5, hides=True)})]


@pytest.mark.parametrize("text", ["people = 1", "[[people]]", "[[", '[[people]]\nname = "a"'])
def test_a_file_that_says_something_else_is_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_people(text)


def test_the_people_of_the_demo_are_an_audience() -> None:
    people = read_people((ROOT / "config/demo/people.toml").read_text())
    changed(Knobs(), {"people": msgspec.to_builtins(people)})
