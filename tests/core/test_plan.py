"""Which steps a message takes, and which it cannot."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.core.addresses import Addresses
from gateway.core.channels import EmailContent, Until, ViberContent
from gateway.core.effects import NOT_COMPARED
from gateway.core.money.prices import Price, PriceBook
from gateway.core.plan import Plan, Rejection, channels_without_text, plan
from gateway.core.policy import Policy, ProviderRule, RouteStep
from gateway.core.records.content import Content, content_with
from gateway.core.records.person import Person
from gateway.core.records.words import Importance
from gateway.settings.price_file import parse_prices
from providers.contract import FcmAddress, Subscription, SubscriptionKeys, WebPushAddress
from ratelimit.caps import Cap, Slot
from tests.worlds.cascade_world import DAY, MINUTE, PRICES, T0, World, policy, request

MAIL = Addresses(email="anna@shop.example")
SUBJECT = content_with("Hello", {"email": EmailContent(subject="Autumn")})
BOTH = Addresses("79161234567", "anna@shop.example")
BROWSER = WebPushAddress(Subscription("https://push.example/1", SubscriptionKeys("p", "a")))
FREE = Price(0, 0, "EUR")
PRICES_OF = PRICES | {
    "mail": Price(1_000, 2_000, "EUR"),
    "sms-2": Price(30_000, 60_000, "EUR"),
    **dict.fromkeys(("app", "tokens", "browsers"), FREE),
}


def rules(*steps: RouteStep, prices: dict[str, Price] | None = None, **changes: Any) -> Policy:
    base = policy(**changes)
    known = PRICES_OF if prices is None else prices
    return msgspec.structs.replace(
        base,
        routes=base.routes | {"reach": steps},
        providers=base.providers
        | {
            "mail": ProviderRule("email"),
            "sms-2": ProviderRule("sms"),
            "app": ProviderRule("push"),
            "tokens": ProviderRule("push", devices="fcm"),
            "browsers": ProviderRule("push", devices="webpush"),
        },
        quote=lambda provider, *_: known.get(provider),
    )


def step(*providers: str) -> RouteStep:
    return RouteStep(providers, 15 * MINUTE, 0)


def planned(policy: Policy, people: tuple[Person, ...] = (), **changes: Any) -> Plan:
    way = plan(request(route="reach", **changes), people, policy, T0)
    assert isinstance(way, Plan), way
    return way


def told(way: Plan) -> list[tuple[str, str | None]]:
    return [(s.channel, s.fault.code if s.fault is not None else None) for s in way.steps]


def test_a_step_without_an_address_is_skipped_where_another_can_run() -> None:
    way = planned(rules(step("mail"), step("sms")), content=SUBJECT)
    assert told(way) == [("email", "no_address"), ("sms", None)]
    assert (way.first, way.channel, way.lane("otp")) == (1, "sms", ("sms", "otp"))
    only_mail = planned(rules(step("sms"), step("mail")), content=SUBJECT, addresses=MAIL)
    assert told(only_mail) == [("sms", "no_address"), ("email", None)]


def test_a_step_is_for_providers_that_reach_a_device_of_the_person() -> None:
    token = Addresses("79161234567", push=(FcmAddress("token"),))
    both = Addresses("79161234567", push=(FcmAddress("token"), BROWSER))
    for steps, addresses, expected in (
        ((step("tokens", "browsers"),), token, ["tokens"]),
        ((step("tokens", "browsers"),), both, ["browsers", "tokens"]),
        ((step("tokens", "app"),), token, ["app", "tokens"]),
        ((step("app"),), token, ["app"]),
    ):
        way = planned(rules(*steps), addresses=addresses)
        assert sorted(c.provider for c in way.steps[0].candidates) == expected
        assert told(way) == [("push", None)]
    none = planned(rules(step("browsers"), step("sms")), addresses=token)
    assert told(none) == [("push", "no_address"), ("sms", None)]


def test_a_step_without_content_is_skipped_and_says_what_is_missing() -> None:
    way = planned(rules(step("mail"), step("sms")), addresses=BOTH, content=Content("Hello"))
    assert told(way) == [("email", "no_content"), ("sms", None)]
    assert way.steps[0].fault is not None
    assert way.steps[0].fault.name == "subject"
    html = content_with("", {"email": EmailContent(subject="Autumn", html="<p>Hello</p>")})
    assert told(planned(rules(step("mail"), step("sms")), addresses=BOTH, content=html)) == [
        ("email", None),
        ("sms", "no_content"),
    ]


def test_a_message_none_of_whose_steps_can_run_is_refused_at_its_addresses() -> None:
    token = Addresses(push=(FcmAddress("token"),))
    for addresses, content in ((token, SUBJECT), (MAIL, Content("Hello"))):
        asked = request(route="reach", addresses=addresses, content=content)
        refused = plan(asked, (), rules(step("mail"), step("sms")), T0)
        assert isinstance(refused, Rejection)
        assert refused.pointer == "/to"
        assert "sms: no address" in refused.detail


def test_a_candidate_without_a_price_is_left_out_and_a_step_without_any_too() -> None:
    no_viber = {name: price for name, price in PRICES_OF.items() if name != "viber"}
    way = planned(rules(step("viber"), step("sms", "sms-2"), prices=no_viber))
    assert told(way) == [("sms", None)]
    assert [c.provider for c in way.steps[0].candidates] == ["sms", "sms-2"]
    less = {name: price for name, price in PRICES_OF.items() if name != "sms"}
    second = planned(rules(step("sms", "sms-2"), prices=less)).steps[0]
    assert [(c.provider, c.cost) for c in second.candidates] == [("sms-2", 30_000)]
    assert second.sell == 60_000, "of the first in line that has a price"
    refused = plan(request(route="reach"), (), rules(step("sms"), step("viber"), prices={}), T0)
    assert isinstance(refused, Rejection)
    assert refused.pointer == "/to"
    assert "no price for sms, viber" in refused.detail


def test_a_provider_is_chosen_where_there_is_one_and_none_where_there_are_two() -> None:
    way = planned(rules(step("viber"), step("sms", "sms-2")))
    assert [s.provider for s in way.steps] == ["viber", None]
    assert way.steps[1].candidate.provider == "sms"


def test_the_plan_names_a_cap_that_stops_the_step_that_runs_first() -> None:
    cap = Cap("one-mail", 1, DAY, "1d", "marketing", "email")
    person = Person(slots=[Slot("another", T0, "marketing", "email")])
    limited = rules(step("sms"), step("mail"), caps=(cap,))
    mail = planned(limited, (person,), addresses=MAIL, content=SUBJECT)
    assert mail.full is not None
    assert mail.full.cap == cap
    assert planned(limited, (person,), addresses=BOTH, content=SUBJECT).full is None
    assert planned(limited, addresses=MAIL, content=SUBJECT).full is None


@pytest.mark.parametrize(
    ("addresses", "cost"), [(Addresses("79161234567"), 2_000), (BOTH, 2_000), (MAIL, 1_000)]
)
def test_a_message_without_a_phone_is_priced_by_the_empty_prefix_alone(
    addresses: Addresses, cost: int
) -> None:
    rows = "mail,,,0.001,0.002,EUR,2020-01-01\nmail,7,,0.002,0.003,EUR,2020-01-01\n"
    book: PriceBook = parse_prices(
        "provider,prefix,category,cost,sell,currency,valid_from\n"
        + rows
        + "sms,7,,0.04,0.05,EUR,2020-01-01\n",
        "EUR",
    )
    routed = msgspec.structs.replace(rules(step("mail"), step("sms")), quote=book.quote)
    way = plan(request(route="reach", addresses=addresses, content=SUBJECT), (), routed, T0)
    assert isinstance(way, Plan)
    by_channel = {s.channel: s.candidate.cost for s in way.steps}
    assert by_channel.get("email", 2_000) == cost
    assert ("sms" in by_channel) == (addresses.phone is not None)


def test_nothing_is_compared_with_the_baseline_without_a_phone() -> None:
    assert planned(rules(step("mail")), addresses=MAIL, content=SUBJECT).baseline_cost is None
    assert planned(rules(step("mail")), addresses=BOTH, content=SUBJECT).baseline_cost == 40_000
    world = World(rules(step("mail")), request(route="reach", addresses=MAIL, content=SUBJECT))
    world.send()
    world.report("delivered")
    sums = world.sums()
    assert (sums["cost"], sums[NOT_COMPARED], sums["sms_only_cost"]) == (1_000, 1_000, 0)


def test_another_baseline_is_what_its_channel_costs() -> None:
    other = msgspec.structs.replace(rules(step("sms")), baseline="viber")
    assert planned(other).baseline_cost == 5_000
    world = World(other, request(route="reach"))
    world.send()
    world.report("delivered")
    assert world.sums()["sms_only_cost"] == 5_000


def test_a_channels_own_words_are_kept_by_name_and_read_as_its_row_says() -> None:
    content = content_with("all", {"viber": ViberContent(image_url="https://shop.example/a.png")})
    assert content.of("viber") == ViberContent("all", "https://shop.example/a.png")
    assert (content.text_for("viber"), content.text_for("sms")) == ("all", "all")
    unknown = Content("all", {"pigeon": msgspec.Raw(b"\x80")})
    assert unknown.text_for("sms") == "all"


def test_the_cascade_passes_a_skipped_step_over() -> None:
    way = rules(step("viber"), step("mail"), step("sms"))
    world = World(way, request(route="reach", content=SUBJECT))
    assert world.statuses() == ["queued", "skipped", "planned"]
    world.send()
    world.report("expired")
    assert world.statuses() == ["expired", "skipped", "queued"]
    world.send()
    assert world.message.content == b"", "no later step can need it"
    world.report("undelivered")
    assert (world.message.closed, world.held()) == (True, False)


def test_a_retired_provider_is_no_candidate_and_its_step_is_left_out() -> None:
    viber_retired = retire(rules(step("viber"), step("sms", "sms-2")), "viber", "sms")
    way = planned(viber_retired)
    assert [[c.provider for c in s.candidates] for s in way.steps] == [["sms-2"]]


@pytest.mark.parametrize(
    ("importance", "codes"),
    [
        (Importance.LOW, [None, "importance"]),
        (Importance.NORMAL, [None, "importance"]),
        (Importance.HIGH, ["importance", None]),
    ],
)
def test_a_step_is_for_messages_of_the_importance_it_asks_for(
    importance: Importance, codes: list[str | None]
) -> None:
    worthless = msgspec.structs.replace(step("viber"), importance_max=Importance.NORMAL)
    dear = msgspec.structs.replace(step("sms"), importance=Importance.HIGH)
    way = planned(rules(worthless, dear), importance=importance)
    assert told(way) == list(zip(("viber", "sms"), codes, strict=True))
    refused = plan(request(route="reach", importance=Importance.LOW), (), rules(dear), T0)
    assert isinstance(refused, Rejection)
    assert refused.pointer == "/importance"


def test_a_text_is_asked_for_only_by_steps_that_the_importance_takes() -> None:
    dear = msgspec.structs.replace(step("sms"), importance=Importance.HIGH)
    content = content_with("", {"viber": ViberContent("Hello")})
    for importance, lacking in ((Importance.NORMAL, []), (Importance.HIGH, ["sms"])):
        both = rules(step("viber"), dear)
        assert lacking == channels_without_text(
            "marketing", "reach", importance, content, BOTH, both
        )


@pytest.mark.parametrize(
    ("provider", "asked", "shown", "react_ms"),
    [
        ("viber", "clicked", "seen", MINUTE),
        ("viber", "seen", "seen", MINUTE),
        ("sms", "seen", "delivered", 0),
        ("mail", "clicked", "clicked", MINUTE),
        ("viber", "delivered", "delivered", 0),
    ],
)
def test_where_a_channel_cannot_show_what_is_asked_the_next_lower_counts(
    provider: str, asked: Until, shown: Until, react_ms: int
) -> None:
    patient = msgspec.structs.replace(step(provider), until=asked, react_ms=MINUTE)
    (only,) = planned(rules(patient), addresses=BOTH, content=SUBJECT).steps
    assert (only.until, only.react_ms) == (shown, react_ms)


def test_a_route_whose_providers_are_all_retired_is_refused_and_says_so() -> None:
    refused = plan(request(route="reach"), (), retire(rules(step("viber")), "viber"), T0)
    assert refused == Rejection("/route", "Nothing is sent by route 'reach': viber is retired.")


@pytest.mark.parametrize("named", ["reach", None])
def test_a_refusal_names_the_route_also_where_the_category_does(named: str | None) -> None:
    known = rules(step("viber"))
    reach = {
        name: msgspec.structs.replace(rule, route="reach")
        for name, rule in known.categories.items()
    }
    known = msgspec.structs.replace(known, categories=reach)
    unpriced = msgspec.structs.replace(known, quote=lambda *_: None)
    asked = request(route=named)
    mailed = request(route=named, addresses=Addresses(email="anna@shop.example"))
    for one, by in ((mailed, known), (asked, retire(known, "viber")), (asked, unpriced)):
        refused = plan(one, (), by, T0)
        assert isinstance(refused, Rejection)
        assert "route 'reach'" in refused.detail


def retire(policy: Policy, *names: str) -> Policy:
    retired = {
        name: msgspec.structs.replace(policy.providers[name], retired=True) for name in names
    }
    return msgspec.structs.replace(policy, providers=policy.providers | retired)
