"""The configuration: what a file means, every fault at once, and the file and docs that show it."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.channels import priors
from gateway.core.people.stop_words import SHIPPED as SHIPPED_STOP
from gateway.core.policy import LearnedWait, ReachRule
from gateway.core.records.words import Importance
from gateway.errors import ConfigurationError
from gateway.settings import books_checks, tables
from gateway.settings import file as settings
from gateway.settings.bootstrap import budgets_of, policy_of
from gateway.settings.file import Settings, SettingsError
from gateway.settings.price_file import load_prices
from gateway.store.archive import closed
from providers.http.callback_proofs import BasicAuth, CallbackAuth, HmacAuth
from providers.http.settings import HttpSettings, http_config
from providers.notation import Duration, Memory, Rate
from providers.registry import KINDS

ROOT = Path(__file__).parents[2]
FILE = ROOT / "config" / "kaskad.toml"
SHIPPED = FILE.read_text()
DOCS = (ROOT / "docs" / "configuration.md").read_text()
SHOP_KEY = "key-of-the-shop-12345"
ENV = {
    "INFOBIP_API_KEY": "api-secret",
    "INFOBIP_CALLBACK_TOKEN": "to/ken&",
    "KASKAD_SHOP_KEY": SHOP_KEY,
}

# Only what the contract fixes, and of that only what has no default.
SMALL = """
[[apps]]
name = "shop"
key_env = "KASKAD_SHOP_KEY"
scopes = ["send"]
[providers.v]
kind = "infobip-viber"
base_url = "https://example.api.infobip.com/"
api_key_env = "INFOBIP_API_KEY"
sender = "Shop"
callback_token_env = "INFOBIP_CALLBACK_TOKEN"
[routes.r]
steps = [{ provider = "v" }]
[categories.marketing]
route = "r"
[categories.otp]
route = "r"
[[caps]]
name = "c"
limit = 2
window = "36h"
"""


def read(text: str, env: Mapping[str, str] = ENV, *, secrets_required: bool = True) -> Settings:
    path = Path("/etc/kaskad/k.toml")
    return settings.parse(text, path, env, secrets_required=secrets_required)


def faults(text: str, env: Mapping[str, str] = ENV) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        read(text, env)
    assert {fault.file for fault in caught.value.faults} == {"/etc/kaskad/k.toml"}
    return {fault.key: fault.reason for fault in caught.value.faults}


def with_provider(lines: str) -> str:
    return SMALL.replace('callback_token_env = "INFOBIP_CALLBACK_TOKEN"', lines)


def with_step(words: str) -> str:
    return SMALL.replace('{ provider = "v" }', f'{{ provider = "v", {words} }}')


def proofs(read_file: Settings) -> CallbackAuth:
    provider = read_file.providers["v"]
    assert isinstance(provider, HttpSettings)
    return provider.callback_auth(read_file.secrets.get)


# ---- what a file means ---------------------------------------------------------------------------


def test_a_file_with_contract_keys_alone_has_every_default() -> None:
    read_small = read(SMALL)
    assert read_small.server.public_url == "http://127.0.0.1:8080"
    assert read_small.redis.url == ""
    assert read_small.dedupe.window_ms == 30 * 86_400_000
    step = read_small.routes["r"].steps[0]
    assert (step.wait_ms, step.last_receipt_ms) == (86_400_000, 10_000)
    assert read_small.categories["otp"].ttl_ms == 300_000
    assert read_small.categories["marketing"].ttl_ms == 72 * 3_600_000
    assert set(read_small.categories) == {"otp", "marketing"}
    cap = read_small.caps[0]
    assert (cap.category, cap.channel, cap.window_ms, cap.window_ms.text) == (
        None,
        "any",
        36 * 3_600_000,
        "36h",
    )
    assert read_small.warnings == ()


def test_an_otp_ttl_that_is_set_stays() -> None:
    text = SMALL.replace(
        '[categories.otp]\nroute = "r"', '[categories.otp]\nroute = "r"\nttl = "1m"'
    )
    assert read(text).categories["otp"].ttl_ms == 60_000


def test_an_empty_file_is_a_configuration_that_serves_nobody() -> None:
    assert read("").providers == {}


def test_paths_are_relative_to_the_file() -> None:
    assert read("").redis.data_dir == Path("/etc/kaskad/.kaskad/redis")
    text = '[redis]\ndata_dir = "/var/lib/kaskad"\n[prices]\nfile = "eu/prices.csv"'
    assert read(text).redis.data_dir == Path("/var/lib/kaskad")
    assert read(text).prices.file == Path("/etc/kaskad/eu/prices.csv")


def test_the_environment_decides_which_redis() -> None:
    text = '[redis]\nurl = "redis://a"'
    assert read(text).redis.url == "redis://a"
    assert read(text, {"KASKAD_REDIS_URL": "rediss://b"}).redis.url == "rediss://b"
    assert read(text, {"KASKAD_REDIS_URL": ""}).redis.url == "redis://a"


@pytest.mark.parametrize(
    ("server", "url"),
    [
        ('host = "0.0.0.0"\nport = 81', "http://127.0.0.1:81"),
        ('host = "10.0.0.1"', "http://10.0.0.1:8080"),
        ('host = "::1"', "http://[::1]:8080"),
        ('public_url = "https://k.example.com/a/"', "https://k.example.com/a"),
    ],
)
def test_the_public_address_is_the_one_that_is_set_or_host_and_port(server: str, url: str) -> None:
    assert read(f"[server]\n{server}").server.public_url == url


def test_an_adapter_is_told_all_it_needs() -> None:
    config = http_config(read(SMALL).provider("v"))
    assert (config.name, config.kind, config.sender) == ("v", "infobip-viber", "Shop")
    assert config.base_url == "https://example.api.infobip.com"
    assert config.api_key == "api-secret"
    assert (config.rate_per_s, config.batch, config.timeout_ms) == (100, 100, 10_000)
    assert config.callback_url == "http://127.0.0.1:8080/v1/callbacks/v?token=to%2Fken%26"
    assert read(SMALL).channel("v") == "viber"
    assert read(SMALL.replace("infobip-viber", "infobip-sms")).channel("v") == "sms"


def test_a_callback_is_proved_by_any_configured_way() -> None:
    assert proofs(read(SMALL)) == CallbackAuth(token="to/ken&")
    text = with_provider(
        'callback_basic_user = "u"\ncallback_basic_password_env = "P"\n'
        'callback_hmac_secret_env = "S"\ncallback_hmac_header = "X-S"\n'
        'callback_hmac_algorithm = "sha1"\ncallback_hmac_encoding = "base64"'
    )
    both = read(text, {**ENV, "P": "pass", "S": "secret"})
    assert proofs(both) == CallbackAuth(
        basic=BasicAuth("u", "pass"), hmac=HmacAuth("secret", "X-S", "sha1", "base64")
    )
    assert http_config(both.provider("v")).callback_url == "http://127.0.0.1:8080/v1/callbacks/v"


def test_of_several_proofs_the_first_is_handed_out_and_each_is_taken() -> None:
    text = with_provider(
        'callback_token_env = ["NEW", "OLD"]\ncallback_basic_user = "u"\n'
        'callback_basic_password_env = ["NEW", "OLD", "OLDEST"]\n'
        'callback_hmac_secret_env = "NEW"\ncallback_hmac_header = "X-S"\n'
    )
    env = {**ENV, "NEW": "n", "OLD": "o", "OLDEST": "oldest"}
    assert proofs(read(text, env)) == CallbackAuth(
        BasicAuth("u", "n"),
        "n",
        HmacAuth("n", "X-S"),
        older=(
            CallbackAuth(BasicAuth("u", "o"), "o"),
            CallbackAuth(BasicAuth("u", "oldest")),
        ),
    )
    assert http_config(read(text, env).provider("v")).callback_url.endswith("?token=n")
    found = faults(text, {**ENV, "NEW": "n"})
    assert "OLD" in found["providers.v.callback_token_env"]
    empty = faults(with_provider("callback_token_env = []"))
    assert "length >= 1" in empty["providers.v.callback_token_env"]


def test_a_digest_says_whether_two_processes_read_the_same_file() -> None:
    same, other = read(SMALL), read(SMALL + "\n# A remark.\n")
    assert same.digest == read(SMALL, {**ENV, "KASKAD_REDIS_URL": "redis://other"}).digest
    assert same.digest != other.digest


def test_no_secret_is_ever_shown() -> None:
    shown = repr(read(SMALL, {**ENV, "KASKAD_REDIS_URL": "redis://:pass-word@h"}))
    assert "INFOBIP_API_KEY" in shown
    assert not [secret for secret in ("api-secret", "to/ken", "pass-word") if secret in shown]


# ---- secrets -------------------------------------------------------------------------------------


def test_a_provider_without_its_secret_is_a_fault_that_names_the_variable() -> None:
    found = faults(SMALL, {"INFOBIP_CALLBACK_TOKEN": ""})
    assert "INFOBIP_API_KEY" in found["providers.v.api_key_env"]
    assert "INFOBIP_CALLBACK_TOKEN" in found["providers.v.callback_token_env"]


@pytest.mark.parametrize("value", [f" {SHOP_KEY}", f"{SHOP_KEY} ", f"{SHOP_KEY}\u00a0\n"])
def test_a_key_with_spaces_at_its_ends_is_a_fault(value: str) -> None:
    found = faults(SMALL, ENV | {"KASKAD_SHOP_KEY": value})
    assert "spaces" in found["apps.shop.key_env"]
    assert SHOP_KEY not in str(found)


def test_a_country_that_is_none_is_a_fault() -> None:
    text = SMALL.replace('name = "shop"', 'name = "shop"\ncountries = ["RU", "Russia"]')
    assert "'Russia'" in faults(text)["apps[0].countries"]


def test_one_key_for_two_apps_is_a_fault() -> None:
    text = SMALL + '[[apps]]\nname = "bank"\nkey_env = "BANK_KEY"\n'
    assert "key of shop too" in faults(text, ENV | {"BANK_KEY": SHOP_KEY})["apps.bank.key_env"]
    assert read(text, ENV | {"BANK_KEY": SHOP_KEY[::-1]}).app_keys().keys() == {"shop", "bank"}


def test_a_command_that_reaches_no_provider_is_only_warned_about_secrets() -> None:
    lenient = read(SMALL, {}, secrets_required=False)
    assert any("INFOBIP_API_KEY" in warning for warning in lenient.warnings)
    assert http_config(lenient.provider("v")).api_key == ""
    assert proofs(lenient) == CallbackAuth()


def test_an_app_without_its_key_is_only_a_warning() -> None:
    assert read(SMALL).app_keys() == {"shop": SHOP_KEY}
    without = read(SMALL, {**ENV, "KASKAD_SHOP_KEY": ""})
    assert without.app_keys() == {}
    assert "KASKAD_SHOP_KEY" in without.warnings[0]


def test_a_line_break_at_the_end_of_a_secret_is_taken_off_and_told() -> None:
    read_so = read(SMALL, {**ENV, "KASKAD_SHOP_KEY": SHOP_KEY + "\r\n", "INFOBIP_API_KEY": "a\n"})
    assert read_so.app_keys() == {"shop": SHOP_KEY}
    assert read_so.secrets.get("INFOBIP_API_KEY") == "a"
    told = [warning.split()[0] for warning in read_so.warnings]
    assert told == ["KASKAD_SHOP_KEY", "INFOBIP_API_KEY"]
    assert SHOP_KEY not in "".join(read_so.warnings)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[[apps]]\nname = 'a'\nscopes = ['rule']", "apps[1].scopes[0]"),
        ("[routes.z]\nsteps = [{ provider = 'v', wait = 900 }]", "routes.z.steps[0].wait"),
        (
            "[send_windows.w]\nfrom = '09:00'\nto = '21:00'\ndays = ['Mon']",
            "send_windows.w.days[0]",
        ),
        ("[channels.viber]\nproviders = ['v']", "channels.viber.providers[0]"),
    ],
)
def test_a_list_that_cannot_be_read_is_not_also_called_empty(text: str, key: str) -> None:
    assert list(faults(f"{SMALL}\n{text}")) == [key]


@pytest.mark.parametrize(
    ("host", "warned"),
    [
        *(("127.0.0.1", 0), ("hooks.internal", 0), ("::1", 0), ("h\u00f6st.internal", 0)),
        *(("http://hooks.internal", 1), ("hooks.internal:80", 1), ("[::1]", 1)),
        *(("10.0.0.0/8", 1), ("Hooks.internal", 1), ("a b", 1)),
    ],
)
def test_a_host_of_webhooks_that_no_address_has_is_a_warning(host: str, warned: int) -> None:
    told = read(f'{SMALL}\n[webhooks]\nallow_hosts = ["{host}"]\n').warnings
    assert [w.startswith(f"webhooks.allow_hosts holds {host!r}") for w in told] == [True] * warned


@pytest.mark.parametrize(
    ("words", "warned"), [("[]", 0), ('["баста"]', 1), ('["баста", "Stop!"]', 0)]
)
def test_words_by_which_nobody_opts_out_with_stop_are_a_warning(words: str, warned: int) -> None:
    told = read(f"{SMALL}\n[optout]\nwords = {words}\n").warnings
    assert [w.split(":")[0] for w in told] == ["optout.words leaves out STOP"] * warned


def test_a_word_of_signs_alone_by_which_nobody_opts_out_is_a_warning() -> None:
    with_one = read(f'{SMALL}\n[optout]\nwords = ["🛑", "stop"]\n')
    assert [w.split(",")[0] for w in with_one.warnings] == ["optout.words holds '🛑'"]
    signs_alone = read(f'{SMALL}\n[optout]\nwords = ["🛑"]\n')
    assert [w.split(",")[0] for w in signs_alone.warnings] == ["optout.words holds '🛑'"]
    assert policy_of(signs_alone, lambda *_: None).stop_words == SHIPPED_STOP


@pytest.mark.parametrize(
    ("keep", "warned"),
    [
        ('url = "/archive"\nkeep = "59m"', 1),
        ('url = "/archive"\nkeep = "1h"', 0),
        ('keep = "1m"', 0),
    ],
)
def test_messages_that_leave_redis_sooner_than_the_archive_answers_are_a_warning(
    keep: str, warned: int
) -> None:
    told = read(f"{SMALL}\n[archive]\n{keep}\n", {**ENV, "KASKAD_ARCHIVE_KEY": "k" * 32}).warnings
    assert [w.split(":")[0] for w in told] == ["archive.keep is 3540 s"] * warned
    assert closed.ASKED_S * 1000 == books_checks.ARCHIVE_KEEP_MS


@pytest.mark.parametrize("url", ["s3://", "s3:///books", "gs://books", "://"])
def test_an_archive_that_is_neither_a_folder_nor_a_bucket_is_a_fault(url: str) -> None:
    text = f'{SMALL}\n[archive]\nurl = "{url}"\n'
    assert "archive.url" in faults(text, {**ENV, "KASKAD_ARCHIVE_KEY": "k" * 32})


def test_a_short_key_of_an_app_is_a_warning() -> None:
    (warning,) = read(SMALL, {**ENV, "KASKAD_SHOP_KEY": "nineteen-characters"}).warnings
    assert warning.startswith("apps.shop has a key of 19 characters in KASKAD_SHOP_KEY")
    assert "nineteen" not in warning


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://api.infobip.com", True),
        ("http://203.0.113.7", False),  # of documentation: no provider is there
        ("http://8.8.8.8:8080", True),
        ("https://api.infobip.com", False),
        ("http://127.0.0.1:8090", False),
        ("http://[::1]", False),
        ("http://10.1.2.3", False),
        ("http://localhost", False),
        ("http://simulator:8090", False),
    ],
)
def test_plain_http_to_a_provider_that_is_not_local_is_a_warning(url: str, warned: bool) -> None:
    text = re.sub(r'base_url = "[^"]*"', f'base_url = "{url}"', SMALL)
    assert text != SMALL or url in SMALL
    found = [w for w in read(text).warnings if w.startswith("providers.v.base_url ")]
    assert len(found) == warned


@pytest.mark.parametrize(
    ("server", "links", "warned"),
    [
        ("https://gw.example", "", False),
        ("http://gw.example", "", True),
        ("http://gw.example", "https://k.example", False),
        ("https://gw.example", "http://k.example", True),
        ("https://gw.example", "http://gateway:8080/l", False),
        ("https://gw.example", "http://192.168.1.7", False),
    ],
)
def test_links_by_plain_http_are_a_warning_but_on_the_own_network(
    server: str, links: str, warned: bool
) -> None:
    text = f'[server]\npublic_url = "{server}"\n[links]\nbase_url = "{links}"\n{SMALL}'
    found = [w for w in read(text).warnings if w.startswith("links.base_url ")]
    assert len(found) == warned


# ---- faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ("[server]\nprot = 1", "server.prot", "unknown key; did you mean port"),
        ("[sevrer]", "sevrer", "did you mean server"),
        ("zzzz = 1", "zzzz", "is an unknown key."),
        ("[redis]\nurl = 5", "redis.url", "expected `str`, got `int`"),
        ("server = 5", "server", "table"),
        ("apps = 5", "apps", "list"),
        ("providers = 5", "providers", "table"),
        ("categories = 5", "categories", "table"),
        ('[redis]\nfsync = "no"', "redis.fsync", '"always" or "everysec"'),
        ("[redis]\nshards = 0", "redis.shards", ">= 1"),
        ("[redis]\ndata_dir = ''", "redis.data_dir", "path"),
        ("[server]\nport = 65536", "server.port", "<= 65535"),
        ("[server]\nport = 0", "server.public_url", "port is 0"),
        ("[server]\nadmin_port = 8080", "server.admin_port", "is server.port"),
        ("[server]\ntrusted_proxies = ['x']", "server.trusted_proxies", "holds 'x'"),
        ("[server]\nport = true", "server.port", "expected `int`"),
        ('[server]\npublic_url = "k.example.com"', "server.public_url", "write an address"),
        ('[server]\npublic_url = "http://h:x"', "server.public_url", "write an address"),
        ('[server]\nidle_timeout = "0s"', "server.idle_timeout", "at least 1 ms"),
        ('[server]\nidle_timeout = 30', "server.idle_timeout", "no duration"),
        ('[prices]\ncurrency = "eur"', "prices.currency", "matching"),
        ("[archive]\nurl = 'file:///archive'", "archive.url", "s3://BUCKET/PREFIX"),
        ("[archive]\nurl = 's3://'", "archive.url", "s3://BUCKET/PREFIX"),
        ("[archive]\nurl = 's3:///prefix'", "archive.url", "s3://BUCKET/PREFIX"),
        ("[lanes]\nfloor_percent = 34", "lanes.floor_percent", "<= 33"),
        (
            '[prices]\nbaseline = "fax"',
            "prices.baseline",
            "names the channel 'fax', but there is only email, push, sms, viber.",
        ),
        ('[lanes]\nlease = "3s"', "lanes.lease", "2 times lanes.heartbeat"),
        ("[[apps]]\nscopes = ['send']", "apps[0].name", "is missing"),
        ("[[apps]]\nname = 'a'\nscopes = []", "apps[0].scopes", "is empty"),
        ("[[apps]]\nname = 'a'\nscopes = ['rule']", "apps[0].scopes[0]", '"report"'),
        ("[[apps]]\nname = 'a'\n[[apps]]\nname = 'a'", "apps", "2 entries named 'a'"),
        ("[[apps]]\nname = 'a b'", "apps", "letters"),
        ("[providers.'a/b']", "providers.a/b", "name that cannot be used"),
        ("[categories.sport]\nroute = 'r'", "categories.sport", "unknown key"),
        ("[categories.otp]\nroute = 'r'", "categories.otp.route", "there is none"),
        ("[routes.r]\nsteps = []", "routes.r.steps", "1 to 8"),
        ("[routes.r]\nsteps = [{ provider = 'x' }]", "routes.r.steps", "'x', but there is none"),
    ],
)  # fmt: skip
def test_a_fault_names_its_key_and_says_what_to_do(text: str, key: str, says: str) -> None:
    found = faults(text)
    assert says in found[key]


@pytest.mark.parametrize(
    ("old", "new", "key", "says"),
    [
        ('"infobip-viber"', '"viber"', "providers.v.kind", "infobip-sms, infobip-viber"),
        ("https://example", "ftp://example", "providers.v.base_url", "write an address"),
        ('sender = "Shop"', "", "providers.v.sender", "is missing"),
        ('sender = "Shop"', 'sender = "S"\nrate = "90/m"', "providers.v.rate", "whole number"),
        ('sender = "Shop"', 'sender = "S"\ntimeout = "1 s"', "providers.v.timeout", "no duration"),
        ('{ provider = "v" }', '{ provider = "w" }', "routes.r.steps", "'w', but there is only"),
        ('{ provider = "v" }', '{ provider = "v" }, { provider = "v" }', "routes.r.steps", "times"),
        ('"v" }', '"v", wait = "99ms" }', "routes.r.steps[0].wait", "at least 100 ms"),
        ('"v" }', '"v", pause = 1 }', "routes.r.steps[0].pause", "unknown"),
        ('{ provider = "v" }', '"w", { provider = "v" }', "routes.r.steps[0]", "a table"),
        ("limit = 2", "limit = 0", "caps[0].limit", ">= 1"),
        ('sender = "Shop"', 'sender = "S"\nwas = ["a b"]', "providers.v.was", "'a b'"),
        ('sender = "Shop"', 'sender = "S"\nwas = ["v"]', "providers.v.was", "'v', which is a prov"),
        ('sender = "Shop"', 'sender = "S"\nwas = ["u", "u"]', "providers.v.was", "one heir"),
        (
            "limit = 2",
            'limit = 2\nchannel = "fax"',
            "caps[0].channel",
            '"any", "viber", "sms", "email" or "push"',
        ),
        ("limit = 2", 'limit = 2\ncategory = "all"', "caps[0].category", '"marketing"'),
        ('"36h"', '"3650d1h"', "caps[0].window", "no duration"),
        ('"36h"', '"3651d"', "caps[0].window", "ten years"),
    ],
)  # fmt: skip
def test_a_fault_in_a_table_names_the_table(old: str, new: str, key: str, says: str) -> None:
    assert old in SMALL
    found = faults(SMALL.replace(old, new))
    assert says in found[key]
    assert len(found) == 1, "one fault causes no other"


@pytest.mark.parametrize(
    ("lines", "key", "says"),
    [
        ("", "providers.v", "callback_token_env, or callback_basic_user"),
        ('callback_basic_password_env = "P"', "providers.v.callback_basic_user", "is missing"),
        ('callback_hmac_secret_env = "P"', "providers.v.callback_hmac_header", "is missing"),
        (
            'callback_token_env = "P"\ncallback_basic_user = "u"',
            "providers.v.callback_basic_password_env",
            "is missing",
        ),
        (
            'callback_token_env = "P"\ncallback_hmac_header = "u"',
            "providers.v.callback_hmac_secret_env",
            "is missing",
        ),
        (
            'callback_basic_user = "a:b"\ncallback_basic_password_env = "P"',
            "providers.v.callback_basic_user",
            "colon",
        ),
    ],
)
def test_a_provider_needs_one_whole_proof_for_its_callbacks(
    lines: str, key: str, says: str
) -> None:
    found = faults(with_provider(lines), {**ENV, "P": "p"})
    assert says in found[key]
    assert len(found) == 1


def test_every_fault_is_told_at_once_and_each_is_a_line() -> None:
    text = SMALL.replace("limit", "limmit").replace('"Shop"', "7") + "[lanes]\nclaim_max = 0\n"
    with pytest.raises(ConfigurationError) as caught:
        read(text)
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert all(
        line.startswith("/etc/kaskad/k.toml: ") and line.endswith((".", "?")) for line in lines
    )
    for key in ("caps[0].limmit", "caps[0].limit", "providers.v.sender", "lanes.claim_max"):
        assert sum(f" {key} " in line for line in lines) == 1


def test_what_is_not_toml_says_where() -> None:
    assert "line 2" in faults("[server]\nport = = 1")[""]


def test_a_ttl_that_ends_before_the_last_step_could_start_is_a_warning() -> None:
    text = SMALL.replace('{ provider = "v" }', '{ provider = "v" }, { provider = "s" }')
    text += SMALL[SMALL.index("[providers.v]") : SMALL.index("[routes")].replace(".v]", ".s]")
    (warning,) = read(text).warnings
    assert warning.startswith("categories.otp")


def test_a_step_may_wait_for_a_reaction_and_ask_for_an_importance() -> None:
    words = 'until = "seen", react = "4h", importance_max = "normal"'
    read_file = read(with_step(words))
    assert read_file.warnings == ()
    (step,) = policy_of(read_file, lambda *_: None).routes["r"]
    assert (step.until, step.react_ms) == ("seen", 4 * 3_600_000)
    assert (step.importance, step.importance_max) == (Importance.LOW, Importance.NORMAL)


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ('until = "seen"', "routes.r.steps[0].react"),
        ('until = "read"', "routes.r.steps[0].until"),
        ('importance = "high", importance_max = "low"', "routes.r.steps[0].importance"),
        ('wait = "auto"', "routes.r.steps[0].wait_max"),
        ('wait = "auto", wait_max = "20s"', "routes.r.steps[0].wait_max"),
        ('wait = "5m", wait_max = "15m"', "routes.r.steps[0].wait_max"),
        ('wait_min = "15m"', "routes.r.steps[0].wait_min"),
        ('wait = "soon"', "routes.r.steps[0].wait"),
    ],
)
def test_a_step_that_waits_for_what_there_cannot_be_is_a_fault(words: str, key: str) -> None:
    assert set(faults(with_step(words))) == {key}


def test_a_wait_may_be_learned_within_bounds() -> None:
    words = 'wait = "auto", wait_max = "15m", wait_min = "1m"'
    (step,) = policy_of(read(with_step(words)), lambda *_: None).routes["r"]
    assert (step.wait_ms, step.grace_ms) == (900_000, 10_000)
    assert step.learned == LearnedWait(60_000, 900_000)
    words = 'wait = "auto", wait_max = "15m", grace = "2s"'
    policy = policy_of(read(with_step(words)), lambda *_: None)
    assert policy.routes["r"][0].learned == LearnedWait(30_000, 900_000, 2_000)
    assert policy.learning == {"v"}


def test_a_route_may_be_put_in_order_for_each_person() -> None:
    text = SMALL.replace("[routes.r]", '[routes.r]\norder = "best"\norder_by = "rate"')
    text += '[reach]\nforget = "7d"\nmetric = "any"\nprior = { sms = 0.5 }\n'
    policy = policy_of(read(text), lambda *_: None)
    assert policy.best == {"r": "rate"}
    assert policy.reach == ReachRule(
        7 * 86_400_000, metric="any", prior=priors() | {"sms": 500_000}
    )
    assert not policy_of(read(SMALL), lambda *_: None).counts
    assert set(faults(SMALL + "[reach]\nprior = { fax = 0.5 }\n")) == {"reach.prior.fax"}
    assert set(faults(SMALL + "[reach]\nprior = { sms = 1.5 }\n")) == {"reach.prior.sms"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ('until = "clicked", react = "4h"', ["routes.r.steps[0].until asks for clicked"]),
        ('react = "4h"', ["routes.r.steps[0].react is not used"]),
        ('until = "seen", react = "80h"', []),
    ],
)
def test_what_a_channel_cannot_show_is_a_warning(words: str, told: list[str]) -> None:
    text = with_step(words)
    warnings = read(text).warnings
    assert len(warnings) == len(told)
    assert all(map(str.startswith, warnings, told))


def test_every_channel_shows_clicks_of_tracked_links() -> None:
    (told,) = read(with_step('until = "clicked", react = "4h"')).warnings
    assert "tracked links alone: without one seen counts there" in told
    sms = SMALL.replace('kind = "infobip-viber"', 'kind = "infobip-sms"')
    step = '{ provider = "v", until = "clicked", react = "4h" }'
    (told,) = read(sms.replace('{ provider = "v" }', step)).warnings
    assert "tracked links alone: without one delivered counts there" in told


def test_a_reaction_that_is_awaited_beyond_the_ttl_is_a_warning() -> None:
    steps = '{ provider = "v", wait = "1s", until = "seen", react = "80h" }, { provider = "s" }'
    text = SMALL.replace('{ provider = "v" }', steps)
    text += SMALL[SMALL.index("[providers.v]") : SMALL.index("[routes")].replace(".v]", ".s]")
    told = read(text).warnings
    assert [each.split(":")[0] for each in told] == ["categories.marketing", "categories.otp"]
    assert all("want of a reaction" in each for each in told)


def test_a_route_whose_only_provider_is_retired_is_a_warning() -> None:
    text = SMALL.replace('sender = "Shop"', 'sender = "Shop"\nretired = true')
    (warning,) = read(text).warnings
    assert warning.startswith("routes.r sends nothing")


# ---- which file ----------------------------------------------------------------------------------


def test_the_named_file_comes_before_the_variable_and_that_before_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    named, variable = tmp_path / "a" / "named.toml", tmp_path / "variable.toml"
    named.parent.mkdir()
    named.write_text("[server]\nport = 1")
    variable.write_text("[server]\nport = 2")
    env = {**ENV, "KASKAD_CONFIG": str(variable)}
    assert settings.load(named, env).server.port == 1
    assert settings.load(None, env).server.port == 2
    assert settings.load(None, ENV).path == FILE
    assert settings.load(named, env).redis.data_dir == tmp_path / "a" / ".kaskad" / "redis"
    assert settings.load(None, ENV).redis.data_dir == tmp_path / ".kaskad" / "redis"


def test_a_file_is_read_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    """As an editor on Windows writes it."""
    digests = set()
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "k.toml").write_bytes(SMALL.replace("\n", "\r\n").encode(encoding))
        digests.add(settings.load(tmp_path / "k.toml", ENV).digest)
    assert len(digests) == 1


def test_of_a_file_that_claims_gigabytes_no_more_is_read_than_may_be_there(
    tmp_path: Path,
) -> None:
    path = tmp_path / "k.toml"
    path.touch()
    os.truncate(path, 1 << 42)
    with pytest.raises(SettingsError, match="is larger than 1048576 bytes"):
        settings.load(path, ENV)


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml: cannot be read"):
        settings.load(tmp_path / "none.toml", ENV)
    (tmp_path / "latin.toml").write_bytes(b"# \xff")
    with pytest.raises(SettingsError, match="UTF-8"):
        settings.load(tmp_path / "latin.toml", ENV)
    (tmp_path / "large.toml").write_text("#" * (settings.CONFIG_BYTES_MAX + 1))
    with pytest.raises(SettingsError, match="larger"):
        settings.load(tmp_path / "large.toml", ENV)


# ---- the shipped file and the documentation ------------------------------------------------------

TABLES: dict[str, type[msgspec.Struct]] = {
    "server": tables.Server,
    "redis": tables.Redis,
    "apps": tables.App,
    "providers": HttpSettings,
    "channels": tables.ChannelSettings,
    "routes": tables.Route,
    "categories": tables.CategorySettings,
    "send_windows": tables.SendWindowSettings,
    "caps": tables.CapSettings,
    "budgets": tables.BudgetSettings,
    "dedupe": tables.Dedupe,
    "reach": tables.Reach,
    "links": tables.LinkSettings,
    "optout": tables.OptOutSettings,
    "consent": tables.ConsentSettings,
    "conversions": tables.Conversions,
    "prices": tables.Prices,
    "retention": tables.RetentionSettings,
    "reports": tables.Reports,
    "archive": tables.ArchiveSettings,
    "webhooks": tables.WebhookSettings,
    "lanes": tables.Lanes,
    "log": tables.Log,
    "traces": tables.TraceSettings,
}


def keys() -> Iterator[tuple[str, msgspec.structs.FieldInfo]]:
    for name, kind in TABLES.items():
        fields = msgspec.structs.fields(kind)
        if name == "channels":
            fields = (*fields, *msgspec.structs.fields(tables.ShareSettings))
        if name == "reports":
            schedule = msgspec.structs.fields(tables.ScheduleSettings)
            fields = (*(field for field in fields if field.name != "schedule"), *schedule)
        if name == "routes":
            steps = msgspec.structs.fields(tables.StepSettings)
            fields = (*(field for field in fields if field.name != "steps"), *steps)
        for field in fields:
            yield name, field


def written(field: msgspec.structs.FieldInfo) -> str:
    """A field's default as a person writes it."""
    match field.default:
        case _ if field.required:
            return "required"
        case _ if field.default_factory is dict:
            return "`{}`"
        case None:
            return "none"
        case Duration() | Memory() as written:
            return f'`"{written.text}"`'
        case Rate() as rate:
            return f'`"{rate}/s"`'
        case bool() | int() | float() as number:
            return f"`{str(number).lower()}`"
        case tuple() as items:
            return (
                "`[" + ", ".join(str(i) if isinstance(i, int) else f'"{i}"' for i in items) + "]`"
            )
        case text:
            return f'`"{text}"`'


def section(text: str, name: str, heading: str) -> str:
    """Everything below the headings of a table, up to the next heading; a table that is shown and
    not in force has its heading in a comment."""
    heading = heading or "(?:# )?"
    found = re.findall(rf"(?ms)^{heading}\[+{name}\b.*?(?=^{heading}\[|^## |\Z)", text)
    assert found, name
    return "".join(found)


@pytest.mark.parametrize(
    ("table", "field"), [*keys()], ids=lambda value: getattr(value, "name", value)
)
def test_every_key_is_in_the_shipped_file_with_a_comment_and_in_the_docs_with_its_default(
    table: str, field: msgspec.structs.FieldInfo
) -> None:
    key = field.encode_name
    explained = rf"(?m)^(# )?{key} = .+? # \S|^ +# {key}: \S"
    assert re.search(explained, section(SHIPPED, table, "")), "explain it in config/kaskad.toml"
    row = f"| `{key}` | {written(field)} | "
    assert row in section(DOCS, table, "### `"), "list it in docs/configuration.md"


OWN_KEYS = [
    (name, field)
    for name, kind in KINDS.items()
    for field in msgspec.structs.fields(kind.settings)
    if field.encode_name not in {f.encode_name for f in msgspec.structs.fields(HttpSettings)}
]


@pytest.mark.parametrize(
    ("kind", "field"), OWN_KEYS, ids=lambda value: getattr(value, "name", value)
)
def test_every_key_of_one_kind_alone_is_in_the_docs(
    kind: str, field: msgspec.structs.FieldInfo
) -> None:
    (own,) = re.findall(rf"(?ms)^### `\[providers.NAME\]`, of kind `{kind}`$.*?(?=^#)", DOCS)
    assert f"\n| `{field.encode_name}` | " in own


def test_every_table_is_covered() -> None:
    assert set(TABLES) == set(tables.Document.__struct_fields__)
    documented = set(re.findall(r"(?m)^### `\[+(\w+)", DOCS))
    assert documented == set(TABLES)


def test_what_the_shipped_file_shows_as_a_default_is_the_default() -> None:
    optional = {field.encode_name for _, field in keys() if field.default is None}
    in_force = re.sub(r"(?ms)^# \[\[.*?(?=^\[)", "", SHIPPED)  # a table that is only shown has none
    uncommented = re.sub(
        r"(?m)^# (?=([a-z_]+) = )", lambda m: m[0] if m[1] in optional else "", in_force
    )
    assert len(tomllib.loads(uncommented)["server"]) == len(tables.Server.__struct_fields__)
    shown, plain = (settings.parse(text, FILE, ENV) for text in (uncommented, SHIPPED))
    for table in tables.Document.__struct_fields__:
        assert getattr(shown, table) == getattr(plain, table)


def test_the_shipped_configuration_is_sound_and_every_route_has_a_price_everywhere() -> None:
    shipped = settings.load(None, ENV)
    assert shipped.warnings == ()
    book = load_prices(shipped.prices.file, shipped.prices.currency)
    day = max(row.valid_from for row in book.rows)
    for provider in shipped.providers:
        for category in shipped.categories:
            price = book.quote(provider, "0", category, day)
            assert price is not None
            assert 0 < price.cost <= price.sell
    assert {row.provider for row in book.rows} == set(shipped.providers)


def test_viber_is_cheaper_than_sms_wherever_both_have_a_price() -> None:
    shipped = settings.load(None, ENV)
    book = load_prices(shipped.prices.file, shipped.prices.currency)
    day = max(row.valid_from for row in book.rows)
    for row in book.rows:
        for category in shipped.categories:
            viber = book.quote("infobip-viber", row.prefix, category, day)
            sms = book.quote("infobip-sms", row.prefix, category, day)
            assert viber is not None
            assert sms is not None
            assert viber.cost < sms.cost


BUDGET = """
[[budgets]]
name = "cap"
limit = "10.00"
window = "30d"
"""


def test_a_budget_is_read_as_it_is_written() -> None:
    text = SHIPPED + BUDGET + BUDGET.replace('"cap"', '"month"').replace("30d", "month")
    first, second = budgets_of(settings.parse(text, FILE, ENV))
    assert (first.limit, first.window_ms, first.window) == (10_000_000, 30 * 86_400_000, "30d")
    assert (first.then, first.warn) == ("hold", (80, 100))
    assert (second.window_ms, second.window) == (0, "month")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('limit = "0.00"', "budgets[0].limit '0.00' is no amount above zero"),
        ("limit = 10.0", "budgets[0].limit 10.0 is no amount above zero"),
        ('limit = "-1"', "budgets[0].limit '-1' is no amount above zero"),
        ('limit = "1.0000001"', 'text with at most six decimals, such as "500.00".'),
        ('window = "week"', "budgets[0].window 'week' is no duration"),
        ('window = "1ms"', "budgets[0].window is '1ms': at least 1000 ms are needed."),
        ('then = "stop"', "budgets[0].then is 'stop'"),
        ("warn = [0]", "budgets[0].warn"),
        ('app = "nobody"', "budgets[0].app names the app 'nobody', but there is only"),
        ('channel = "fax"', "budgets[0].channel names the channel 'fax', but there is only"),
        ('country = "Russia"', "budgets[0].country is 'Russia': write a country in two letters"),
        ('category = "spam"', "budgets[0].category is 'spam'"),
        ('campaign = " spring "', "budgets[0].campaign is ' spring ': write it as 'spring'"),
        ('name = "a b"', "budgets has an entry named 'a b'"),
    ],
)
def test_what_a_budget_cannot_be_is_told(line: str, told: str) -> None:
    key = line.partition(" ")[0]
    text = re.sub(rf"(?m)^{key} = .*\n", "", BUDGET) + line + "\n"
    with pytest.raises(SettingsError) as raised:
        settings.parse(SHIPPED + text, FILE, ENV)
    assert told in str(raised.value)


def test_two_budgets_of_one_name_are_a_fault() -> None:
    with pytest.raises(SettingsError, match="budgets has 2 entries named 'cap'"):
        settings.parse(SHIPPED + BUDGET + BUDGET, FILE, ENV)


# ---- durations and rates -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ms"),
    [("500ms", 500), ("10s", 10_000), ("15m", 900_000), ("24h", 86_400_000), ("30d", 2_592_000_000),
     ("0s", 0)],
)  # fmt: skip
def test_a_duration_is_milliseconds_and_keeps_its_text(text: str, ms: int) -> None:
    duration = Duration.parse(text)
    assert duration == ms
    assert duration.text == text


@pytest.mark.parametrize(
    "text", ["", "10", "s", "-1s", "1.5h", "1h30m", "10 s", "10S", "1w", "10s\n", 10, None, "٣s"]
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="no duration"):
        Duration.parse(text)


@given(st.integers(1, 1000))
def test_a_rate_is_the_same_in_every_unit(messages: int) -> None:
    units = (f"{messages}/s", f"{messages * 60}/m", f"{messages * 3600}/h")
    assert [Rate.parse(text) for text in units] == [messages] * 3


@pytest.mark.parametrize("text", ["0/s", "59/m", "90/m", "3601/h", "100001/s"])
def test_a_rate_that_is_not_whole_a_second_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a whole number of messages a second"):
        Rate.parse(text)


@pytest.mark.parametrize("text", ["500", "500/d", "/s", "-1/s", "1.5/s", "500 /s", 500])
def test_what_is_no_rate_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="no rate"):
        Rate.parse(text)
