"""The acts of the demo: who plays in them, what they make of what they saw, and how it looks."""

from __future__ import annotations

import datetime
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from gateway.core.reactions.clickers import visitor_of
from gateway.demo import acts, cast
from gateway.demo.acts import Act, OwnOrder, OwnStep, PauseShown, Reactions, WayOutcome, Window
from gateway.demo.acts_view import drawn
from gateway.demo.campaign import expand, read_templates
from gateway.demo.configuration import DemoAddresses, read_additions, write
from gateway.demo.reach import Addressed, ReachShown, bodies, reach_of
from gateway.demo.visitors import PERSON, visits
from gateway.ingress.api.messages import requests
from gateway.settings import bootstrap
from gateway.settings.file import load
from providers.simulator import Manner, People, person_at, read_people
from providers.simulator.book import Click

ROOT = Path(__file__).resolve().parents[2]
PEOPLE = read_people((ROOT / "config/demo/people.toml").read_text())
TEMPLATES = read_templates((ROOT / "config/demo/campaign.ndjson").read_bytes())
ROUTE = ("viber", "sms")
ADDITIONS = read_additions(ROOT / "config/demo")


# --- who plays ---


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_cast_is_chosen_by_habits_among_people_who_get_nothing_else(seed: int) -> None:
    traffic = expand(TEMPLATES, 300, seed)
    chosen = cast.choose(traffic.spare, PEOPLE, seed, ROUTE)
    assert chosen is not None
    phones = [chosen.known, *chosen.reminded, *chosen.two_zones, *chosen.paused, *chosen.reached]
    expected = 1 + cast.REMINDED + 2 + cast.PAUSED + cast.REACHED
    assert len(set(phones)) == len(phones) == expected
    bodies = [*traffic.posts, *(line for lines in traffic.streams.values() for line in lines)]
    assert not set(phones) & {msgspec.json.decode(body)["to"] for body in bodies}
    on = person_at(seed, PEOPLE, chosen.known[1:]).kind.on
    assert (on["viber"].reads, on["sms"].clicks) == (0, 1)


@pytest.mark.parametrize(
    ("people", "route"),
    [
        (PEOPLE, ("sms",)),
        ([People("has no Viber", 1, {"sms": Manner(clicks=1)})], ROUTE),
        ([People("the same everywhere", 1, {"viber": Manner(), "sms": Manner()})], ROUTE),
    ],
    ids=["a route of one channel", "nobody has two", "nobody prefers the second"],
)
def test_without_anybody_to_show_there_is_no_cast(
    people: Sequence[People], route: tuple[str, ...]
) -> None:
    spare = expand(TEMPLATES, 1, seed=1).spare
    assert cast.choose(spare, people, 1, route) is None


@pytest.mark.parametrize("hour", range(24))
def test_somewhere_it_is_night_and_somewhere_day(hour: int) -> None:
    for month in (1, 7):
        now = datetime.datetime(2026, month, 15, hour, tzinfo=datetime.UTC)
        asleep, awake = (acts.clock(acts.zone_at(h, now), now) for h in (3, 15))
        assert "00:00" <= asleep < "08:00"
        assert "11:00" <= awake < "20:00"


# --- what they make of it ---


def message(seen: str | None, delivered: str | None, second: str | None) -> dict[str, Any]:
    steps = [{"delivered_at": delivered, "seen_at": seen}, {"sent_at": second}]
    return {"steps": steps}


@pytest.mark.parametrize(
    ("shape", "way"),
    [
        (message("t", "t", None), ("seen", False)),
        (message(None, "t", None), ("unseen", False)),
        (message(None, "t", "t"), ("unseen", True)),
        (message(None, None, "t"), ("unreached", True)),
    ],
)
def test_a_message_is_told_by_what_came_of_its_steps(
    shape: dict[str, Any], way: tuple[str, bool]
) -> None:
    assert acts.way_of(shape) == way


ACTS: list[tuple[Act, tuple[str, ...]]] = [
    (
        Reactions(
            ["viber", "sms"], [WayOutcome("seen", False, 7, 6), WayOutcome("unseen", True, 5, 0)]
        ),
        ("Seen on Viber: nothing more", "Not seen on Viber in time: SMS follows", "7"),
    ),
    (
        OwnOrder("+1", ["viber", "sms"], [OwnStep("sms", 5, 4, "0.1 a reaction")]),
        ("A person's own order: SMS", "where the route says Viber, then SMS", "0.1 a reaction"),
    ),
    (
        Window("A/B", "03:00", "2026-11-29T06:00:00Z", "09:00", "send_window", "C/D", "15:00", "x"),
        ("held until 09:00 (send_window)", "A/B", "C/D"),
    ),
    (PauseShown(30, 30, 0, 1.5, 29), ("30 held, 0 sent", "29 delivered after 1.5 s")),
    (
        ReachShown(
            [Addressed(["email", "phone"], 12, {"email": 9, "sms": 2}, 1, "0.0763")],
            {"email": "0.0043", "sms": "0.0720"},
            "0.0763",
            "EUR",
        ),
        ("One route over E-mail and SMS", "email, phone", "Cost, EUR", "0.0043", "0.0763"),
    ),
]


@pytest.mark.parametrize(("act", "words"), ACTS, ids=lambda value: type(value).__name__)
def test_an_act_says_what_was_to_be_seen(act: Act, words: tuple[str, ...]) -> None:
    paper = io.StringIO()
    console = Console(width=120, file=paper)
    for part in drawn(act):
        console.print(part)
    told = paper.getvalue()
    assert all(word in told for word in words), told


# --- one route over many channels ---


def test_each_has_fewer_addresses_than_the_one_before() -> None:
    told = list(bodies(ADDITIONS.message, ["+11", "+22", "+33", "+44"]))
    assert [list(body["to"]) for body in told] == [
        ["push", "email", "phone"],
        ["email", "phone"],
        ["phone"],
        ["push", "email", "phone"],
    ]
    assert [body["user"] for body in told] == ["+11", "+22", "+33", "+44"]
    assert told[1]["to"] == {"email": "22@people.example", "phone": "+22"}


def test_the_configuration_it_writes_takes_the_message_over_every_channel(tmp_path: Path) -> None:
    base = load(None, {}, secrets_required=False)
    places = DemoAddresses(8080, "http://127.0.0.1:8090", {"smtp": 8025, "smpp": 2775})
    made = write(tmp_path, base, ADDITIONS, places)
    shown = load(made, {}, secrets_required=False)
    names = [name for each in shown.providers.values() for _, name in each.variables()]
    names += [shown.archive.hash_key_env, *(app.key_env for app in shown.apps if app.key_env)]
    settings = load(made, {name: f"a-long-and-secret-value-of-{name}" for name in names})
    policy = bootstrap.policy_of(settings, bootstrap.load_prices(settings))
    for body in bodies(ADDITIONS.message, [f"+44770090000{n}" for n in range(3)]):
        read = requests.read(msgspec.json.encode(body), policy, "shop")
        assert isinstance(read, requests.ValidRequest), body
    route = settings.routes["demo-reach"]
    assert [settings.channel_of(step) for step in route.steps] == ["push", "email", *ROUTE]
    assert route.steps[-1].provider == "demo-smpp"
    assert (
        settings.providers["demo-smpp"].charged_on == settings.providers["infobip-sms"].charged_on
    )
    assert settings.senders(settings.routes["demo-best"].steps[-1]) == ("infobip-sms",)


def step(channel: str, delivered: str | None, cost: str | None) -> dict[str, Any]:
    return {"channel": channel, "delivered_at": delivered, "cost": cost}


def test_people_are_counted_by_their_addresses_and_where_they_were_reached() -> None:
    both, one = {"to": {"email": "a@b.example", "phone": "+1"}}, {"to": {"phone": "+2"}}
    messages = [
        {"steps": [step("email", None, "0.0004"), step("sms", "t", "0.04")]},
        {"steps": [step("sms", None, None)]},
        {"steps": [step("email", "t", "0.0004"), step("sms", None, None)]},
    ]
    assert reach_of([both, one, both], messages, "EUR") == ReachShown(
        people=[
            Addressed(["email", "phone"], 2, {"email": 1, "sms": 1}, 0, "0.0408"),
            Addressed(["phone"], 1, {"email": 0, "sms": 0}, 1, "0.0000"),
        ],
        costs={"email": "0.0008", "sms": "0.0400"},
        cost="0.0408",
        currency="EUR",
    )


# --- who follows the links ---


def test_programs_fetch_a_link_before_its_person_and_are_told_from_them() -> None:
    clicks = [Click(f"{n}.0", "sms", "1", 0, f"http://here/l/{n}") for n in range(2)]
    found = [(link[-1], headers is PERSON) for link, headers in visits(clicks)]
    assert found == [("0", False), ("0", False), ("0", True), ("1", False), ("1", True)]
    for _, headers in visits(clicks):
        sent = {name.lower().encode(): value.encode() for name, value in headers.items()}
        reason = visitor_of("GET", sent).reason
        assert (reason is None) == (headers is PERSON)
        assert reason in (None, "previewer", "scanner")
