"""The demo's pure parts: who is sent what, by which numbers, and what must equal what."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path
from random import Random

import msgspec
import pytest

from gateway.core import phones, segments
from gateway.core.money.days import day_of
from gateway.demo import campaign
from gateway.demo.audience import Audience
from gateway.demo.audit import against_answers, against_bill
from gateway.demo.campaign import CLUB, SHOP, Traffic, expand, read_templates
from gateway.demo.configuration import to_toml
from gateway.demo.numbers import RANGES, Numbers
from gateway.finance.question import Query
from gateway.finance.reports.report import Figures, Report, ReportLine
from gateway.ingress.api.messages import requests
from gateway.settings import bootstrap
from gateway.settings.file import load
from providers.simulator.book import Bill, ChannelBill

ROOT = Path(__file__).resolve().parents[2]
FILE = (ROOT / "config/demo/campaign.ndjson").read_bytes()
SECRETS = {"INFOBIP_API_KEY": "provider-key", "INFOBIP_CALLBACK_TOKEN": "callback-token"}
TODAY = day_of(1_795_000_000_000)


@pytest.fixture(scope="module")
def traffic() -> Traffic:
    return expand(read_templates(FILE), 2_000, seed=1)


def bodies(traffic: Traffic) -> list[dict[str, str]]:
    lines = [*traffic.posts, *(line for lines in traffic.streams.values() for line in lines)]
    return [msgspec.json.decode(line) for line in lines]


# --- the campaign file ---


def test_every_line_of_the_campaign_file_is_a_request_that_the_api_accepts() -> None:
    settings = load(None, SECRETS)
    policy = bootstrap.policy_of(settings, bootstrap.load_prices(settings))
    for line in FILE.splitlines():
        assert isinstance(requests.read(line, policy, "shop"), requests.ValidRequest), line.decode()


def test_the_campaign_has_russian_and_english_texts_of_one_to_three_parts() -> None:
    templates = read_templates(FILE)
    marketing = [t for t in templates if t["category"] == "marketing"]
    found = {(t["metadata"]["lang"], segments.parts(t["text"])) for t in marketing}
    assert found == {(lang, parts) for lang in ("ru", "en") for parts in (1, 2, 3)}
    assert {t["category"] for t in templates} == {"otp", "transactional", "marketing"}
    assert all(t["viber"]["text"] and t["viber"]["button"] for t in marketing)
    assert any("image_url" in t["viber"] for t in marketing)


# --- who is sent what ---


@pytest.mark.parametrize("messages", [1, 7, 2_000])
def test_there_are_exactly_as_many_messages_as_asked_for(messages: int) -> None:
    assert expand(read_templates(FILE), messages, seed=3).messages == messages


def test_the_same_seed_sends_the_same_and_another_one_does_not(traffic: Traffic) -> None:
    templates = read_templates(FILE)
    assert expand(templates, 2_000, seed=1) == traffic
    assert expand(templates, 2_000, seed=2) != traffic


def test_some_people_are_reached_for_twice_in_every_way(traffic: Traffic) -> None:
    marketing = [b for b in bodies(traffic) if b["category"] == "marketing"]
    same_phone = Counter((b["to"], b["campaign"]) for b in marketing)
    same_user = Counter((b["user"], b["campaign"]) for b in marketing)
    campaigns = Counter(to for to, _ in same_phone)
    by_app = {
        app: {(b["to"], b["campaign"]) for b in map(msgspec.json.decode, lines)}
        for app, lines in traffic.streams.items()
    }
    assert max(same_phone.values()) == 2
    assert max(same_user.values()) == 2
    assert len(same_phone) > len(same_user), "the same user id under another phone"
    assert max(campaigns.values()) == 2, "a second campaign on the same day"
    assert by_app[SHOP] & by_app[CLUB], "the same person over another app"
    assert traffic.opted_out
    assert traffic.silent


def test_a_code_is_another_one_for_each_person(traffic: Traffic) -> None:
    codes = [b["text"] for b in bodies(traffic) if b["category"] == "otp"]
    assert len(codes) > 40
    assert len(set(codes)) > len(codes) // 2


def test_nobody_gets_the_number_of_another_one() -> None:
    numbers = Numbers(Random(1))
    taken = [numbers.take("SE") for _ in range(200)]
    assert len(set(taken)) == 200
    assert sum(number.startswith("+46701740") for number in taken) == RANGES["SE"][0]


@pytest.mark.parametrize("country", list(RANGES))
def test_every_reserved_number_is_one_of_its_country(country: str) -> None:
    size, number = RANGES[country]
    for n in {0, size // 2, size - 1}:
        assert phones.parse(number(n)).country == country


def test_the_mix_adds_up_to_a_hundred() -> None:
    assert sum(campaign.SECONDS.values()) == 100


# --- what must equal what ---


def channel_bill(**changes: object) -> ChannelBill:
    shape: dict[str, object] = dict.fromkeys(ChannelBill.__struct_fields__, 0)
    shape |= {"channel": "sms", "currency": "EUR", "charge": "0"} | changes
    return msgspec.convert(shape, ChannelBill)


def by_channel(**figures: int) -> Report:
    lines = (ReportLine(("sms",), Figures(**figures)),)
    return Report(Query(TODAY, TODAY, ("channel",)), "EUR", lines, Figures(**figures))


def test_a_ledger_that_equals_the_bill_agrees_in_every_line() -> None:
    report = by_channel(sent=3, delivered=1, double_delivered=1, cost=120_000)
    bill = Bill(
        {"EUR": "0.12"},
        [channel_bill(messages=3, requests=3, accepted=3, delivered=2, charge="0.12")],
        {},
    )
    assert all(check.agrees for check in against_bill(report, bill))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"accepted": 4}, "SMS: messages taken"),
        ({"delivered": 3}, "SMS: delivered"),
        ({"charge": "0.120001"}, "SMS: charged, EUR"),
        ({"requests": 4}, "Sent twice"),
    ],
)
def test_a_difference_of_one_unit_is_found(changes: dict[str, object], what: str) -> None:
    report = by_channel(sent=3, delivered=2, cost=120_000)
    same = {"messages": 3, "requests": 3, "accepted": 3, "delivered": 2, "charge": "0.12"}
    checks = against_bill(report, Bill({}, [channel_bill(**(same | changes))], {}))
    assert [check.what for check in checks if not check.agrees] == [what]


def test_answers_and_events_are_counted_by_what_became_of_them() -> None:
    audience = Audience()
    for shape in (
        {"outcome": "accepted", "id": "a"},
        {"outcome": "accepted", "id": "b"},
        {"outcome": "duplicate", "id": "a"},
        {"outcome": "suppressed", "reason": "frequency_cap"},
        {"outcome": "suppressed", "reason": "opted_out"},
    ):
        audience.answer(shape)
    for id_, status, channel in (
        ("a", "sent", None),
        ("a", "delivered", "viber"),
        ("a", "seen", "viber"),
        ("b", "undelivered", None),
        ("b", "delivered", "sms"),
    ):
        audience.event({"id": id_, "status": status, "channel": channel})
    figures = audience.figures()
    assert (figures.answered, figures.accepted, figures.duplicates) == (5, 2, 1)
    assert (figures.capped, figures.opted_out, figures.rejected) == (1, 1, 0)
    assert (figures.delivered, figures.final) == ({"viber": 1, "sms": 1}, 2)
    checks = against_answers(Figures(accepted=2, duplicates=1, suppressed=1), figures)
    assert [check.what for check in checks if not check.agrees] == ["Suppressed"]


# --- the configuration it writes ---


def test_what_is_written_as_toml_is_read_back_unchanged() -> None:
    document = tomllib.loads((ROOT / "config/kaskad.toml").read_text())
    document["odd"] = {'a "b" \\ c': [True, False, -1, "é\\n"], "empty": {}}
    assert tomllib.loads(to_toml(document)) == document
