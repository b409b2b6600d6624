"""Several providers of a channel: what the file may say, and what the rules are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.core.policy import Policy
from gateway.settings import file as settings
from gateway.settings.bootstrap import policy_of
from gateway.settings.changes import taken_over
from gateway.settings.file import Settings, SettingsError

ENV = {"KEY": "k", "TOKEN": "callback-token"}
PROVIDER = """
[providers.{name}]
kind = "infobip-{channel}"
base_url = "http://127.0.0.1:1"
api_key_env = "KEY"
sender = "Shop"
callback_token_env = "TOKEN"
"""
VIBER, A, B, C = (
    PROVIDER.format(name=name, channel=channel)
    for name, channel in (("v", "viber"), ("a", "sms"), ("b", "sms"), ("c", "sms"))
)
ROUTE = """
[routes.r]
steps = [{ provider = "v" }, { channel = "sms" }]
"""
STEP = '{ channel = "sms" }'
SHARED = """
[channels.sms]
providers = [{ name = "a", weight = 70 }, { name = "b", weight = 30 }]
"""
TEXT = VIBER + A + B + SHARED + ROUTE


def read(text: str) -> Settings:
    return settings.parse(text, Path("/etc/kaskad/k.toml"), ENV)


def rules(read_file: Settings) -> Policy:
    return policy_of(read_file, lambda *_: None)


def shares(policy: Policy) -> dict[str, int]:
    """Of the route's second step."""
    return {name: policy.provider(name).weight for name in policy.routes["r"][1].providers}


def test_a_step_of_a_channel_has_the_providers_that_share_it() -> None:
    policy = rules(read(TEXT))
    assert [step.providers for step in policy.routes["r"]] == [("v",), ("a", "b")]
    assert shares(policy) == {"a": 70, "b": 30}
    assert policy.shared == {"sms"}


def test_without_a_table_every_provider_of_the_channel_shares_it_alike() -> None:
    for table in ("", "[channels.sms]"):
        assert shares(rules(read(VIBER + A + B + table + ROUTE))) == {"a": 1, "b": 1}


def test_a_weight_that_is_left_out_is_one() -> None:
    text = TEXT.replace(", weight = 30", "")
    assert shares(rules(read(text))) == {"a": 70, "b": 1}


def test_one_that_is_not_listed_is_sent_what_names_it_alone() -> None:
    text = TEXT + C + '[routes.c]\nsteps = [{ provider = "c" }]'
    policy = rules(read(text))
    assert shares(policy) == {"a": 70, "b": 30}
    assert policy.routes["c"][0].providers == ("c",)
    assert not policy.provider("c").shares
    assert policy.stands_in("a", ())
    assert not policy.stands_in("a", ("b",)), "it is sent nothing that another does not send"


def test_no_channel_is_shared_where_routes_name_providers() -> None:
    text = VIBER + A + B + ROUTE.replace(STEP, '{ provider = "a" }, { provider = "b" }')
    policy = rules(read(text))
    assert policy.shared == frozenset()
    assert not policy.stands_in("a", ())


def test_a_retired_provider_drops_out_of_the_shares() -> None:
    policy = rules(read(TEXT.replace(B, B + "retired = true\n")))
    assert policy.resolved["r"][1].sending == ("a",)
    assert not policy.stands_in("a", ())
    assert policy.stands_in("b", ())


def test_a_channel_whose_providers_are_all_retired_is_a_warning() -> None:
    text = A + "retired = true\n" + '[routes.r]\nsteps = [{ channel = "sms" }]'
    (warning,) = (w for w in read(text).warnings if w.startswith("routes"))
    assert "sends nothing" in warning


def test_what_a_channel_cannot_show_is_a_warning_of_its_step() -> None:
    text = TEXT.replace(STEP, '{ channel = "sms", until = "seen", react = "4h" }')
    told = [warning.split(" ")[0] for warning in read(text).warnings if "routes" in warning]
    assert told == ["routes.r.steps[1].until", "routes.r.steps[1].react"]


@pytest.mark.parametrize(
    ("old", "new", "key", "says"),
    [
        (STEP, "{ wait = '1s' }", "routes.r.steps[1]", "neither a provider nor a channel"),
        ("{ channel", '{ provider = "a", channel', "routes.r.steps[1]", "a provider and a chan"),
        ('channel = "sms"', 'channel = "fax"', "routes.r.steps[1].channel", "'fax', but there is"),
        ('channel = "sms"', 'channel = "push"', "routes.r.steps[1].channel", "no provider here"),
        (STEP, STEP + ', { provider = "b" }', "routes.r.steps", "2 times, by itself or by its"),
        (STEP, STEP + ", " + STEP, "routes.r.steps", "'b' 2 times"),
        ("channels.sms", "channels.fax", "channels.fax", "is no channel, but there is only"),
        ('name = "b"', 'name = "w"', "channels.sms.providers", "'w', but there is only a, b, v"),
        ('name = "b"', 'name = "v"', "channels.sms.providers", "'v', which sends viber"),
        ('name = "b"', 'name = "a"', "channels.sms.providers", "'a' 2 times"),
        ("weight = 30", "weight = 0", "channels.sms.providers[1].weight", ">= 1"),
        ("weight = 30", "weight = -1", "channels.sms.providers[1].weight", ">= 1"),
        ("weight = 30", "weight = 0.5", "channels.sms.providers[1].weight", "expected `int`"),
        ("weight = 30", "wieght = 30", "channels.sms.providers[1].wieght", "did you mean weight"),
        (SHARED, "[channels.sms]\nproviders = []", "channels.sms.providers", "is empty"),
    ],
)
def test_a_fault_names_its_key_and_says_what_to_do(old: str, new: str, key: str, says: str) -> None:
    assert old in TEXT
    with pytest.raises(SettingsError) as caught:
        read(TEXT.replace(old, new))
    found = {fault.key: fault.reason for fault in caught.value.faults}
    assert says in found[key]


def test_changed_weights_are_taken_over_at_once() -> None:
    after, waiting = taken_over(read(TEXT), read(TEXT.replace("weight = 30", "weight = 5")))
    assert waiting == []
    assert shares(rules(after)) == {"a": 70, "b": 5}


def test_a_channel_without_a_table_is_shared_by_those_that_run() -> None:
    text = VIBER + A + B + ROUTE
    after, waiting = taken_over(read(text), read(text + C))
    assert waiting == ["providers.c"]
    assert shares(rules(after)) == {"a": 1, "b": 1}


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace('{ name = "b", weight = 30 }', '{ name = "c" }') + C,
        TEXT.replace(STEP, '{ provider = "c" }') + C,
    ],
)
def test_a_share_of_one_that_is_not_running_waits_for_a_restart(text: str) -> None:
    before = read(TEXT)
    after, waiting = taken_over(before, read(text))
    assert {"providers.c"} < set(waiting)
    assert (after.channels, after.routes) == (before.channels, before.routes)
