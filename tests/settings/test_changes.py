"""A changed configuration: what is taken over at once, and what waits for a restart."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
import trio
from structlog.testing import capture_logs

from gateway.settings import changes
from gateway.settings import file as settings
from gateway.settings.bootstrap import (
    callback_auths_of,
    connect_provider,
    load_prices,
    policy_of,
    reconfigure_provider,
)
from gateway.settings.changes import LIVE_TABLES, Configuration, taken_over
from gateway.settings.file import Settings
from providers.http.client import HttpProvider

DOCS = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
ENV = {"KEY": "k", "NEW": "new-token", "OLD": "old-token", "SHOP": "shop-key", "BANK": "bank-key"}
TEXT = """
[server]
port = 8080
[[apps]]
name = "shop"
key_env = "SHOP"
[providers.viber]
kind = "infobip-viber"
base_url = "http://127.0.0.1:1"
api_key_env = "KEY"
sender = "Shop"
rate = "500/s"
callback_token_env = "OLD"
[routes.r]
steps = [{ provider = "viber", wait = "15m" }]
[categories.otp]
route = "r"
[[caps]]
name = "c"
limit = 2
window = "1d"
[[budgets]]
name = "b"
limit = "5.00"
window = "month"
[prices]
file = "prices.csv"
"""
DAY = datetime.date(2026, 11, 30)
PRICES = """provider,prefix,category,cost,sell,currency,valid_from
viber,,,0.0100,0.0125,EUR,2026-01-01
"""
SMS = TEXT[TEXT.index("[providers.viber]") : TEXT.index("[routes")].replace("viber", "sms")


def read(text: str) -> Settings:
    return settings.parse(text, Path("/etc/kaskad/k.toml"), ENV)


@pytest.mark.parametrize(
    ("old", "new", "taken"),
    [
        ('"500/s"', '"7/s"', lambda s: s.providers["viber"].rate_per_s == 7),
        ('"OLD"', '["NEW", "OLD"]', lambda s: callback_auths_of(s)["viber"].token == "new-token"),
        ('"15m"', '"1m"', lambda s: s.routes["r"].steps[0].wait_ms == 60_000),
        ('route = "r"', 'route = "r"\nttl = "1m"', lambda s: s.categories["otp"].ttl_ms == 60_000),
        ("limit = 2", "limit = 3", lambda s: s.caps[0].limit == 3),
        ('"5.00"', '"6.00"', lambda s: s.budgets[0].limit == 6_000_000),
        ('"prices.csv"', '"new.csv"', lambda s: s.prices.file.name == "new.csv"),
        ('"SHOP"', '"BANK"', lambda s: s.app_keys() == {"shop": "bank-key"}),
        ("[[apps]]", "[[apps]]\nname = 'b'\n[[apps]]", lambda s: len(s.apps) == 2),
    ],
)
def test_it_is_taken_over_at_once(old: str, new: str, taken: Callable[[Settings], bool]) -> None:
    running, waiting = taken_over(read(TEXT), read(TEXT.replace(old, new, 1)))
    assert taken(running)
    assert waiting == []


@pytest.mark.parametrize(
    ("old", "new", "keys"),
    [
        ("8080", "8080\nworkers = 2\nbacklog_max = 7", ["server.workers", "server.backlog_max"]),
        ('"Shop"', '"A"\ntimeout = "1s"', ["providers.viber.sender", "providers.viber.timeout"]),
        ('"infobip-viber"', '"infobip-sms"', ["providers.viber.kind"]),
        ('"Shop"', '"Shop"\nretired = true', ["providers.viber.retired"]),
        ("[routes.r]", SMS + "[routes.r]", ["providers.sms"]),
        ('file = "prices.csv"', 'baseline = "viber"', ["prices.baseline"]),
        ("[routes.r]", '[dedupe]\nwindow = "1d"\n[routes.r]', ["dedupe.window"]),
        ("[routes.r]", '[lanes]\nlease = "20s"\n[routes.r]', ["lanes.lease"]),
    ],
)  # fmt: skip
def test_it_waits_for_a_restart_and_is_named(old: str, new: str, keys: list[str]) -> None:
    before = read(TEXT)
    running, waiting = taken_over(before, read(TEXT.replace(old, new, 1)))
    assert waiting == keys
    assert running.server == before.server
    assert running.providers == before.providers
    assert (running.dedupe, running.lanes) == (before.dedupe, before.lanes)
    assert running.prices.baseline == before.prices.baseline


def test_the_page_names_what_is_taken_over() -> None:
    _, _, tables = DOCS.partition("| taken over at once |")
    listed = re.findall(r"`\[+(\w+)\]+`", tables.partition("| every other table |")[0])
    assert sorted(listed) == sorted(LIVE_TABLES)


def test_a_route_of_a_provider_that_is_not_running_waits_with_it() -> None:
    before = read(TEXT)
    text = TEXT.replace("[routes.r]", SMS + "[routes.r]").replace(
        '{ provider = "viber"', '{ provider = "sms" }, { provider = "viber"'
    )
    running, waiting = taken_over(before, read(text.replace("limit = 2", "limit = 3")))
    assert waiting == ["routes", "providers.sms"]
    assert (running.routes, running.caps[0].limit) == (before.routes, 3)


def test_a_provider_that_is_no_longer_in_the_file_keeps_what_it_runs_with() -> None:
    both = read(TEXT.replace("[routes.r]", SMS.replace("KEY", "BANK") + "[routes.r]"))
    running, waiting = taken_over(both, read(TEXT))
    assert waiting == ["providers.sms"]
    assert running.providers == both.providers
    assert running.secrets.get("BANK") == "bank-key"


def test_a_provider_that_is_renamed_is_priced_until_the_restart_with_its_new_name(
    tmp_path: Path,
) -> None:
    file, prices = tmp_path / "k.toml", tmp_path / "prices.csv"
    file.write_text(TEXT)
    prices.write_text(PRICES)
    first = settings.load(file, ENV)
    book = load_prices(first)
    held = Configuration(first, policy_of(first, book), lambda: settings.load(file, ENV), book)
    renamed = TEXT.replace("[providers.viber]", '[providers.chat]\nwas = ["viber"]')
    file.write_text(renamed.replace('provider = "viber"', 'provider = "chat"'))
    for cost in ("0.0200", "0.0300"):
        prices.write_text(PRICES.replace("viber,", "chat,").replace("0.0100", cost))
        assert held.take_over()
        assert [step.providers for step in held.policy.routes["r"]] == [("viber",)]
        priced = [held.policy.quote(name, "7916", "otp", DAY) for name in ("viber", "chat")]
        assert [price and f"{price.cost / 1e6:.4f}" for price in priced] == ["0.0100", cost]
    prices.write_text(PRICES.replace("0.0100", "0.0400"))  # the list has a row of it after all
    assert held.take_over()
    price = held.policy.quote("viber", "7916", "otp", DAY)
    assert price is not None
    assert price.cost == 40_000


def test_a_faulty_file_or_price_list_is_refused_with_every_fault_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, prices = tmp_path / "k.toml", tmp_path / "prices.csv"
    file.write_text(TEXT)
    prices.write_text(PRICES)
    first = settings.load(file, ENV)
    held = Configuration(
        first, policy_of(first, load_prices(first)), lambda: settings.load(file, ENV)
    )
    policy = held.policy
    with capture_logs() as logs, monkeypatch.context() as patch:
        patch.setattr(changes, "_log", structlog.get_logger())
        file.write_text(TEXT.replace("limit = 2", "limit = 0").replace('"500/s"', "500"))
        assert not held.take_over()
        assert [log["event"] for log in logs] == ["configuration_refused"] * 2
        file.write_text("")  # as an editor leaves it for a moment, and a full disk for longer
        assert not held.take_over()
        assert logs[-1]["fault"] == f"{file}: names no provider, and some run: write it."
        file.write_text(TEXT.replace("port = 8080", "port = " + "9" * 5_000))
        assert not held.take_over()
        assert "more digits than can be read" in logs[-1]["fault"]
        file.write_text(TEXT)
        prices.write_text(PRICES.replace("0.0100", "free"))
        assert not held.take_over()
        assert "prices.csv, line 2, cost" in logs[-1]["fault"]
        assert (held.settings, held.policy) == (first, policy)
        prices.write_text(PRICES.replace("0.0100", "0.0200"))
        file.write_text(TEXT.replace("limit = 2", "limit = 3") + 'baseline = "viber"\n')
        assert held.take_over()
        assert (logs[-1]["event"], logs[-1]["key"]) == ("needs_a_restart", "prices.baseline")
    assert (held.settings.caps[0].limit, held.settings.prices.baseline) == (3, "sms")
    assert held.policy.caps[0].limit == 3


def test_a_running_provider_is_told_of_its_rate_and_hands_the_new_token_out() -> None:
    async def main() -> None:
        provider = connect_provider(read(TEXT), "viber")
        changed = TEXT.replace('"500/s"', '"7/s"').replace('"OLD"', '["NEW", "OLD"]')
        reconfigure_provider(taken_over(read(TEXT), read(changed))[0], "viber", provider)
        assert isinstance(provider, HttpProvider)
        assert provider.config.rate_per_s == 7
        assert provider.config.callback_url.endswith("/v1/callbacks/viber?token=new-token")
        await provider.aclose()

    trio.run(main)
