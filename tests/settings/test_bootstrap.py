"""The shipped configuration becomes the core's and the store's values without loss."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.core.money.prices import PriceBook
from gateway.core.policy import nowhere
from gateway.settings import bootstrap
from gateway.settings.file import Settings, load, parse
from gateway.settings.price_file import PricesError

ENV = {
    "KASKAD_SHOP_KEY": "shop-key",
    "INFOBIP_API_KEY": "provider-key",
    "INFOBIP_CALLBACK_TOKEN": "callback-token",
}


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load(None, ENV)


def test_the_policy_holds_every_route_category_provider_and_cap(settings: Settings) -> None:
    policy = bootstrap.policy_of(settings, bootstrap.load_prices(settings))
    steps = policy.routes["viber-then-sms"]
    assert [(*s.providers, s.wait_ms, s.grace_ms) for s in steps] == [
        ("infobip-viber", 900_000, 10_000),
        ("infobip-sms", 86_400_000, 10_000),
    ]
    assert policy.categories["otp"].ttl_ms == 300_000
    assert {name: rule.when_away for name, rule in policy.categories.items()} == {
        "otp": "skip",
        "transactional": "wait",
        "marketing": "hold",
    }
    assert policy.categories["marketing"].route == "viber-then-sms"
    assert policy.providers["infobip-viber"].channel == "viber"
    assert policy.providers["infobip-viber"].can_look_up
    assert policy.providers["infobip-sms"].charged_on == "sent"
    assert policy.currency == "EUR"
    assert policy.dedupe_ms == 30 * 86_400_000


def test_what_smpp_sends_again_has_a_reference_of_its_own() -> None:
    """Its lost answers may come yet; nobody else's do."""
    text = (
        '[providers]\nsmsc = { kind = "smpp", host = "localhost", system_id = "k", sender = "A" }\n'
        'relay = { kind = "smtp", host = "localhost", tls = "none", from = "a@shop.example" }\n'
    )
    rules = bootstrap.policy_of(parse(text, Path("/k.toml"), {}), lambda *_: None)
    assert {name: rule.answers_late for name, rule in rules.providers.items()} == {
        "smsc": True,
        "relay": False,
    }


def test_a_category_that_is_not_configured_has_no_route_and_its_usual_time(
    settings: Settings,
) -> None:
    policy = bootstrap.policy_of(replace(settings, categories={}), lambda *_: None)
    assert {name: (rule.route, rule.ttl_ms) for name, rule in policy.categories.items()} == {
        "otp": ("", 300_000),
        "transactional": ("", 72 * 3_600_000),
        "marketing": ("", 72 * 3_600_000),
    }


def test_a_cap_on_any_channel_counts_every_channel_and_quotes_its_window(
    settings: Settings,
) -> None:
    by_name = {cap.name: cap for cap in bootstrap.caps_of(settings)}
    daily = by_name["one-marketing-a-day"]
    assert daily.channel is None
    assert (daily.window, daily.window_ms) == ("1d", 86_400_000)
    assert by_name["three-marketing-sms-a-week"].channel == "sms"


def test_slots_live_as_long_as_the_longest_window_that_counts_them(settings: Settings) -> None:
    policy = bootstrap.policy_of(settings, bootstrap.load_prices(settings))
    assert policy.slot_ms == {"marketing": 7 * 86_400_000, "otp": 3_600_000}


def test_quotes_come_from_the_configured_price_file(settings: Settings) -> None:
    policy = bootstrap.policy_of(settings, bootstrap.load_prices(settings))
    price = policy.quote("infobip-viber", "447700900123", "marketing", datetime.date(2026, 11, 21))
    assert price is not None
    assert (price.cost, price.sell, price.currency) == (12_000, 15_000, "EUR")


def test_a_networks_price_is_asked_for_where_the_list_has_any(settings: Settings) -> None:
    shipped = bootstrap.load_prices(settings)
    assert bootstrap.policy_of(settings, shipped).quote_network is nowhere
    row = replace(shipped.rows[0], mccmnc="25001", prefix="")
    asked = bootstrap.policy_of(settings, PriceBook((*shipped.rows, row))).quote_network
    day = datetime.date(2026, 11, 21)
    assert asked(row.provider, "25001", row.category or "otp", day) == row.price
    assert asked(row.provider, "25002", row.category or "otp", day) is None


def test_a_price_file_that_is_missing_is_named(settings: Settings, tmp_path: Path) -> None:
    elsewhere = replace(settings, prices=replace(settings.prices, file=tmp_path / "no-prices.csv"))
    with pytest.raises(PricesError, match=r"no-prices\.csv"):
        bootstrap.load_prices(elsewhere)


def test_every_provider_has_a_lane_a_category_and_the_most_urgent_comes_first(
    settings: Settings,
) -> None:
    assert bootstrap.lanes_of(settings) == [
        (provider, category)
        for provider in ("infobip-viber", "infobip-sms")
        for category in ("otp", "transactional", "marketing")
    ]


def test_a_former_name_is_known_everywhere_by_the_present_one(settings: Settings) -> None:
    viber = replace(settings.providers["infobip-viber"], was=("viber-old",), retired=True)
    changed = replace(settings, providers=settings.providers | {"infobip-viber": viber})
    policy = bootstrap.policy_of(changed, lambda *_: None)
    assert policy.present("viber-old") == policy.present("infobip-viber") == "infobip-viber"
    assert policy.names_of("infobip-viber") == ("infobip-viber", "viber-old")
    assert policy.provider("viber-old") == policy.providers["infobip-viber"]
    assert policy.provider("viber-old").retired
    assert ("viber-old", "otp") in bootstrap.lanes_of(changed)


def test_callbacks_are_proved_by_the_token_of_the_environment(settings: Settings) -> None:
    auths = bootstrap.callback_auths_of(settings)
    assert {auth.token for auth in auths.values()} == {"callback-token"}
    assert bootstrap.callback_readers_of(settings)["infobip-sms"].channel == "sms"


def test_retention_is_what_the_configuration_says(settings: Settings) -> None:
    retention = bootstrap.retention_of(settings)
    assert (retention.message_ms, retention.events_max) == (30 * 86_400_000, 100_000)


def test_every_value_of_the_policy_can_be_kept_in_a_record(settings: Settings) -> None:
    policy = bootstrap.policy_of(settings, bootstrap.load_prices(settings))
    for route in policy.routes.values():
        for step in route:
            assert type(step.wait_ms) is int
            assert type(step.grace_ms) is int
    for rule in policy.categories.values():
        assert type(rule.ttl_ms) is int
    for cap in policy.caps:
        assert type(cap.window_ms) is int
    assert type(policy.dedupe_ms) is int
    assert all(type(ms) is int for ms in policy.slot_ms.values())
